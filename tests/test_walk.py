"""The walk of the item script: whatever is edited, sorted or counted oddly meanwhile, what stands still is archived."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from node_scripts import Answer
from stac_stub import Outcome, Page, Server, harvest, item, serving

Harvest = Callable[..., Outcome]
FAR = "2999-01-01T00:00:00Z"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def harvesting(server: Server, tmp_path: Path) -> Harvest:
    """Runs the harvester on a shard of the server."""
    return lambda **shard: harvest(server, tmp_path, **shard)


def large(number: int) -> bytes:
    """An item that zstd cannot make small."""
    noise = Random(number).randbytes(900).hex()  # noqa: S311
    return item(number, noise=noise)


def all_there(done: Outcome) -> bool:
    """Whether each item is there once, as it was served, and the receipt says so."""
    return sorted(done.lines) == sorted(done.server.catalog.bodies) and bool(done.receipt["verified"])


@pytest.mark.parametrize("count", [36, 120, 341])
def test_what_is_read_back_is_read_whole(server: Server, harvesting: Harvest, count: int) -> None:
    server.catalog.bodies = [large(n) for n in range(count)]

    def redate(page: Page) -> None:
        if page.number == 2:
            server.catalog.bodies[4] = large(4).replace(b"2020-01-05", b"2999-01-01")

    server.catalog.twist = redate
    done = harvesting()
    assert all_there(done)
    assert done.receipt["duplicates"] == 1


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("moment", [FAR, "2019-01-01T00:00:00Z"])
def test_the_last_item_of_each_page_is_redated_and_nothing_that_stood_still_is_lost(
    server: Server, harvesting: Harvest, filters: bool, moment: str
) -> None:
    server.catalog.filters = filters
    server.catalog.bodies = [item(n) for n in range(60)]
    edited: set[str] = set()

    def redate(page: Page) -> Answer | None:
        answer = server.catalog.answer(page)
        for last in page.bodies[-1:]:
            name = json.loads(last)["id"]
            if name not in edited and page.token and "ids" not in page.query:
                edited.add(name)
                place = server.catalog.bodies.index(last)
                server.catalog.bodies[place] = item(int(name[1:]), moment)
        return answer

    server.catalog.twist = redate
    done = harvesting(page_size=7)
    assert {f"i{n:05}" for n in range(60)} - set(done.ids) <= edited
    assert len(set(done.ids)) == len(done.ids) == done.receipt["count"]
    assert len(edited) > 8


def cut_to_milliseconds(text: str) -> str:
    """A moment as a service has it that keeps no microseconds."""
    return f"{text[:23]}Z" if "." in text else text


def test_a_service_that_compares_milliseconds_loses_nothing(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n, f"2020-01-01T00:00:00.{n // 9:03}{(n * 377) % 1000:03}Z") for n in range(200)]
    server.catalog.held = cut_to_milliseconds
    assert all_there(harvesting(page_size=7))


def test_ids_that_are_sorted_otherwise_than_compared_are_walked_by_link_and_said_to_be(
    server: Server, harvesting: Harvest
) -> None:
    names = [f"{'aB'[n % 2]}{chr(97 + n % 26)}{n:03}" for n in range(80)]
    server.catalog.bodies = [named(name) for name in names]
    server.catalog.sorted_id = str.casefold
    done = harvesting(page_size=7)
    assert sorted(done.ids) == sorted(names)
    assert not done.receipt["verified"]
    assert "in the order in which it sorts" in done.receipt["verification"]["reason"]


def test_ids_that_are_compared_as_they_are_sorted_are_proven(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [named(f"{'aB'[n % 2]}{chr(97 + n % 26)}{n:03}") for n in range(80)]
    server.catalog.sorted_id = server.catalog.compared_id = str.casefold
    assert all_there(harvesting(page_size=7))


def named(name: str, **members: Any) -> bytes:
    """An item of that id, all of one moment."""
    return json.dumps({**json.loads(item(0)), "id": name, **members}).encode()


def test_a_filter_that_is_promised_and_ignored_is_noticed(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(45)]
    server.catalog.ignores_filter = True
    done = harvesting()
    assert sorted(done.lines) == server.catalog.bodies
    assert not done.receipt["verified"]


@pytest.mark.parametrize("alias", ["C", "d"])
def test_items_that_name_another_collection_are_counted(server: Server, harvesting: Harvest, alias: str) -> None:
    odd = [named(f"x{n}", collection=alias) for n in range(3)]
    server.catalog.bodies = [*(item(n) for n in range(20)), *odd]
    done = harvesting()
    assert done.lines == server.catalog.bodies[:20]
    assert (done.receipt["foreign_count"], done.receipt["verified"]) == (3, False)
    assert "3 items name another collection" in done.receipt["problems"][0]


def test_a_count_above_what_came_is_a_problem(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(20)]
    server.catalog.matched = lambda found: found + 5
    done = harvesting(verify="none")
    assert (done.receipt["uncounted"], len(done.ids)) == (5, 20)
    assert "counts 5 items more" in done.receipt["problems"][0]


@pytest.mark.parametrize("first", [25, 0, 20])
def test_a_count_that_a_second_one_corrects_is_none(server: Server, harvesting: Harvest, first: int) -> None:
    server.catalog.bodies = [item(n) for n in range(20)]
    server.catalog.matched = lambda found: first if len(server.catalog.searches) == 1 else found
    done = harvesting()
    assert all_there(done)
    assert done.receipt["problems"] == []


def test_a_service_that_gives_fewer_and_no_link_is_read_to_its_end(server: Server, harvesting: Harvest) -> None:
    def cap(page: Page) -> None:
        page.bodies, page.token = page.bodies[:4], None

    server.catalog.bodies, server.catalog.twist = [item(n) for n in range(45)], cap
    assert all_there(harvesting())


def test_a_service_that_neither_sorts_nor_links_and_counts_more_is_a_problem(
    server: Server, harvesting: Harvest
) -> None:
    def cap(page: Page) -> None:
        page.bodies, page.token = page.bodies[:4], None

    server.catalog.bodies, server.catalog.twist = [item(n) for n in range(30)], cap
    server.catalog.sorts = server.catalog.filters = server.catalog.picks_fields = False
    server.catalog.matched = lambda found: found
    done = harvesting(verify="none")
    assert (len(done.ids), done.receipt["uncounted"]) == (4, 26)


ODD_ENDS = ["9999-12-31T23:59:59.9999999Z", "10000-01-01T00:00:00Z", "-infinity", "0044-03-15 BC"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("odd", ODD_ENDS)
@pytest.mark.parametrize("count", [1, 10, 23])
def test_a_date_that_cannot_be_held_is_no_trap(
    server: Server, harvesting: Harvest, odd: str, count: int, links: bool
) -> None:
    server.catalog.bodies = [*(item(n) for n in range(25)), *(item(100 + n, odd) for n in range(count))]
    server.catalog.end = dict.fromkeys(ODD_ENDS, -1 if odd[0] in "-0" else 1)
    if not links:
        server.catalog.twist = lambda page: setattr(page, "token", None)
    done = harvesting()
    assert len(server.catalog.searches) < 24
    if links or count == 1:
        assert all_there(done)
        assert done.receipt["dirty_count"] == count
    else:
        assert set(done.lines) == set(server.catalog.bodies) or done.receipt["problems"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-06-30T23:59:60Z", "2020-07-01T00:00:00Z"),
        ("2020-06-30T24:00:00Z", "2020-07-01T00:00:00Z"),
        ("2020-06-30T24:00:00+02:00", "2020-06-30T22:00:00Z"),
        ("2020-06-30T23:59:59.9999995Z", "2020-07-01T00:00:00Z"),
    ],
)
def test_a_date_that_postgresql_takes_for_another_moment_is_that_moment(
    server: Server, harvesting: Harvest, text: str, moment: str
) -> None:
    server.catalog.bodies = [item(0), item(1, text)]
    server.catalog.end = {text: 1}
    done = harvesting()
    assert (done.receipt["max_datetime"], done.receipt["dirty_count"]) == (moment, 0)


def test_an_item_with_a_start_that_can_be_read_is_placed_by_it(server: Server, harvesting: Harvest) -> None:
    far = {"start_datetime": "2020-01-02T12:00:00Z", "end_datetime": "9999-12-31T23:59:59.9999999Z"}
    server.catalog.bodies = [item(0), item(1), item(9, None, **far), item(2)]
    done = harvesting()
    assert all_there(done)
    assert done.receipt["dirty"] == [{"id": "i00009", "problem": "datetime is not RFC 3339"}]
    assert len(server.catalog.searches) <= 4


def test_a_writer_at_the_tail_does_not_keep_the_walk_going(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(25)]

    def grow(page: Page) -> None:
        server.catalog.bodies.append(item(1000 + page.number))

    server.catalog.twist = grow
    harvesting()
    assert len(server.catalog.searches) < 30


def test_cuts_are_on_whole_seconds(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n, f"2020-01-01T00:00:{n // 4:02}.{250 * (n % 4):03}Z") for n in range(60)]
    done = harvesting(page_quota=2, page_size=7)
    assert done.receipt["end"] == "2020-01-01T00:00:03Z"
    assert done.ids == [f"i{n:05}" for n in range(12)]


@pytest.mark.parametrize(("most", "status"), [(7, 400), (3, 413), (1, 400)])
def test_a_limit_that_is_refused_costs_smaller_pages_alone(
    server: Server, harvesting: Harvest, most: int, status: int
) -> None:
    server.catalog.bodies = [item(n) for n in range(45)]
    server.catalog.twist = lambda page: Answer(status, "limit") if page.query["limit"] > most else None
    assert all_there(harvesting(page_size=5000))
    assert max(query["limit"] for query in server.catalog.searches[-3:]) <= most


def test_pages_that_take_too_long_become_smaller(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(45)]
    server.catalog.twist = lambda page: Answer(504, "late") if page.query["limit"] > 5 else None
    assert all_there(harvesting())


def test_empty_pages_that_never_end_are_given_up(server: Server, harvesting: Harvest) -> None:
    def empty(page: Page) -> Answer | None:
        if page.number < 3:
            return None
        link = {"rel": "next", "method": "POST", "href": "/stac/search", "body": {**page.query, "n": page.number}}
        return Answer(body=json.dumps({"features": [], "links": [link]}))

    server.catalog.bodies, server.catalog.twist = [item(n) for n in range(45)], empty
    done = harvesting(verify="none")
    assert "brought nothing new" in done.receipt["problems"][0]


@pytest.mark.parametrize("name", [".", "..", "a/b", "%2e", "é", '"', "ids"])
def test_whatever_an_id_is_called_it_is_settled(server: Server, harvesting: Harvest, name: str) -> None:
    server.catalog.bodies = [item(n) for n in range(5)] + [named(name)]

    def skip(page: Page) -> None:
        if not page.second_look and "ids" not in page.query:
            page.bodies[:] = [body for body in page.bodies if json.loads(body)["id"] != name]

    server.catalog.twist = skip
    done = harvesting()
    assert all_there(done)


def test_another_item_is_never_taken_for_the_one_that_was_asked_for(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(12)]

    def answer_another(page: Page) -> None:
        if not page.second_look:
            page.bodies[:] = [body for body in page.bodies if body != item(7)]
        if "ids" in page.query and not page.second_look:
            page.bodies[:] = [named("other"), named("i00007", collection="z")]

    server.catalog.twist = answer_another
    done = harvesting()
    assert sorted(done.ids) == [f"i{n:05}" for n in range(12) if n != 7]
    assert done.receipt["verification"]["unsettled"] == ["i00007"]


def test_the_receipt_seals_the_archive(server: Server, harvesting: Harvest) -> None:
    server.catalog.bodies = [item(n) for n in range(12)]
    receipt = harvesting().receipt
    archive = server.blobs["harvests/h/items/c/shard.ndjson.zst"]
    assert (receipt["schema_version"], receipt["harvest_id"]) == ("2.0", "h")
    assert receipt["archive"] == {"size": len(archive), "sha256": sha256(archive).hexdigest()}


def test_of_a_service_that_does_not_filter_what_lies_beside_the_shard_is_counted_too(
    server: Server, harvesting: Harvest
) -> None:
    ranged = {"start_datetime": "2019-06-01T00:00:00Z", "end_datetime": "2020-01-20T00:00:00Z"}
    server.catalog.bodies = [*(item(n) for n in range(30)), item(99, None, **ranged)]
    server.catalog.filters = server.catalog.sorts = server.catalog.picks_fields = False
    server.catalog.matched = lambda found: found
    done = harvesting(verify="none", start="2020-01-10T00:00:00Z")
    assert (len(done.ids), done.receipt["uncounted"]) == (21, 0)
    server.catalog.twist = lambda page: setattr(page, "token", None)
    assert harvesting(verify="none", start="2020-01-10T00:00:00Z").receipt["uncounted"] == 12
