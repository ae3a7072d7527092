"""Shards tile what is asked for, whatever becomes of them; receipts add up in any order."""

import hashlib
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatiobatch.intervals import Interval, instant, rfc3339, tiles, uncovered
from spatiobatch.query import query_from
from spatiobatch.receipts import Receipt, total
from spatiobatch.shards import Plan, Shard, extent

patiently = settings(deadline=None)
"""A busy machine is no failure."""
STARTED = datetime(2026, 4, 15, 12, 0, 0, 1, UTC)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds are naive
INTERVALS = st.builds(Interval, st.none() | MOMENTS, st.none() | MOMENTS).filter(lambda interval: not interval.empty)
SPANS = st.builds(Interval, MOMENTS, MOMENTS).filter(lambda interval: not interval.empty)
ASKED = st.none() | INTERVALS.filter(lambda interval: not interval.everything).map(
    lambda interval: "/".join(rfc3339(end) if end else ".." for end in (interval.start, interval.end))
)


def collection(name: str, *interval: Any) -> dict[str, Any]:
    return {"id": name, "extent": {"temporal": {"interval": [list(interval)]}}}


NAIP = collection("naip", "2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z")


def plan(*collections: dict[str, Any], datetime: str | None = None, **how: Any) -> Plan:
    query = query_from(content="items", datetime=datetime)
    return Plan.of(collections, query, STARTED, **{"parallel": 4, "page_quota": 10, **how})


def receipt(shard: Shard, end: datetime | None = None, **values: Any) -> Receipt:
    """What a task leaves that covered its shard, up to `end` where that is given."""
    left = {"start": end, "end": shard.end} if end else None
    told = {"count": 0, "ids_hash": "0", "pages": 1, "throttled": 0, **values}
    asked = shard.model_dump(mode="json", include={"name", "collection", "start", "end", "undated"})
    return Receipt.model_validate({**asked, "remainder": left, **told} | ({"end": end} if end else {}))


def lines(shards: Sequence[Shard]) -> list[Interval]:
    return [shard.interval for shard in shards if not shard.undated]


@patiently
@given(INTERVALS, SPANS, st.integers(1, 50))
def test_any_cut_tiles_exactly(whole: Interval, span: Interval, pieces: int) -> None:
    parts = whole.cut(pieces, span)
    assert tiles(whole, parts)
    assert 1 <= len(parts) <= pieces


@patiently
@given(SPANS, st.integers(1, 50), MOMENTS)
def test_every_instant_belongs_to_exactly_one_piece(span: Interval, pieces: int, moment: datetime) -> None:
    parts = Interval().cut(pieces, span)
    ends = [part.start for part in parts if part.start]
    for each in (moment, *ends, *(end - timedelta(microseconds=1) for end in ends)):
        assert [each in part for part in parts].count(True) == 1


@patiently
@given(INTERVALS, st.lists(INTERVALS))
def test_parts_and_what_they_leave_uncovered_are_the_whole(whole: Interval, parts: list[Interval]) -> None:
    gaps = uncovered(whole, parts)
    assert not any(not gap.clip(part).empty for gap in gaps for part in parts)
    assert uncovered(whole, [*parts, *gaps]) == []


def test_tiles_sees_gaps_overlaps_and_what_lies_beyond() -> None:
    a, b, c, d = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2021, 2022, 2023))
    whole = Interval(a, d)
    assert tiles(whole, [Interval(b, d), Interval(a, b)])
    assert not tiles(whole, [Interval(a, b), Interval(c, d)])
    assert not tiles(whole, [Interval(a, c), Interval(b, d)])
    assert not tiles(whole, [Interval(a, b), Interval(b, None)])
    assert not tiles(whole, [])


def test_a_microsecond_is_not_cut() -> None:
    start = datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)
    whole = Interval(start, start + timedelta(microseconds=1))
    assert whole.cut(5, whole) == [whole]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2024-03-31T02:30:00+01:00", "2024-03-31T01:30:00Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
        ("2024-02-29t00:00:00.000001z", "2024-02-29T00:00:00.000001Z"),
        ("2024-02-29T00:00:00", "2024-02-29T00:00:00Z"),
    ],
)
def test_instants_have_one_form(text: str, normal: str) -> None:
    assert rfc3339(instant(text)) == normal


def test_first_round_gives_every_slot_work_and_asks_for_undated_items_apart() -> None:
    *dated, undated = plan(NAIP).owed([])
    assert tiles(Interval(), lines(dated))
    assert len(dated) == 4
    assert undated.undated
    assert undated.interval.everything


