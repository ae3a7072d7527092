"""What a flow run takes beside Batch, with few shards and with many.

Batch's own time is when a task of the job was on a node, from the first one's start on, whatever the flow did
meanwhile. The rest of the flow run, as Prefect timed it, is ours: reading, submitting, waiting for nothing, publishing.
"""

from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

from benchmarks.harvests import Site, site
from benchmarks.results import Result

_FEW, _MANY = 10, 300
_SLOTS = 5
_REPEATS = 5
"""Of the harvest with few shards; one with many takes minutes, which are Batch's."""
_COLLECTION = "optical-scenes"
_MOST_TASK_RUNS = 25


def measure(folder: Path) -> list[Result]:
    """One collection in as many shards as there are slots by the settings; the stand-in gives no more than one node."""
    flags = ("--demo-items", "6000", "--nodes", "1", "--core-quota", "1000")
    settings = {"pool_task_slots": str(_SLOTS), "pool_nodes": "1", "pool_scaling": "fixed", "job_end": "terminate"}
    with site(folder, *flags, **settings) as there:
        few = [_rest(there, _FEW) for _ in range(_REPEATS)]
        seconds, task_runs = _rest(there, _MANY)
    usual = median(seconds for seconds, _ in few)
    return [
        Result(f"flow beside Batch, {_MANY} shards", seconds, f"{_FEW} shards", usual, "s", None, 1.2),
        Result("Prefect task runs of a flow run", task_runs, "limit", _MOST_TASK_RUNS, "", None, 1),
    ]


def _rest(there: Site, shards: int) -> tuple[float, int]:
    """Seconds of a flow run in which no task was on a node, and its task runs."""
    arguments = ("--content", "items", "--collection", _COLLECTION, "--requests-per-second", "1000")
    run = there.run("harvest", *arguments, pool_nodes=str(shards // _SLOTS))
    infos = [task.execution_info for task in there.tasks()]
    return run.seconds - _together([(info.start_time, info.end_time) for info in infos]).total_seconds(), run.task_runs


def _together(spans: list[tuple[datetime, datetime]]) -> timedelta:
    """How long at least one of some spans was going on."""
    passed, reached = timedelta(), min(start for start, _ in spans)
    for start, end in sorted(spans):
        passed += max(end - max(start, reached), timedelta())
        reached = max(reached, end)
    return passed
