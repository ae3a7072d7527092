"""How well a harvest uses its request budget, and what others of the same GeoCatalog notice of it.

The GeoCatalog takes 50 calls a second. Everything is read from what it recorded. A second of a harvest is steady while
all task slots are occupied, two seconds after that began: the starts and the ends of rounds are not, tasks that end and
are followed by others are.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from benchmarks.harvests import Site, site
from benchmarks.paging import signed_in
from benchmarks.results import Result
from spatiobatch.settings import load_settings
from tasks.clients import AzureClients

_LIMIT = 50
_OTHER_CALLS_PER_SECOND = 10
_SLOTS = 4
_PAGE = ("--page-size", "20")
_ITEMS = 24_000
_SMALL = ("aerial-strips", "monthly-composites")
_FAULT = "service=geocatalog,path=/search,status=503,after=300,times=20"
_SETTLING_SECONDS = 2.0
_CHANGE_SECONDS = 1.0
"""Within which another task follows one that has ended."""
_LOOK_SECONDS = 3.0
"""Over which a pace is taken once it is to recover."""
_RECOVERY_SECONDS = 30.0
_OTHER = "another-client"


@dataclass(frozen=True)
class Call:
    """One call that the GeoCatalog answered."""

    time: float
    status: int
    other: bool
    """Whether it is the second client's."""


@dataclass(frozen=True)
class Phase:
    """What the GeoCatalog saw of a harvest."""

    budget: float
    calls: list[Call]
    occupied: list[tuple[float, float]]
    """When all task slots were."""
    lost: int

    @property
    def steady(self) -> float:
        """Calls per second while the harvest is steady."""
        spans = [(start + _SETTLING_SECONDS, end) for start, end in self.occupied if end - start > _SETTLING_SECONDS]
        inside = sum(start <= call.time < end for call in self.calls if not call.other for start, end in spans)
        return inside / sum(end - start for start, end in spans)

    def statuses(self, status: int, *, other: bool = False) -> list[float]:
        """When somebody was answered so."""
        return [call.time for call in self.calls if call.status == status and call.other == other]

    def pace(self, start: float, seconds: float) -> float:
        """Calls per second that the catalog saw from a moment on."""
        return sum(start <= call.time < start + seconds for call in self.calls) / seconds


def measure(folder: Path) -> list[Result]:
    """Half of the limit beside a second client, all of it, and a burst of refusals; the fault strikes the first."""
    flags = ("--demo-items", str(_ITEMS), "--geocatalog-rate", str(_LIMIT), "--nodes", "1", "--fault", _FAULT)
    settings = {"pool_nodes": "1", "pool_task_slots": str(_SLOTS), "pool_scaling": "fixed", "job_end": "terminate"}
    with site(folder, *flags, "--record", str(folder / "record.ndjson"), **settings) as there:
        burst = _phase(there, "burst", _LIMIT, _SMALL)
        with _second_client(there):
            half = _phase(there, "half", _LIMIT / 2, _SMALL)
        whole = _phase(there, "whole", _LIMIT)
    return [*_of_half(half), *_of_whole(whole), *_of_burst(burst), _of_losses(burst, half, whole)]


def _of_half(half: Phase) -> list[Result]:
    others = [call for call in half.calls if call.other]
    return [
        Result("fair use: half the limit", half.steady, "its budget", half.budget, "calls/s", 0.9, 1.05),
        Result("second client's 429", len(half.statuses(429, other=True)), "its calls", len(others), "calls", None, 0),
    ]


def _of_whole(whole: Phase) -> list[Result]:
    throttled = len(whole.statuses(429))
    return [
        Result("fair use: all of the limit", whole.steady, "its budget", whole.budget, "calls/s", 0.9, 1.05),
        Result("fair use: answered 429", throttled, "its calls", len(whole.calls), "calls", None, 0.02),
    ]


def _of_burst(burst: Phase) -> list[Result]:
    refused = burst.statuses(503)
    backed_off = _first(burst, refused[0], 1.0, lambda pace: pace <= burst.budget / 2) - refused[0]
    recovered = _first(burst, refused[-1], _LOOK_SECONDS, lambda pace: pace >= 0.9 * burst.budget) - refused[-1]
    return [
        Result(f"{len(refused)} answers 503: backs off in", backed_off, "limit", 2, "s", None, 1),
        Result("recovers from them in", recovered, "limit", _RECOVERY_SECONDS, "s", None, 1),
    ]


def _of_losses(*phases: Phase) -> Result:
    lost, calls = sum(phase.lost for phase in phases), sum(len(phase.calls) for phase in phases)
    return Result("fair use: items lost or repeated", lost, "calls in all", calls, "", None, 0)


def _first(phase: Phase, start: float, seconds: float, found: Callable[[float], bool]) -> float:
    """The first moment, in tenths of a second, from which the pace is as looked for; infinity where it never is."""
    tenths = range(int((phase.calls[-1].time - seconds - start) * 10))
    moments = (start + tenth / 10 for tenth in tenths)
    return next((moment for moment in moments if found(phase.pace(moment, seconds))), float("inf"))


def _phase(there: Site, name: str, calls_per_second: float, collections: tuple[str, ...] = ()) -> Phase:
    """Harvest items, and read what the GeoCatalog recorded meanwhile."""
    record, output = there.folder / "record.ndjson", there.folder / name
    narrowed = [word for collection in collections for word in ("--collection", collection)]
    begun = record.stat().st_size
    pace = ("--requests-per-second", str(calls_per_second))
    there.run("harvest", "--content", "items", *narrowed, *pace, *_PAGE, "--output", str(output))
    return Phase(calls_per_second, _recorded(record, begun), _occupied(there), there.lost(output, collections))


def _recorded(record: Path, begun: int) -> list[Call]:
    with record.open("rb") as lines:
        lines.seek(begun)
        calls = [call for call in map(json.loads, lines) if call["service"] == "geocatalog"]
    seen = (
        Call(datetime.fromisoformat(call["time"]).timestamp(), call["status"], call["headers"]["user-agent"] == _OTHER)
        for call in calls
    )
    return sorted(seen, key=lambda call: call.time)


def _occupied(there: Site) -> list[tuple[float, float]]:
    """When the item tasks of the last job occupied all slots; a change of tasks does not interrupt that."""
    changes = sorted(
        change
        for task in there.tasks()
        if task.id.startswith("items-")
        for change in ((task.execution_info.start_time, 1), (task.execution_info.end_time, -1))
    )
    spans: list[tuple[float, float]] = []
    running = 0
    for (moment, change), following in pairwise(changes):
        running += change
        if running == _SLOTS:
            start, end = moment.timestamp(), following[0].timestamp()
            near = bool(spans) and start - spans[-1][1] < _CHANGE_SECONDS
            spans = [*spans[:-1], (spans[-1][0], end)] if near else [*spans, (start, end)]
    return spans


@contextmanager
def _second_client(there: Site) -> Iterator[None]:
    """Somebody who asks for one item ten times a second, and never waits longer."""
    with there.environment():
        azure = AzureClients(load_settings())
        session, catalog = signed_in(azure), there.settings["LOCAL_AZURE_GEOCATALOG_URL"]
    session.headers["User-Agent"] = _OTHER
    address = f"{catalog}/stac/search?limit=1&api-version={azure.settings.geocatalog_api_version}"
    ended = threading.Event()

    def ask() -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            session.get(address, timeout=10)
            due = max(due + 1 / _OTHER_CALLS_PER_SECOND, time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()
