"""The script that harvests items: what it archives, what it proves, and how fast it may go."""

import hashlib
import json
import runpy
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_scripts import SCRIPTS, Answer
from stac_stub import Outcome, Page, Server, harvest, item, serving

Harvest = Callable[..., Outcome]
SCRIPT = runpy.run_path(str(SCRIPTS / "harvest_items.py"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def harvesting(server: Server, tmp_path: Path) -> Harvest:
    """Runs the harvester on a shard of the server."""
    return lambda **shard: harvest(server, tmp_path, **shard)


def test_every_page_is_archived_as_it_came_and_verified(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(35)]
    done = harvesting()
    assert done.lines == server.catalog.bodies
    assert (done.receipt["count"], done.receipt["verified"], done.receipt["remainder"]) == (35, True, None)


def test_a_receipt_says_what_is_in_the_archive(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(15)]
    done = harvesting(start="2020-01-03T00:00:00Z", end="2020-01-13T00:00:00.5Z")
    hashes = [int.from_bytes(hashlib.sha256(name.encode()).digest()) for name in done.ids]
    wanted = {
        "name": "shard",
        "collection": "c",
        "undated": False,
        "count": 11,
        "duplicates": 0,
        "dirty_count": 0,
        "start": "2020-01-03T00:00:00Z",
        "end": "2020-01-13T00:00:00.500000Z",
        "remainder": None,
        "throttled": 0,
        "min_datetime": "2020-01-03T00:00:00Z",
        "max_datetime": "2020-01-13T00:00:00Z",
        "verified": True,
        "ids_hash": f"{sum(hashes) % 2**256:064x}",
        "bytes": len(server.blobs["harvests/h/items/c/shard.ndjson.zst"]),
    }
    assert wanted.items() <= done.receipt.items()


def test_the_receipt_is_published_last(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(3)]
    assert harvesting().finished.returncode == 0
    assert server.written[-2:] == ["harvests/h/items/c/shard.ndjson.zst", "harvests/h/items/c/shard.receipt.json"]
    assert json.loads(server.blobs["harvests/h/control/progress/shard.json"]) == {"pages": 2, "items": 3}


def test_a_second_run_writes_the_same(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(25)]
    first = harvesting().lines, server.blobs["harvests/h/items/c/shard.receipt.json"]
    assert (harvesting().lines, server.blobs["harvests/h/items/c/shard.receipt.json"]) == first


def test_an_empty_shard_has_an_empty_archive(harvesting: Harvest) -> None:
    done = harvesting()
    assert (done.lines, done.receipt["count"], done.receipt["verified"]) == ([], 0, True)


def test_numbers_members_and_unicode_keep_their_bytes(server: Server, harvesting: Harvest) -> None:
    odd = (
        '{"type":"Feature", "id" : "K\\u00f6ln \U0001f6f0","collection":"c","geometry":{},"properties":'
        '{ "datetime":"2020-01-01T00:00:00Z","n":[12345678901234567890123, 1.10, 1E400, -0.0],"s":"]}\\n\u2028" } }'
    )
    server.catalog.bodies = [odd.encode()]
    assert harvesting().lines == [odd.encode()]


MICROSECOND_BEFORE, BOUNDARY = "2020-01-04T23:59:59.999999Z", "2020-01-05T00:00:00Z"


@pytest.mark.parametrize("filters", [True, False])
def test_each_item_is_in_the_one_shard_that_its_moment_lies_in(
    server: Server, harvesting: Harvest, filters: bool
) -> None:
    ranged = {"start_datetime": "2020-01-04T00:00:00Z", "end_datetime": "2020-01-06T00:00:00Z"}
    server.catalog.filters = filters
    server.catalog.bodies = [
        item(0, MICROSECOND_BEFORE),
        item(1, BOUNDARY),
        item(2, "2020-01-05T01:00:00+02:00"),
        item(3, None, **ranged),
        item(4, BOUNDARY, start_datetime="2020-01-01T00:00:00Z"),
        item(5, BOUNDARY, **ranged),
        item(6, None),
        item(7, None, start_datetime="2020-01-01T00:00:00Z"),
    ]
    assert sorted(harvesting(end=BOUNDARY).ids) == ["i00000", "i00002", "i00003", "i00005"]
    assert sorted(harvesting(start=BOUNDARY).ids) == ["i00001", "i00004"]
    assert sorted(harvesting(undated=True).ids) == ["i00006", "i00007"]
    assert len(harvesting().ids) == 8


def test_undated_items_of_a_collection_are_paged_too(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n, None) for n in range(25)] + [item(n) for n in range(30, 45)]
    done = harvesting()
    assert (len(done.lines), done.receipt["verified"], done.receipt["duplicates"]) == (40, True, 0)


def test_fractions_finer_than_microseconds_are_rounded_as_postgresql_does() -> None:
    instant = SCRIPT["instant"]
    assert instant("2020-01-04T23:59:59.9999997Z") == datetime(2020, 1, 5, tzinfo=UTC)
    assert instant("2020-01-05t00:00:00.1234564z") == datetime(2020, 1, 5, 0, 0, 0, 123456, UTC)
    assert instant("2020-01-05T00:00:00.123456+00:00") == datetime(2020, 1, 5, 0, 0, 0, 123456, UTC)


def ids_of_all_parts(harvesting: Harvest, **shard: Any) -> list[str]:
    """Harvest an interval and its remainders, as the flow does; each part must begin where the one before ended."""
    found: list[str] = []
    rest: dict[str, Any] | None = {"start": None, "end": "2021-01-01T00:00:00Z"}
    while rest:
        done = harvesting(**shard, **rest)
        receipt = done.receipt
        assert (receipt["start"], receipt["verified"]) == (rest["start"], True)
        assert receipt["end"] == (receipt["remainder"]["start"] if receipt["remainder"] else rest["end"])
        found += done.ids
        rest = receipt["remainder"]
    return found


def test_a_quota_ends_the_task_and_the_remainder_is_the_rest(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(45)]
    assert ids_of_all_parts(harvesting, page_quota=2) == [f"i{n:05}" for n in range(45)]


def test_what_lies_at_one_moment_is_never_cut(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n, f"2020-01-0{1 + n // 17}T00:00:00Z") for n in range(51)]
    assert ids_of_all_parts(harvesting, page_quota=1) == [f"i{n:05}" for n in range(51)]


