"""Intervals of time: half-open, exact to the microsecond, in UTC.

`datetime` and `timedelta` calculate in whole microseconds, so nothing here is rounded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Self

from pydantic import AfterValidator, PlainSerializer


def in_utc(moment: datetime) -> datetime:
    """The same instant in UTC; one without an offset is taken to be in UTC.

    Raises:
        ValueError: there it is not between the years 1 and 9999.
    """
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment.isoformat()} is out of range") from error


def instant(text: str) -> datetime:
    """The instant that a date or RFC 3339 date-time names.

    Raises:
        ValueError: it names none between the years 1 and 9999.
    """
    return in_utc(datetime.fromisoformat(text.strip().upper()))


def rfc3339(moment: datetime) -> str:
    """The instant as text with `Z`, and with microseconds only when there are any."""
    return moment.isoformat().replace("+00:00", "Z")


Instant = Annotated[datetime, AfterValidator(in_utc), PlainSerializer(rfc3339, when_used="json")]
"""A field of a model that travels as RFC 3339 text."""

_Edge = tuple[int, datetime]
"""An instant, or infinity before (-1) or after (1) all of them; edges can be compared."""
_SOME = datetime.min.replace(tzinfo=UTC)
_AFTER_ALL: _Edge = (1, _SOME)


@dataclass(frozen=True)
class Interval:
    """The instants from `start` on and before `end`; None leaves a side open."""

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """An interval from `A/B`, where `..` leaves a side open.

        Raises:
            ValueError: it is none.
        """
        start, end = (None if side in ("", "..") else instant(side) for side in text.split("/"))
        return cls(start, end)

    @property
    def low(self) -> _Edge:
        """Where it begins."""
        return (0, self.start) if self.start else (-1, _SOME)

    @property
    def high(self) -> _Edge:
        """Where it ends."""
        return (0, self.end) if self.end else _AFTER_ALL

    @property
    def empty(self) -> bool:
        """Whether no instant lies in it."""
        return self.low >= self.high

    @property
    def everything(self) -> bool:
        """Whether it is open at both ends."""
        return self.start is None and self.end is None

    def __contains__(self, moment: datetime) -> bool:
        return self.low <= (0, moment) < self.high

    def clip(self, other: Self) -> Self:
        """What lies in both; empty where nothing does."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return type(self)(_moment(low), _moment(high))

    def cut(self, pieces: int, span: Self) -> list[Self]:
        """This interval in up to so many pieces, which divide `span` equally; the outermost reach to its own ends.

        Cuts are on whole seconds, so that a service that compares milliseconds loses nothing at them.
        """
        inside = self.clip(span)
        if inside.start is None or inside.end is None or inside.empty:
            return [self]
        length = inside.end - inside.start
        cuts = (inside.start + length * number // pieces for number in range(1, pieces))
        points = {cut.replace(microsecond=0) for cut in cuts}
        inner = sorted(point for point in points if point > inside.start)
        return [type(self)(start, end) for start, end in pairwise([self.start, *inner, self.end])]


def uncovered(whole: Interval, parts: Iterable[Interval]) -> list[Interval]:
    """What of an interval no part covers, in order."""
    gaps, reached = [], whole.low
    for part in sorted((part for part in parts if not part.empty), key=lambda part: part.low):
        if part.low > reached:
            gaps.append(Interval(_moment(reached), part.start))
        reached = max(reached, part.high)
    if reached < _AFTER_ALL:
        gaps.append(Interval(_moment(reached), None))
    return [gap for gap in map(whole.clip, gaps) if not gap.empty]


def tiles(whole: Interval, parts: Sequence[Interval]) -> bool:
    """Whether the parts cover an interval exactly: no gap, no overlap, nothing beyond it."""
    ordered = sorted((part for part in parts if not part.empty), key=lambda part: part.low)
    joints = [whole.low, *(edge for part in ordered for edge in (part.low, part.high)), whole.high]
    return all(one == other for one, other in zip(joints[::2], joints[1::2], strict=True))


def _moment(edge: _Edge) -> datetime | None:
    return edge[1] if edge[0] == 0 else None
