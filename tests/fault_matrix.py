"""The fault matrix: every step meets every kind of fault, once, in a burst and beyond its patience.

A case has a name of its own, which the resources of its step bear, so that one stand-in carries the faults of all of
them. Steps are called as plain functions under their own retry policy; pauses between attempts take no time.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fault_report import Tally
from flow_runs import Site
from prefect import Task
from prefect.states import Failed

from spatiobatch.errors import SpatiobatchError
from spatiobatch.names import digest
from tasks.clients import AzureClients
from tasks.environment import Environment
from tasks.failure import sentence_of

RETRY_AFTER_SECONDS = 7
ANSWERS = ("status=500", "status=502", "status=503", "status=504")
KINDS: dict[str, tuple[str, ...]] = {
    "429": (f"status=429,retry_after={RETRY_AFTER_SECONDS}",),
    "5xx": ANSWERS[:1],
    "5xx-mixed": ANSWERS,
    "drop": ("action=drop",),
    "hang": ("action=hang",),
    "truncate": ("action=truncate",),
}
"""What a request meets; `5xx` is another status for each step."""
OFTEN = {"once": "1", "burst": "3", "lasting": "20"}
"""How often: the last is what a step tries at most (four times by the SDK in five attempts), and ends, so that the step
can be taken again afterwards."""
READ_TIMEOUT_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 0.02
_MOST_RUNS = 7
"""Of one step until its fault is over: the SDKs do not repeat every call, so that a run may outlast few strikes."""


@dataclass(frozen=True)
class Case:
    """One fault in one step."""

    step: str
    kind: str
    often: str
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the resources of this case are called; anything in Azure may be called so."""
        return f"f{digest(f'{self.step} {self.kind}', 14)}"

    def flags(self, aim: str) -> list[str]:
        """The stand-in's options that break the requests that `aim` tells, where `CASE` is this case's name."""
        struck = aim.replace("CASE", self.name)
        times = OFTEN[self.often]
        if self.kind == "429" and self.often == "lasting" and "service=blob" in aim:
            times = "5"  # the storage SDK itself does not ask again: blob storage throttles with 503
        return [word for fault in self.faults for word in ("--fault", f"{struck},{fault},times={times}")]

    def __str__(self) -> str:
        """For the test's name."""
        return f"{self.step}-{self.kind}-{self.often}"


def cases(steps: Sequence[str]) -> list[Case]:
    """Each step with each kind of fault; how often goes round, so that each step and each kind has all of it."""
    made = []
    for row, step in enumerate(steps):
        for column, (kind, faults) in enumerate(KINDS.items()):
            chosen = (ANSWERS[row % len(ANSWERS)],) if kind == "5xx" else faults
            often = "once" if len(chosen) > 1 else list(OFTEN)[(row + column) % len(OFTEN)]
            made.append(Case(step, kind, often, chosen))
    return made


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


def judge(taken: Taken, tally: Tally, struck: Callable[[], int]) -> None:
    """Take a step; it comes to the right end or to one clear error, and once the fault is over to the right end."""
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


def judge_case(
    steps: Mapping[str, tuple[str, Callable[[Stage], Taken]]], case: Case, stage: Stage, tally: Tally
) -> None:
    """Judge one case of a table: by step, the requests that its faults are aimed at, and how it is taken."""
    aim, step = steps[case.step]
    seconds = READ_TIMEOUT_SECONDS if case.kind == "hang" else stage.read_timeout_seconds
    seen = replace(stage, case=case.name, read_timeout_seconds=seconds)
    log = stage.site.record.parent / "azure.log"
    with stage.site.environment(), hurried() as pauses:
        judge(step(seen), tally, lambda: strikes(log, case.name))
    if case.kind == "429" and "service=blob" not in aim:
        assert max(pauses) >= RETRY_AFTER_SECONDS


@contextmanager
def hurried() -> Iterator[list[float]]:
    """Pauses take no time; yields how long they were meant to be."""
    pauses: list[float] = []
    sleep = time.sleep

    def hurry(seconds: float) -> None:
        pauses.append(seconds)
        sleep(min(seconds, _LONGEST_PAUSE_SECONDS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", hurry)
        yield pauses