def test_a_service_that_does_not_sort_is_paged_to_the_end(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item((n * 7) % 45) for n in range(45)]
    server.catalog.sorts = False
    done = harvesting(page_quota=2)
    assert (len(done.ids), done.receipt["remainder"], done.receipt["verified"]) == (45, None, False)
    assert "sortby" in done.receipt["verification"]["reason"]


def test_so_many_items_and_no_more(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(45)]
    done = harvesting(max_items=13)
    assert done.ids == [f"i{n:05}" for n in range(13)]
    assert (done.receipt["verified"], done.receipt["remainder"]) == (True, None)


def test_a_filter_narrows_both_looks(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n, kind="even" if n % 2 == 0 else "odd") for n in range(30)]
    done = harvesting(filter={"op": "=", "args": [{"property": "kind"}, "odd"]}, start="2020-01-10T00:00:00Z")
    assert done.ids == [f"i{n:05}" for n in range(9, 30, 2)]
    assert done.receipt["verified"]


def test_a_filter_that_the_service_cannot_apply_ends_with_5(server: Server, harvesting: Harvest) -> None:
    server.catalog.filters = False
    finished = harvesting(filter={"op": "=", "args": [{"property": "a"}, 1]}).finished
    assert finished.returncode == 5
    assert "CQL2" in finished.stderr


def test_a_bbox_is_passed_on(server: Server, harvesting: Harvest) -> None:
    assert harvesting(bbox=[-10, 1, 2, 3.5]).receipt["count"] == 0
    assert server.catalog.searches[0]["bbox"] == [-10, 1, 2, 3.5]


def test_dirty_items_are_archived_and_listed(server: Server, harvesting: Harvest) -> None:
    backwards = {"start_datetime": "2020-01-03T00:00:00Z", "end_datetime": "2020-01-02T00:00:00Z"}
    bare = json.loads(item(1)) | {"geometry": None}
    pretty = json.dumps(json.loads(item(2)), indent=2)
    server.catalog.bodies = [item(0, None, **backwards), json.dumps(bare).encode(), pretty.encode(), item(3)]
    done = harvesting()
    assert sorted(map(json.loads, done.lines), key=str) == sorted(map(json.loads, server.catalog.bodies), key=str)
    problems = {entry["id"]: entry["problem"] for entry in done.receipt["dirty"]}
    assert problems == {
        "i00000": "start is not before end",
        "i00001": "no geometry",
        "i00002": "reformatted: it came on several lines",
    }
    assert done.receipt["dirty_count"] == 3


