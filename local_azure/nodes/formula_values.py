"""What autoscale formulas compute with: numbers, vectors, moments, intervals and sampled metrics."""

import math
import operator
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Union

from local_azure.clock import parse_time

Value = Union[float, list[float], str, datetime, timedelta, "Metric"]


class FormulaError(Exception):
    """A formula that cannot be parsed or evaluated."""

    def __init__(self, message: str, code: str = "AutoScalingFormulaEvaluationError") -> None:
        super().__init__(message)
        self.code = code


class StopEvaluation(Exception):
    """The formula called `stop()`."""


@dataclass(frozen=True)
class Metric:
    """Samples of one service-defined variable, oldest first; as a plain value, the latest of them."""

    name: str
    samples: Sequence[tuple[datetime, float]]
    now: datetime
    period: timedelta

    def latest(self) -> float:
        """The last sample."""
        if not self.samples:
            raise self._missing()
        return self.samples[-1][1]

    def get_sample(self, arguments: list[Value]) -> list[float]:
        """`GetSample(count)`, or of a span of time with the percentage of samples that must be there."""
        if len(arguments) == 1 and isinstance(arguments[0], float):
            found = [value for _, value in self.samples[-int(arguments[0]) :]]
        else:
            required = arguments[-1] if isinstance(arguments[-1], float) else 0.0
            span: list[Value] = [argument for argument in arguments if not isinstance(argument, float)]
            found = self._within(span)
            if self.get_sample_percent(span) < required:
                raise self._missing()
        if not found:
            raise self._missing()
        return found

    def get_sample_percent(self, arguments: list[Value]) -> float:
        """How much of a span of time the samples cover."""
        start, end = self._span(arguments)
        expected = (end - start) / self.period
        return min(100.0, 100 * len(self._within(arguments)) / expected) if expected else 0.0

    def _within(self, arguments: list[Value]) -> list[float]:
        start, end = self._span(arguments)
        return [value for moment, value in self.samples if start <= moment <= end]

    def _span(self, arguments: list[Value]) -> tuple[datetime, datetime]:
        ends = [self.now - moment if isinstance(moment, timedelta) else moment for moment in arguments]
        moments = sorted(moment for moment in ends if isinstance(moment, datetime))
        return moments[0], moments[1] if len(moments) > 1 else self.now

    def _missing(self) -> FormulaError:
        return FormulaError(f"{self.name} has not enough samples", "InsufficientSampleData")


def number(value: Value) -> float:
    """A value where the language wants a double."""
    if isinstance(value, Metric):
        return value.latest()
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, int | float):
        return float(value)
    raise FormulaError(f"{value!r} is not a number")


