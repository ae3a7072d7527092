"""The fault matrix: every step meets every kind of fault, once, in a burst and beyond its patience.

A case has a name of its own, which the resources of its step bear, so that one stand-in carries the faults of all of
them. Steps are called as plain functions under their own retry policy; pauses between attempts take no time.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fault_cases import Case
from fault_report import Tally
from flow_runs import Site
from prefect import Task
from prefect.states import Failed

from spatiobatch.errors import SpatiobatchError
from tasks.clients import AzureClients
from tasks.environment import Environment
from tasks.failure import sentence_of

RETRY_AFTER_SECONDS = 7
READ_TIMEOUT_SECONDS = 0.25
_PATIENCE = {"role": 28, "download": 160}
"""Requests that one run of a step makes before it gives up, at least: four by the SDK in each of its attempts, and for
all files of a download. A spell that lasts ends after them, so that the step can be taken again."""
_PATIENCE_OF_MOST = 20
_LONGEST_PAUSE_SECONDS = 0.02
_MOST_RUNS = 7
"""Of one step until its fault is over: the SDKs do not repeat every call, so that a run may outlast few strikes."""

Step = tuple[str, "Callable[[Stage], Taken]"]
"""The requests that faults are aimed at, where `CASE` is the case's name, and how the step is taken."""


def fault(word: str) -> str:
    """A status or an action as `--fault` has it."""
    if word == "429":
        return f"status=429,retry_after={RETRY_AFTER_SECONDS}"
    return f"status={word}" if word.isdecimal() else f"action={word}"


def flags(cases: Iterable[Case], steps: Mapping[str, Step]) -> list[str]:
    """The stand-in's options for all cases of a table."""
    return [
        word
        for case in cases
        for what, times in case.faults(_PATIENCE.get(case.step, _PATIENCE_OF_MOST))
        for word in ("--fault", f"{steps[case.step][0].replace('CASE', case.name)},{fault(what)},times={times}")
    ]


def services(steps: Mapping[str, Step]) -> dict[str, str]:
    """Which service each step of a table calls."""
    return {name: aim.partition(",")[0].removeprefix("service=") for name, (aim, _) in steps.items()}


@dataclass(frozen=True)
class Taken:
    """A step that is about to be taken, and how to tell that its result is right."""

    step: Task[..., Any]
    arguments: tuple[Any, ...]
    right: Callable[[Any], bool]

    def take(self) -> Any:
        """The step's result under its own policy, as Prefect would apply it."""
        for attempt in count():
            try:
                return self.step.fn(*self.arguments)
            except Exception as error:
                again = self.step.retry_condition_fn
                if attempt == self.step.retries or not (again and again(self.step, None, Failed(data=error))):
                    raise
        raise AssertionError("the last attempt returns or raises")


@dataclass(frozen=True)
class Stage:
    """A provisioned site, seen by one case."""

    site: Site
    environment: Environment
    case: str
    read_timeout_seconds: float = 60
    world: Any = None
    """What the steps of a file have in common."""

    @property
    def azure(self) -> AzureClients:
        """Clients of their own for the case."""
        return self.with_()

    def with_(self, *named: str, **settings: Any) -> AzureClients:
        """Clients whose settings call these after the case."""
        names = dict.fromkeys(named, self.case)
        changed = self.site.azure.settings.with_(read_timeout_seconds=self.read_timeout_seconds, **names, **settings)
        return AzureClients(changed)


def sentence(error: Exception) -> str:
    """What the command line would say."""
    said = str(error) if isinstance(error, SpatiobatchError) else sentence_of(error)
    assert said, f"there is no sentence for {error!r}"
    return said


def strikes(log: Path, pattern: str) -> int:
    """How many faults the stand-in says to have struck where that was."""
    return len(re.findall(rf"local_azure\.faults struck .*{pattern}", log.read_text()))


def judge(taken: Taken, tally: Tally, struck: Callable[[], int]) -> list[str]:
    """Take a step; it comes to the right end or to one clear error, and once the fault is over to the right end.

    Returns what it said each time that it was refused.
    """
    refusals = list[str]()
    while True:
        try:
            result = taken.take()
            break
        except Exception as error:
            refusals.append(sentence(error))
            if len(refusals) == _MOST_RUNS:
                raise
    assert taken.right(result), result
    tally.ends("refused" if refusals else "survived", struck())
    return refusals


def judge_case(steps: Mapping[str, Step], case: Case, stage: Stage, tally: Tally) -> None:
    """Judge one case of a table: what lasts is told; all of what does not last has struck, and the step survived it."""
    aim, step = steps[case.step]
    seconds = READ_TIMEOUT_SECONDS if "hang" in case.kinds else stage.read_timeout_seconds
    seen = replace(stage, case=case.name, read_timeout_seconds=seconds)
    log = stage.site.record.parent / "azure.log"
    with stage.site.environment(), hurried() as pauses:
        refusals = judge(step(seen), tally, lambda: strikes(log, case.name))
    if case.spell == "lasting":
        assert refusals, "it was over before the step lost patience"
    else:
        assert (refusals, strikes(log, case.name)) == ([], sum(times for _, times in case.faults(0)))
    if "429" in case.kinds and "service=blob" not in aim:
        assert max(pauses) >= RETRY_AFTER_SECONDS


@contextmanager
def hurried(look_seconds: float = 0) -> Iterator[list[float]]:
    """Pauses take next to no time, unless they are no longer than those between two looks; yields their lengths."""
    pauses: list[float] = []
    sleep = time.sleep

    def hurry(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds if seconds <= look_seconds else min(seconds, _LONGEST_PAUSE_SECONDS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", hurry)
        yield pauses