def test_what_arrived_meanwhile_is_archived_and_counted(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(15)]

    def arrive(page: Page) -> Answer | None:
        if page.second_look and len(server.catalog.bodies) == 15:
            server.catalog.bodies.append(item(3000, "2020-01-02T12:00:00Z", updated="2026-01-01T00:00:01Z"))
            return server.catalog.search(page.query)
        return None

    server.catalog.twist = arrive
    done = harvesting()
    assert (sorted(done.lines), done.receipt["verified"]) == (sorted(server.catalog.bodies), True)
    assert done.receipt["verification"]["arrived"] == ["i03000"]


@pytest.mark.parametrize(
    ("date", "asked"),
    [("Thu, 01 Jan 2026 00:10:00 GMT", "2026-01-01T00:10:00Z"), (None, None), ("soon", None)],
)
def test_the_receipt_tells_the_catalogs_time(
    server: Server, harvesting: Harvest, date: str | None, asked: str | None
) -> None:
    server.date = date
    assert harvesting().receipt["asked"] == asked


def test_what_was_deleted_meanwhile_stays_archived(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(15)]

    def delete(page: Page) -> Answer | None:
        if page.second_look and len(server.catalog.bodies) == 15:
            del server.catalog.bodies[4]
            return server.catalog.search(page.query)
        return None

    server.catalog.twist = delete
    done = harvesting()
    assert (len(done.ids), done.receipt["verified"]) == (15, True)
    assert done.receipt["verification"]["deleted"] == ["i00004"]


def test_what_the_first_look_missed_is_archived(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(25)]

    def skip(page: Page) -> None:
        if not page.second_look and "ids" not in page.query:
            page.bodies[:] = [body for body in page.bodies if body != item(12)]

    server.catalog.twist = skip
    done = harvesting()
    assert (sorted(done.lines), done.receipt["verified"]) == (server.catalog.bodies, True)
    assert done.receipt["count"] == 25


def test_what_is_listed_but_never_given_is_unsettled(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(25)]

    def skip(page: Page) -> None:
        if not page.second_look:
            page.bodies[:] = [body for body in page.bodies if body != item(12)]

    server.catalog.twist = skip
    done = harvesting()
    assert (len(done.ids), done.receipt["verified"]) == (24, False)
    assert done.receipt["verification"]["unsettled"] == ["i00012"]


def test_what_cannot_be_explained_is_named(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(25)]

    def skip(page: Page) -> None:
        if page.second_look:
            page.bodies[:] = [body for body in page.bodies if body != item(12)]

    server.catalog.twist = skip
    done = harvesting()
    assert (len(done.ids), done.receipt["verified"]) == (25, False)
    assert done.receipt["verification"]["unsettled"] == ["i00012"]


def test_a_second_look_that_errs_once_is_repeated(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(25)]
    erred = []

    def skip_once(page: Page) -> None:
        if page.second_look and item(12) in page.bodies and not erred:
            erred.append(page.bodies.remove(item(12)))

    server.catalog.twist = skip_once
    assert harvesting().receipt["verified"]


def test_no_second_look_where_none_is_asked_for(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(5)]
    done = harvesting(verify="none")
    assert not done.receipt["verified"]
    assert not any("fields" in query for query in server.catalog.searches)


@pytest.mark.parametrize(("requests_per_second", "running", "items"), [(40, 2, 60), (3, 6, 5)])
def test_calls_keep_to_the_share_of_the_budget(
    server: Server, harvesting: Harvest, requests_per_second: float, running: int, items: int
) -> None:
    server.set_budget(requests_per_second, running)
    server.catalog.bodies = [item(n) for n in range(items)]
    assert harvesting(verify="none").receipt["count"] == items
    times, share = server.catalog.times, requests_per_second / running
    assert 0.8 * share <= (len(times) - 1) / (times[-1] - times[0])
    assert (len(times) - 2) / (times[-1] - times[0]) <= 1.2 * share  # one call may be early


def test_a_budget_that_grows_is_taken_over_at_once(server: Server, harvesting: Harvest) -> None:
    server.set_budget(10, 10)
    server.catalog.bodies = [item(n) for n in range(400)]

    def grow(page: Page) -> None:
        if page.number == 2:
            server.set_budget(10_000, 1)

    server.catalog.twist = grow
    began = time.monotonic()
    harvesting(verify="none")
    assert time.monotonic() - began < 20


def test_a_429_holds_everybody_back(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(15)]
    server.catalog.twist = lambda page: Answer(429, "{}", {"Retry-After": "1"}) if page.number == 2 else None
    done = harvesting(verify="none")
    assert (done.receipt["throttled"], len(done.ids)) == (1, 15)
    assert 0 < json.loads(server.blobs["harvests/h/control/backoff.json"])["seconds"] <= 1
    assert server.catalog.times[2] - server.catalog.times[1] >= 1