def test_more_collections_than_slots_are_asked_for_whole() -> None:
    shards = plan(*(collection(f"c{number}", "2020-01-01", None) for number in range(5))).owed([])
    assert [(shard.interval, shard.undated) for shard in shards] == [(Interval(), False)] * 5


def test_a_query_with_an_interval_has_no_undated_items() -> None:
    shards = plan(NAIP, datetime="2021-01-01/..").owed([])
    assert tiles(Interval(instant("2021-01-01")), lines(shards))
    assert not any(shard.undated for shard in shards)


def test_an_interval_outside_of_the_extent_is_asked_for_all_the_same() -> None:
    shards = plan(NAIP, datetime="1990-01-01/1991-01-01").owed([])
    assert tiles(Interval(instant("1990-01-01"), instant("1991-01-01")), lines(shards))


def test_an_extent_that_goes_on_is_cut_up_to_the_harvest() -> None:
    assert extent(collection("c", "2020-01-01", None), STARTED) == Interval(instant("2020-01-01"), STARTED)


@pytest.mark.parametrize(
    "malformed",
    [
        {"id": "c"},
        {"id": "c", "extent": None},
        {"id": "c", "extent": {"temporal": {"interval": []}}},
        {"id": "c", "extent": {"temporal": {"interval": None}}},
        collection("c"),
        collection("c", None, None),
        collection("c", None, "2020-01-01"),
        collection("c", "yesterday", None),
        collection("c", 2020, 2021),
        collection("c", "2021-01-01", "2020-01-01"),
        collection("c", "2021-01-01", "2021-01-01"),
        collection("c", "9999-12-31T23:59:59-23:00", None),
    ],
    ids=json.dumps,
)
def test_a_collection_with_no_usable_extent_is_asked_for_whole(malformed: dict[str, Any]) -> None:
    (shard,) = plan(malformed).owed([])
    assert shard.interval.everything
    assert not shard.undated


def test_a_name_stands_for_one_part_of_a_collection() -> None:
    shards = plan(NAIP, collection("other", "2020-01-01", None), parallel=9).owed([])
    assert len({shard.name for shard in shards}) == len(shards)
    assert [shard.name for shard in shards[:1]] == [plan(NAIP, parallel=5, page_quota=7).owed([])[0].name]
    assert all(shard.name.isalnum() for shard in shards)


def test_a_shard_travels_as_the_contract_says() -> None:
    shard = plan(NAIP, datetime="2021-01-01T00:00:00.5Z/2022-01-01", parallel=1).owed([])[0]
    travelling = json.loads(shard.model_dump_json())
    assert travelling == {
        "collection": "naip",
        "start": "2021-01-01T00:00:00.500000Z",
        "end": "2022-01-01T00:00:00Z",
        "undated": False,
        "page_size": 1000,
        "page_quota": 10,
        "bbox": None,
        "filter": None,
        "verify": "ids",
        "harvest_started": "2026-04-15T12:00:00.000001Z",
        "max_items": None,
        "name": hashlib.sha256(b"naip|2021-01-01T00:00:00.500000Z|2022-01-01T00:00:00Z|false").hexdigest()[:16],
    }
    assert Shard.model_validate(travelling) == shard


