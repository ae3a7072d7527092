"""Autoscale of one pool: its samples, and what its formula makes of them.

https://learn.microsoft.com/azure/batch/batch-automatic-scaling

Differences from Azure: a sample every five seconds instead of thirty, without delay, and one at each
evaluation; task metrics count task slots; CPU, memory, disk and network are not measured, so asking for
their samples fails as it does on a pool without data; targets are cut to whole nodes.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from local_azure.clock import ticks
from local_azure.nodes.formula import Variables, evaluate, parse
from local_azure.nodes.formula_values import FormulaError, Metric, Value, number
from local_azure.store import Document

LONGEST_FORMULA = 8192
"""Characters of a formula."""
SAMPLE_PERIOD = timedelta(seconds=5)
_HISTORY = timedelta(hours=1)
_SAMPLED = (
    "$ActiveTasks",
    "$RunningTasks",
    "$PendingTasks",
    "$CurrentDedicatedNodes",
    "$CurrentLowPriorityNodes",
    "$PreemptedNodeCount",
    "$UsableNodeCount",
    "$SampleNodeCount",
)
_NOT_MEASURED = (
    "$CPUPercent",
    "$WallClockSeconds",
    "$MemoryBytes",
    "$DiskBytes",
    "$DiskReadBytes",
    "$DiskWriteBytes",
    "$DiskReadOps",
    "$DiskWriteOps",
    "$NetworkInBytes",
    "$NetworkOutBytes",
    "$SucceededTasks",
    "$FailedTasks",
)
_ALIASES = {"$TargetDedicated": "$TargetDedicatedNodes", "$TargetLowPriority": "$TargetLowPriorityNodes"}


@dataclass(frozen=True)
class Targets:
    """What a pool should have."""

    dedicated: int = 0
    spot: int = 0
    deallocation: str = "requeue"

    def at_least(self, other: "Targets") -> "Targets":
        """These, but no fewer nodes than the others."""
        return Targets(max(self.dedicated, other.dedicated), max(self.spot, other.spot), self.deallocation)


@dataclass(frozen=True)
class Evaluation:
    """One run of a formula."""

    targets: Targets
    results: str
    error: FormulaError | None = None

    def document(self, moment: datetime, time_property: str) -> Document:
        """The run as ARM (`evaluationTime`) or the data plane (`timestamp`) answers it."""
        run: Document = {time_property: ticks(moment), "results": self.results}
        if self.error:
            run["error"] = {"code": self.error.code, "message": str(self.error)}
        return run


def check_formula(formula: str) -> str | None:
    """What is wrong with the text of a formula, if anything."""
    try:
        parse(formula)
    except FormulaError as error:
        return str(error)
    return None


class Samples:
    """The metrics of one pool over the last hour."""

    def __init__(self) -> None:
        self._taken: deque[tuple[datetime, Mapping[str, float]]] = deque()

    def due(self, now: datetime) -> bool:
        """Whether the next sample should be taken."""
        return not self._taken or now - self._taken[-1][0] >= SAMPLE_PERIOD

    def take(self, now: datetime, values: Mapping[str, float]) -> None:
        """Remember a sample, and forget those that are too old."""
        self._taken.append((now, values))
        while now - self._taken[0][0] > _HISTORY:
            self._taken.popleft()

    def evaluate(
        self, formula: str, now: datetime, present: Mapping[str, float], targets: Targets, slots_per_node: int
    ) -> Evaluation:
        """Run a formula on the samples and the present values; where it fails, the targets stay as they are."""
        history = [*self._taken, (now, present)]
        variables: Variables = {
            "$TargetDedicatedNodes": float(targets.dedicated),
            "$TargetLowPriorityNodes": float(targets.spot),
            "$NodeDeallocationOption": targets.deallocation,
            "$TaskSlotsPerNode": float(slots_per_node),
            **{name: _metric(name, history, now) for name in (*_SAMPLED, *_NOT_MEASURED)},
        }
        try:
            assigned = evaluate(parse(formula), variables)
            found = _targets({**_settable(variables), **_settable(assigned)})
        except FormulaError as error:
            return Evaluation(targets, _shown(_settable(variables)), error)
        return Evaluation(found, _shown({**_settable(variables), **assigned}))


def _metric(name: str, history: Sequence[tuple[datetime, Mapping[str, float]]], now: datetime) -> Metric:
    samples = [(moment, values[name]) for moment, values in history if name in values]
    return Metric(name, samples, now, SAMPLE_PERIOD)


def _settable(variables: Variables) -> Variables:
    """The service-defined variables that a formula sets, under their full names."""
    full = {name: variables[alias] for alias, name in _ALIASES.items() if alias in variables}
    names = ("$TargetDedicatedNodes", "$TargetLowPriorityNodes", "$NodeDeallocationOption")
    return full | {name: variables[name] for name in names if name in variables}


def _targets(variables: Variables) -> Targets:
    return Targets(
        max(0, int(number(variables["$TargetDedicatedNodes"]))),
        max(0, int(number(variables["$TargetLowPriorityNodes"]))),
        str(variables["$NodeDeallocationOption"]),
    )


def _shown(variables: Variables) -> str:
    return ";".join(f"{name}={_text(value)}" for name, value in variables.items())


def _text(value: Value) -> str:
    match value:
        case float():
            return f"{value:.10g}"
        case list():
            return "[" + ",".join(_text(component) for component in value) + "]"
        case datetime():
            return ticks(value)
        case Metric():
            return _text(value.latest())
        case _:
            return str(value)