def test_a_503_that_names_no_time_holds_everybody_back_a_moment(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(15)]
    server.catalog.twist = lambda page: Answer(503, "{}", {}) if page.number == 2 else None
    done = harvesting(verify="none")
    assert (done.receipt["throttled"], len(done.ids)) == (1, 15)
    assert 0 < json.loads(server.blobs["harvests/h/control/backoff.json"])["seconds"] <= 1
    assert server.catalog.times[2] - server.catalog.times[1] >= 1


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(minutes=-7), timedelta(minutes=7)])
def test_what_another_task_was_told_holds_this_one_too_whatever_its_clock_says(
    server: Server, harvesting: Harvest, ahead: timedelta
) -> None:
    told, began = "harvests/h/control/backoff.json", time.monotonic()
    server.storage_ahead = ahead
    server.blobs[told], server.modified[told] = b'{"seconds": 4}', server.storage_now
    server.catalog.bodies = [item(0)]
    assert harvesting(verify="none").receipt["count"] == 1
    assert 3 <= time.monotonic() - began < 20


def test_a_retry_after_date_is_read_by_the_servers_own_clock(server: Server, harvesting: Harvest) -> None:
    wish = {"Retry-After": "Thu, 01 Jan 2026 00:00:02 GMT"}
    assert server.date == "Thu, 01 Jan 2026 00:00:00 GMT"
    server.catalog.bodies = [item(n) for n in range(15)]
    server.catalog.twist = lambda page: Answer(429, "{}", wish) if page.number == 2 else None
    assert len(harvesting(verify="none").ids) == 15
    assert server.catalog.times[2] - server.catalog.times[1] >= 2


def test_a_harvester_whose_clock_is_ahead_does_not_doubt_what_changed_meanwhile(
    server: Server, harvesting: Harvest
) -> None:
    server.catalog.bodies = [item(n) for n in range(15)]

    def edit(page: Page) -> None:
        if page.second_look:
            server.catalog.bodies[3] = item(3, updated="2026-01-01T00:00:30Z")
            page.bodies[:] = [body for body in page.bodies if b"i00003" not in body]

    server.catalog.twist = edit
    done = harvesting(harvest_started="2026-01-01T00:05:00Z")
    assert (done.receipt["verified"], done.receipt["verification"]["unsettled"]) == (True, [])


@pytest.mark.parametrize("wish", ["86400", formatdate(4e9, usegmt=True)])
def test_a_wait_beyond_patience_ends_with_6(server: Server, harvesting: Harvest, wish: str) -> None:
    server.catalog.twist = lambda page: Answer(429, "{}", {"Retry-After": wish})
    assert harvesting().finished.returncode == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"SHARD": ""},
        {"SHARD": "{}"},
        {"RESULTS_URL": "http://example.com/x"},
        {"GEOCATALOG_URL": "ftp://x"},
        {"ITEMS_PREFIX": ""},
    ],
)
def test_a_wrong_environment_ends_with_2(server: Server, tmp_path: Path, changes: dict[str, str]) -> None:
    finished = harvest(server, tmp_path, changes).finished
    assert (finished.returncode, finished.stdout, server.asked) == (2, "", [])
    assert len(finished.stderr.splitlines()) == 1


def test_no_identity_ends_with_3(server: Server, tmp_path: Path) -> None:
    away = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"{server.origin}/nowhere"}
    assert harvest(server, tmp_path, away).finished.returncode == 3


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), max_size=5),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.sampled_from(["", " ", "\n", "\r\n\t "]),
)
def test_items_are_cut_from_a_page_byte_for_byte(
    items: list[dict[str, Any]], indent: int | str | None, ascii_only: bool, space: str
) -> None:
    texts = [json.dumps(one, indent=indent, ensure_ascii=ascii_only) for one in items]
    joined = f"{space},{space}".join(texts)
    try:
        body = f'{space}{{"links":[]{space},"features"{space}:{space}[{space}{joined}{space}]}}{space}'.encode()
    except UnicodeEncodeError:
        return
    page = SCRIPT["page_in"](body)
    assert [bytes(raw).decode() for raw in page.features] == texts
    mixed = SCRIPT["page_in"](body.replace(b"[", b"[NaN,", 2).replace(b"[NaN,", b"[", 1))
    assert [bytes(raw).strip().decode() for raw in mixed.features] == ["NaN", *texts]