@patiently
@given(
    st.lists(
        st.sampled_from([NAIP, collection("open", "2020-01-01", None), {"id": "none"}]), min_size=1, unique_by=str
    ),
    ASKED,
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_any_sequence_of_quota_stops_and_failures_ends_and_tiles(
    collections: list[dict[str, Any]], asked: str | None, parallel: int, chance: random.Random
) -> None:
    """Nor is a name ever used for two different parts of a collection."""
    whole = plan(*collections, datetime=asked, parallel=parallel)
    receipts: list[Receipt] = []
    submitted: list[Shard] = []
    meant: dict[str, tuple[Any, ...]] = {}
    for number in range(20):
        submitted = whole.owed(receipts, submitted)
        for shard in submitted:
            asked_for = (shard.collection, shard.interval, shard.undated)
            assert meant.setdefault(shard.name, asked_for) == asked_for
        receipts += [answer for shard in submitted if (answer := worked_on(shard, chance, patience=number))]
        if not submitted:
            break
    assert not submitted
    for each in collections:
        parts = [part for part in whole.counted(receipts) if part.collection == each["id"]]
        assert tiles(whole.line, [part.covered for part in parts if not part.undated])
        owns_undated = [part.undated or part.covered.everything for part in parts]
        assert owns_undated.count(True) == (asked is None)


def worked_on(shard: Shard, chance: random.Random, patience: int) -> Receipt | None:
    """What a task does: fail, stop at its quota somewhere, or finish; after ten rounds, finish."""
    fate = chance.random() if patience < 10 else 1
    if fate < 0.2:
        return None
    earliest, latest = (shard.start or instant("1980-01-01")), (shard.end or instant("2030-01-01"))
    microseconds = (latest - earliest) // timedelta(microseconds=1)
    if fate < 0.7 and not shard.undated and microseconds > 1:
        return receipt(shard, earliest + timedelta(microseconds=chance.randrange(1, microseconds)))
    return receipt(shard)


def test_what_a_quota_left_is_cut_for_all_slots() -> None:
    whole = plan(NAIP)
    shards = whole.owed([])
    left = receipt(shards[3], instant("2023-06-01"))
    owed = whole.owed([*map(receipt, shards[:3]), left, receipt(shards[4])], shards)
    assert tiles(Interval(instant("2023-06-01")), lines(owed))
    assert len(owed) == 4


def test_what_lies_behind_the_extent_is_cut_up_to_the_harvest() -> None:
    whole = plan({"id": "c"})
    (shard,) = whole.owed([])
    *dated, undated = whole.owed([receipt(shard, instant("2025-01-01"))], [shard])
    assert tiles(Interval(instant("2025-01-01")), lines(dated))
    assert len(dated) == 4 - 1 + 1 - 2
    assert undated.undated


def test_a_shard_without_a_receipt_is_owed_as_it_was() -> None:
    whole = plan(NAIP)
    shards = whole.owed([])
    assert whole.owed([receipt(shard) for shard in shards[1:]], shards) == shards[:1]


def test_later_rounds_have_larger_quotas() -> None:
    whole = plan({"id": "c"}, parallel=1)
    (shard,) = whole.owed([])
    assert whole.owed([receipt(shard, instant("2025-01-01"), pages=80)])[0].page_quota == 80


def test_of_overlapping_receipts_each_instant_counts_once() -> None:
    first, second = plan(NAIP, parallel=2), plan(NAIP, parallel=3)
    receipts = [receipt(shard) for shard in first.owed([])[:1] + second.owed([])[1:]]
    counted = first.counted(receipts)
    (gap,) = uncovered(Interval(), [part.covered for part in counted if not part.undated])
    assert tiles(gap, lines(first.owed(receipts)))


def test_receipts_of_other_collections_do_not_count() -> None:
    (shard,) = plan({"id": "other"}).owed([])
    assert plan({"id": "c"}).counted([receipt(shard)]) == []


def test_most_items_are_harvested_one_shard_after_the_other() -> None:
    whole = plan(NAIP, collection("other", None, None), max_items=100)
    (first,) = whole.owed([])
    (second,) = whole.owed([receipt(first, count=60)], [first])
    assert [(shard.collection, shard.max_items) for shard in (first, second)] == [("naip", 100), ("other", 40)]
    assert whole.owed([receipt(first, count=60), receipt(second, count=40)], [second]) == []


@patiently
@given(st.lists(st.text(), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_receipts_add_up_in_any_order(ids: list[str], chance: random.Random) -> None:
    hashes = [int(hashlib.sha256(name.encode()).hexdigest(), 16) for name in ids]
    (shard,) = plan({"id": "c"}).owed([])
    receipts = [receipt(shard, count=1, ids_hash=f"{number:064x}", duplicates=2) for number in hashes]
    chance.shuffle(receipts)
    summed = total(receipts)
    assert (summed.items, summed.duplicates, summed.ids_hash) == (len(ids), 2 * len(ids), sum(hashes) % 2**256)
    assert total(receipts[:1]) + total(receipts[1:]) == summed


def test_a_receipt_of_a_later_version_is_read() -> None:
    told = {"a_new_key": 1, "verification": {"arrived": ["a"], "arrived_count": 5000, "new": []}}
    (shard,) = plan({"id": "c"}).owed([])
    assert total([receipt(shard, **told)]).arrived == 5000


def test_cuts_are_on_whole_seconds() -> None:
    span = Interval(instant("2020-01-01T00:00:00.25Z"), instant("2020-01-01T00:00:10.75Z"))
    inner = [part.start for part in span.cut(4, span)[1:]]
    assert len(inner) == 3
    assert all(moment and not moment.microsecond for moment in inner)
    narrow = Interval(instant("2020-01-01T00:00:00.25Z"), instant("2020-01-01T00:00:00.75Z"))
    assert narrow.cut(4, narrow) == [narrow]