def combine(apply: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    """A binary operator, component-wise where a vector takes part."""

    def combined(left: Value, right: Value) -> Value:
        left, right = _plain(left), _plain(right)
        if isinstance(left, list) and isinstance(right, list):
            return [float(apply(a, b)) for a, b in zip(left, right, strict=True)]
        if isinstance(left, list):
            return [float(apply(a, right)) for a in left]
        if isinstance(right, list):
            return [float(apply(left, b)) for b in right]
        result: Value = apply(left, right)
        return float(result) if isinstance(result, int) else result

    return combined


def negate(value: Value) -> Value:
    """Unary minus."""
    value = _plain(value)
    if isinstance(value, str | datetime | Metric):
        raise FormulaError(f"{value!r} has no negative")
    return [-component for component in value] if isinstance(value, list) else -value


def member(value: Value, name: str, arguments: list[Value] | None) -> Value:
    """`value.name`, or `value.name(arguments)`."""
    if isinstance(value, datetime) and arguments is None and name in _PARTS_OF_TIME:
        return float(_PARTS_OF_TIME[name](value))
    if isinstance(value, Metric) and arguments is not None and name in _METHODS:
        return _METHODS[name](value, arguments)
    raise FormulaError(f"there is no {name} here")


def _plain(value: Value) -> Value:
    return value.latest() if isinstance(value, Metric) else value


def _vector(arguments: list[Value]) -> list[float]:
    """A `doubleVecList` as one vector."""
    return [
        component
        for argument in arguments
        for component in (argument if isinstance(argument, list) else [number(argument)])
    ]


def _of_vector(function: Callable[[list[float]], float]) -> Callable[[list[Value]], Value]:
    return lambda arguments: float(function(_vector(arguments)))


def _each(function: Callable[[float], float]) -> Callable[[list[Value]], Value]:
    """A function of one double, or of each component of vectors."""

    def applied(arguments: list[Value]) -> Value:
        if len(arguments) == 1 and not isinstance(arguments[0], list):
            return float(function(number(arguments[0])))
        return [float(function(component)) for component in _vector(arguments)]

    return applied


def _percentile(arguments: list[Value]) -> Value:
    vector, rank = sorted(_vector(arguments[:-1])), number(arguments[-1])
    return vector[max(0, math.ceil(rank / 100 * len(vector)) - 1)]


def _time(arguments: list[Value]) -> Value:
    text = str(arguments[0]) if arguments else ""
    if not text:
        return datetime.now(UTC)
    return parse_time(text) if text[0].isdigit() else parsedate_to_datetime(text)


def _stop(arguments: list[Value]) -> Value:
    raise StopEvaluation


FUNCTIONS: dict[str, Callable[[list[Value]], Value]] = {
    "avg": _of_vector(statistics.fmean),
    "ceil": _each(math.ceil),
    "floor": _each(math.floor),
    "len": _of_vector(len),
    "lg": _each(math.log2),
    "ln": _each(math.log),
    "log": _each(math.log10),
    "max": _of_vector(max),
    "min": _of_vector(min),
    "norm": _of_vector(lambda vector: math.hypot(*vector)),
    "percentile": _percentile,
    "rand": lambda arguments: random.random(),  # noqa: S311  # the language's rand() guards nothing
    "range": _of_vector(lambda vector: max(vector) - min(vector)),
    "round": _each(lambda component: math.floor(component + 0.5)),
    "std": _of_vector(statistics.stdev),
    "stop": _stop,
    "sum": _of_vector(sum),
    "time": _time,
    "val": lambda arguments: _vector(arguments[:1])[int(number(arguments[1]))],
    "vec": _vector,
}

INTERVALS: dict[str, Value] = {
    "TimeInterval_Zero": timedelta(0),
    "TimeInterval_100ns": timedelta(microseconds=0.1),
    "TimeInterval_Microsecond": timedelta(microseconds=1),
    "TimeInterval_Millisecond": timedelta(milliseconds=1),
    "TimeInterval_Second": timedelta(seconds=1),
    "TimeInterval_Minute": timedelta(minutes=1),
    "TimeInterval_Hour": timedelta(hours=1),
    "TimeInterval_Day": timedelta(days=1),
    "TimeInterval_Week": timedelta(weeks=1),
    "TimeInterval_Year": timedelta(days=365),
}

DEALLOCATION_OPTIONS: dict[str, Value] = {
    name: name for name in ("requeue", "terminate", "taskcompletion", "retaineddata")
}

_PARTS_OF_TIME: dict[str, Callable[[datetime], int]] = {
    **{name: operator.attrgetter(name) for name in ("year", "month", "day", "hour", "minute", "second")},
    "weekday": lambda moment: moment.isoweekday() % 7,
}

_METHODS: dict[str, Callable[[Metric, list[Value]], Value]] = {
    "GetSample": Metric.get_sample,
    "GetSamplePercent": Metric.get_sample_percent,
    "GetSamplePeriod": lambda metric, arguments: metric.period,
    "Count": lambda metric, arguments: float(len(metric.samples)),
    "HistoryBeginTime": lambda metric, arguments: metric.samples[0][0],
}
