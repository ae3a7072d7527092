"""Shards: the parts of an item harvest that nodes work on, each a collection and a half-open interval.

There is one rule for the first round, the next ones, a resumed harvest and a retry: what no receipt covers is owed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, JsonValue, computed_field

from spatiobatch.intervals import Instant, Interval, instant, rfc3339, uncovered
from spatiobatch.names import digest
from spatiobatch.query import Box, Query
from spatiobatch.receipts import Receipt, total, without_overlaps


class Verify(StrEnum):
    """How the completeness of a shard is checked."""

    ids = "ids"
    none = "none"


class Shard(BaseModel):
    """What one Batch task harvests; travels to its node as JSON."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    collection: str
    start: Instant | None = None
    end: Instant | None = None
    undated: bool = False
    """The items without any date, instead of an interval."""
    page_size: int
    page_quota: int
    """Pages after which the task stops and hands back what is left."""
    bbox: Box | None = None
    filter: JsonValue = None
    """CQL2 in its JSON form."""
    verify: Verify
    harvest_started: Instant
    max_items: int | None = None

    @property
    def interval(self) -> Interval:
        """What it is asked to cover."""
        return Interval(self.start, self.end)

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties; pydantic documents this one
    @property
    def name(self) -> str:
        """The same for the same part of a collection."""
        ends = (rfc3339(end) if end else ".." for end in (self.start, self.end))
        return digest("|".join((self.collection, *ends, str(self.undated).lower())), 16)


class _Gap(NamedTuple):
    """Something that no receipt covers."""

    collection: str
    interval: Interval
    undated: bool = False


@dataclass(frozen=True)
class Plan:
    """What an item harvest has to cover, and how it is cut."""

    query: Query
    extents: Mapping[str, Interval | None]
    """The temporal extent of each collection that is asked for; a hint where to cut, never trusted to be right."""
    started: datetime
    parallel: int
    """Tasks that can run at once."""
    page_quota: int = 50
    """Pages after which a task of the first round stops; in later rounds, as many as a slot has read so far."""
    verify: Verify = Verify.ids
    changed: Mapping[str, JsonValue] = field(default_factory=dict)
    """By collection, the CQL2 condition of the items that changed, where only these are asked for."""
    max_items: int | None = None
    """End the harvest after so many items; the shards are then harvested one after the other."""

    @classmethod
    def of(cls, collections: Iterable[Mapping[str, Any]], query: Query, started: datetime, **how: Any) -> Self:
        """The plan for the collections that a catalog answered with."""
        extents = {str(collection["id"]): extent(collection, started) for collection in collections}
        return cls(query, extents, started, **how)

    @cached_property
    def line(self) -> Interval:
        """What is harvested of every collection."""
        return Interval.parse(self.query.datetime) if self.query.datetime else Interval()

    def owed(self, receipts: Sequence[Receipt], submitted: Iterable[Shard] = ()) -> list[Shard]:
        """What no receipt covers, cut so that all slots have work; nothing when the harvest is done.

        Args:
            receipts: all that there are.
            submitted: the shards of the last round. Those without a receipt stay as they are, under their names.
        """
        answered = {receipt.name for receipt in receipts}
        kept = [shard for shard in submitted if shard.name not in answered]
        counted = self.counted(receipts)
        gaps = [gap for collection in self.extents for gap in self._gaps(collection, counted, kept)]
        there = {receipt.name for receipt in counted} | {shard.name for shard in kept}
        slots = self.parallel if self.max_items is None else 1
        quota = max(self.page_quota, total(counted).pages // self.parallel)
        cut = [shard for gap in gaps for shard in self._cut(gap, -(-slots // len(gaps)), quota)]
        shards = kept + [shard for shard in cut if shard.name not in there]
        return shards if self.max_items is None else _first(shards, self.max_items - total(counted).items)

    def doubtful(self, receipts: Sequence[Receipt]) -> list[Shard]:
        """The shards that are worth a second harvest: two looks at their ids differ, and nothing explains it."""
        if self.max_items is not None:
            return []
        return [self._again(receipt) for receipt in self.counted(receipts) if total([receipt]).unsettled]

    def _again(self, receipt: Receipt) -> Shard:
        end = receipt.remainder.end if receipt.remainder else receipt.end
        quota = max(self.page_quota, receipt.pages)
        return self._shard(receipt.collection, Interval(receipt.start, end), quota, undated=receipt.undated)

    def counted(self, receipts: Iterable[Receipt]) -> list[Receipt]:
        """The receipts that the harvest consists of: of its collections, each instant once."""
        of: dict[str, list[Receipt]] = {collection: [] for collection in self.extents}
        for receipt in receipts:
            if receipt.collection in of:
                of[receipt.collection].append(receipt)
        return [receipt for part in of.values() for receipt in without_overlaps(part)]

    def _gaps(self, collection: str, counted: list[Receipt], kept: list[Shard]) -> list[_Gap]:
        """What is uncovered of a collection: parts of its line, and its undated items where that is in parts."""
        done = [(part.undated, part.covered) for part in counted if part.collection == collection]
        done += [(part.undated, part.interval) for part in kept if part.collection == collection]
        parts = uncovered(self.line, [interval for undated, interval in done if not undated])
        gaps = [_Gap(collection, interval) for interval in parts]
        apart = self.query.datetime is None and parts != [Interval()]
        if apart and not any(interval.everything for _, interval in done):
            gaps.append(_Gap(collection, Interval(), undated=True))
        return gaps

    def _cut(self, gap: _Gap, pieces: int, quota: int) -> list[Shard]:
        if gap.undated:
            return [self._shard(gap.collection, gap.interval, quota, undated=True)]
        parts = gap.interval.cut(pieces, self._span(gap))
        shards = [self._shard(gap.collection, part, quota) for part in parts]
        if gap.interval.everything and len(parts) > 1:
            shards.append(self._shard(gap.collection, gap.interval, quota, undated=True))
        return shards

    def _span(self, gap: _Gap) -> Interval:
        """Where the items of a gap lie, as far as that is known: in the extent, and otherwise before the harvest."""
        known = self.extents[gap.collection]
        return Interval(None, self.started) if known is None or known.clip(gap.interval).empty else known

    def _shard(self, collection: str, interval: Interval, quota: int, *, undated: bool = False) -> Shard:
        return Shard(
            collection=collection,
            start=interval.start,
            end=interval.end,
            undated=undated,
            page_size=self.query.page_size,
            page_quota=quota,
            bbox=self.query.bbox,
            filter=_both(self.query.cql2, self.changed.get(collection)),
            verify=self.verify,
            harvest_started=self.started,
        )


def extent(collection: Mapping[str, Any], started: datetime) -> Interval | None:
    """A collection's temporal extent, up to the harvest where it goes on; None where it does not say when it began.

    https://github.com/radiantearth/stac-spec/blob/v1.0.0/collection-spec/collection-spec.md#temporal-extent-object
    """
    try:
        start, end = collection["extent"]["temporal"]["interval"][0]
        found = Interval(instant(start), started if end is None else instant(end))
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return None if found.empty else found


def _both(one: JsonValue, other: JsonValue) -> JsonValue:
    """Two CQL2 conditions as one."""
    if one is None or other is None:
        return other if one is None else one
    return {"op": "and", "args": [one, other]}


def _first(shards: Sequence[Shard], most: int) -> list[Shard]:
    """The first shard, to end after so many items."""
    return [shard.model_copy(update={"max_items": most}) for shard in shards[:1]] if most > 0 else []
