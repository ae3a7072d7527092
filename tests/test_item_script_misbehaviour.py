"""The script that harvests items, on catalogs that misbehave: nothing is lost, or it says so."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_scripts import Answer
from stac_stub import Outcome, Page, Server, Twist, harvest, item, serving

Harvest = Callable[..., Outcome]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.catalog.bodies = [item(n) for n in range(45)]
        yield running


@pytest.fixture
def harvesting(server: Server, tmp_path: Path) -> Harvest:
    """Runs the harvester on a shard of the server."""
    return lambda **shard: harvest(server, tmp_path, **shard)


def complete(done: Outcome) -> bool:
    """Whether each item is there once, as it was served."""
    return sorted(done.lines) == sorted(done.server.catalog.bodies) and bool(done.receipt["verified"])


def once(number: int, answer: Answer) -> Twist:
    """That answer to one search."""
    return lambda page: answer if page.number == number else None


def test_an_empty_page_with_a_next_link_goes_on(server: Server, harvesting: Harvest) -> None:
    def empty(page: Page) -> Answer | None:
        if page.number in (1, 3, 9):
            link = {"rel": "next", "method": "POST", "href": "/stac/search", "body": {**page.query, "n": page.number}}
            return Answer(body=json.dumps({"features": [], "links": [link]}))
        return None

    server.catalog.twist = empty
    assert complete(harvesting())


def test_a_merged_next_link_keeps_the_search(server: Server, harvesting: Harvest) -> None:
    server.catalog.merge = True
    assert complete(harvesting(end="2020-12-31T00:00:00Z"))


@pytest.mark.parametrize("sorts", [True, False])
def test_a_token_that_repeats_is_recovered_from(server: Server, harvesting: Harvest, sorts: bool) -> None:
    def stick(page: Page) -> None:
        if page.number == 3:
            page.token = f"i{9:05}"

    server.catalog.sorts, server.catalog.twist = sorts, stick
    done = harvesting()
    assert sorted(done.lines) == sorted(server.catalog.bodies)
    assert sorts or "a next link came before" in done.finished.stderr


def test_pages_that_always_repeat_end_with_5(server: Server, harvesting: Harvest) -> None:
    first = server.catalog.bodies[:10]

    def stick(page: Page) -> None:
        page.bodies, page.token = first, f"i{page.number:05}"

    server.catalog.twist = stick
    finished = harvesting().finished
    assert finished.returncode == 5
    assert "in vain" in finished.stderr
    assert server.written == []


def test_a_page_that_goes_back_is_recovered_from(server: Server, harvesting: Harvest) -> None:
    def go_back(page: Page) -> None:
        if page.number == 3:
            page.bodies, page.token = server.catalog.bodies[5:15], "i00014"

    server.catalog.twist = go_back
    done = harvesting()
    assert complete(done)
    assert "asking again" in done.finished.stderr


def test_a_deleted_token_item_is_recovered_from(server: Server, harvesting: Harvest) -> None:
    def delete(page: Page) -> None:
        if page.number == 2:
            del server.catalog.bodies[19]

    server.catalog.twist = delete
    done = harvesting()
    assert done.receipt["verification"]["deleted"] == ["i00019"]
    assert (len(set(done.ids)), len(done.ids), done.receipt["verified"]) == (45, 45, True)


def test_a_deleted_token_item_starts_an_unsorted_walk_over(server: Server, harvesting: Harvest) -> None:
    def delete(page: Page) -> None:
        if page.number == 2:
            del server.catalog.bodies[19]

    server.catalog.sorts, server.catalog.twist = False, delete
    done = harvesting()
    assert sorted(done.lines) == sorted(server.catalog.bodies)
    assert done.receipt["duplicates"] == 0


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("filters", [True, False])
def test_a_missing_next_link_is_noticed(server: Server, harvesting: Harvest, number: int, filters: bool) -> None:
    def forget(page: Page) -> None:
        if page.number == number:
            page.token = None

    server.catalog.filters, server.catalog.twist = filters, forget
    assert complete(harvesting())


def test_a_missing_next_link_among_items_of_one_moment_is_noticed(server: Server, harvesting: Harvest) -> None:
    def forget(page: Page) -> None:
        if page.number == 2:
            page.token = None

    server.catalog.bodies = [item(n, "2020-01-01T00:00:00Z") for n in range(45)]
    server.catalog.twist = forget
    done = harvesting()
    assert complete(done)
    assert done.receipt["duplicates"] == 0


def test_a_missing_next_link_among_undated_items_is_noticed(server: Server, harvesting: Harvest) -> None:
    def forget(page: Page) -> None:
        if page.number == 2:
            page.token = None

    server.catalog.bodies = [item(n, None) for n in range(45)]
    server.catalog.twist = forget
    assert complete(harvesting(undated=True))


def test_an_item_on_two_pages_is_archived_once(server: Server, harvesting: Harvest) -> None:
    def overlap(page: Page) -> None:
        if page.number == 2:
            page.bodies.insert(0, item(9))

    server.catalog.twist = overlap
    done = harvesting()
    assert complete(done)
    assert done.receipt["duplicates"] == 0


def stored(body: bytes, moment: str) -> bytes:
    """An item as a GeoCatalog has it that wrote it then."""
    return json.dumps({**json.loads(body), "_msft:ts": moment}).encode()


@pytest.mark.parametrize("newer", [0, 1])
def test_the_newest_version_of_an_item_wins(server: Server, harvesting: Harvest, newer: int) -> None:
    versions = [stored(item(9), f"2020-05-0{1 + (n == newer)}T00:00:00.000000Z") for n in range(2)]
    server.catalog.bodies[9] = versions[newer]

    def twice(page: Page) -> None:
        if page.number in (1, 2):
            page.bodies[:] = [body for body in page.bodies if body not in versions]
            page.bodies.insert(len(page.bodies) if page.number == 1 else 0, versions[page.number - 1])

    server.catalog.twist = twice
    done = harvesting()
    assert complete(done)
    assert (done.receipt["count"], done.receipt["duplicates"]) == (45, 1)


def test_an_item_that_moves_ahead_is_archived_once(server: Server, harvesting: Harvest) -> None:
    moved = item(2, "2020-02-10T00:00:00Z", updated="2026-02-01T00:00:00Z")

    def move(page: Page) -> None:
        if page.number == 2:
            server.catalog.bodies[2] = moved

    server.catalog.twist = move
    done = harvesting()
    assert complete(done)
    assert moved in done.lines


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_tried_again(server: Server, harvesting: Harvest, status: int) -> None:
    server.catalog.twist = once(3, Answer(status, "{}"))
    assert complete(harvesting())


@pytest.mark.parametrize(
    "answer", [Answer(torn=True), Answer(body='{"features": [{"id": "a'), Answer(body="<html>later</html>")]
)
def test_a_torn_page_is_asked_for_again(server: Server, harvesting: Harvest, answer: Answer) -> None:
    server.catalog.twist = once(3, answer)
    assert complete(harvesting())


def test_a_401_in_the_middle_renews_the_token(server: Server, harvesting: Harvest) -> None:
    server.catalog.twist = lambda page: Answer(401) if page.number in (2, 4, 9) else None
    assert complete(harvesting())


@pytest.mark.parametrize(("status", "exit_code", "word"), [(401, 4, "scope"), (403, 4, "Reader"), (404, 5, "address")])
def test_a_refusal_is_one_sentence(server: Server, harvesting: Harvest, status: int, exit_code: int, word: str) -> None:
    server.catalog.twist = lambda page: Answer(status, "no")
    finished = harvesting().finished
    assert finished.returncode == exit_code
    assert word in finished.stderr.splitlines()[-1]
    assert server.written == []


def test_ten_attempts_are_made_before_6(server: Server, harvesting: Harvest) -> None:
    server.catalog.twist = lambda page: Answer(503, "busy")
    assert (harvesting().finished.returncode, len(server.catalog.searches)) == (6, 10)


@pytest.mark.parametrize(
    "href", ["http://127.0.0.1@evil.invalid/", "//evil.invalid/x", "http://127.0.0.1:1/stac/search"]
)
def test_a_next_link_to_another_server_is_not_followed(server: Server, harvesting: Harvest, href: str) -> None:
    page = {"features": [], "links": [{"rel": "next", "href": href}]}
    server.catalog.twist = lambda _: Answer(body=json.dumps(page))
    assert harvesting().finished.returncode == 5


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        (b'{"properties": {}}', '(no id that can be read; it begins {"properties": {}})'),
        (b'{"id": 7}', '(no id that can be read; it begins {"id": 7})'),
        (b'{"properties": {"x": NaN, "id": "not it"}, "id": "odd, ]}"}', "odd, ]}"),
        (b'{"id": "deep", "a": %b1%b}' % (b"[" * 5000, b"]" * 5000), "deep"),
        (b'{"id": "\xff"}', '(no id that can be read; it begins {"id": "\ufffd"})'),
        (b"null", "(no id that can be read; it begins null)"),
    ],
)
def test_an_item_that_cannot_be_read_costs_that_item(
    server: Server, harvesting: Harvest, odd: bytes, named: str
) -> None:
    def put_between(page: Page) -> Answer | None:
        if not page.second_look and page.number == 2:
            bodies = b", ".join([*page.bodies[:4], odd, *page.bodies[4:]])
            links = json.dumps([{"rel": "next", "href": "{origin}/stac/search"}])
            return Answer(body=f'{{"links": {links}, "features": [{bodies.decode(errors="surrogateescape")}]}}')
        return None

    server.catalog.twist = put_between
    done = harvesting()
    assert sorted(done.lines) == server.catalog.bodies
    assert [told["id"] for told in done.receipt["unreadable"]] == [named]
    assert not done.receipt["verified"]
    assert named in done.receipt["problems"][0]


def test_a_sort_that_is_promised_and_refused_is_left_out(server: Server, harvesting: Harvest) -> None:
    server.catalog.twist = lambda page: Answer(400, "no sortby") if "sortby" in page.query else None
    done = harvesting()
    assert sorted(done.lines) == server.catalog.bodies
    assert not done.receipt["verified"]


def test_fields_that_are_promised_and_refused_leave_it_unverified(server: Server, harvesting: Harvest) -> None:
    server.catalog.twist = lambda page: Answer(400, "no fields") if page.second_look else None
    done = harvesting()
    assert done.lines == server.catalog.bodies
    assert not done.receipt["verified"]
    assert "refused" in done.receipt["verification"]["reason"]


def test_items_that_the_shard_does_not_own_are_dropped(server: Server, harvesting: Harvest) -> None:
    foreign = json.dumps(json.loads(item(7)) | {"collection": "d", "id": "x"}).encode()

    def add(page: Page) -> None:
        page.bodies.append(item(300))
        page.bodies.append(foreign)

    server.catalog.twist = add
    assert len(harvesting(end="2020-02-01T00:00:00Z").ids) == 31
