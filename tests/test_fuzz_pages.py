"""Pages that misbehave at random: the item script archives exactly what the catalog has, or does not claim to."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import zstandard
from forking import Forked, forked
from hypothesis import given, settings
from hypothesis import strategies as st
from node_scripts import Answer
from stac_stub import Catalog, Json, Page, Server, environment, item, serving

Trick = Callable[[Catalog, Page], Answer | None]


def rewritten(pattern: str, by: str) -> Trick:
    """The page with a piece of its text replaced."""
    return lambda catalog, page: Answer(body=re.sub(pattern, lambda _: by, catalog.answer(page).body, count=1))


def answering(body: str, status: int = 200, *, torn: bool = False) -> Trick:
    """Something else than the page."""
    return lambda catalog, page: Answer(status, body, torn=torn)


def cut_in_the_middle(catalog: Catalog, page: Page) -> Answer:
    """Half a page that claims to be whole."""
    body = catalog.answer(page).body
    return Answer(body=body[: len(body) // 2])


def without_a_next_link(catalog: Catalog, page: Page) -> None:
    """The link is left out."""
    page.token = None


def with_an_old_token(catalog: Catalog, page: Page) -> None:
    """The link leads back to the first page's end."""
    page.token = json.loads(catalog.bodies[0])["id"] if page.token else None


def with_items_twice(catalog: Catalog, page: Page) -> None:
    """Every item comes twice."""
    page.bodies = [body for body in page.bodies for _ in range(2)]


def in_another_order(catalog: Catalog, page: Page) -> None:
    """The items come the other way round."""
    page.bodies = page.bodies[::-1]


def with_strangers(catalog: Catalog, page: Page) -> None:
    """An item of another collection is among them."""
    page.bodies = [*page.bodies, item(7).replace(b'"collection": "c"', b'"collection": "d"')]


def empty_but_going_on(catalog: Catalog, page: Page) -> Answer:
    """No items, and a link to the same search."""
    link = {"rel": "next", "method": "POST", "href": "/stac/search", "body": {**page.query, "n": page.number}}
    return Answer(body=json.dumps({"features": [], "links": [link]}))


DEEP = "[" * 100_000
TRICKS: dict[str, Trick] = {
    "cut in the middle": cut_in_the_middle,
    "without a next link": without_a_next_link,
    "with an old token": with_an_old_token,
    "with items twice": with_items_twice,
    "in another order": in_another_order,
    "with strangers": with_strangers,
    "empty but going on": empty_but_going_on,
    "torn": answering("{", torn=True),
    "nothing": answering(""),
    "null": answering("null"),
    "a list": answering("[]"),
    "no features": answering('{"type": "FeatureCollection"}'),
    "features of another type": answering('{"features": {"a": 1}, "links": []}'),
    "features that are no items": answering('{"features": [1, null, "x"], "links": []}'),
    "links of another type": rewritten('"links": .*', '"links": "next"}'),
    "a link without an address": rewritten('"links": .*', '"links": [{"rel": "next"}]}'),
    "a link to elsewhere": rewritten('"links": .*', '"links": [{"rel": "next", "href": "https://example.com/"}]}'),
    "a link that is no address": rewritten('"links": .*', '"links": [{"rel": "next", "href": "http://[::1"}]}'),
    "a link with an odd body": rewritten('"links": .*', '"links": [{"rel": "next", "href": "", "body": [1]}]}'),
    "a number as id": rewritten('"id": "[^"]*"', '"id": 5'),
    "no id": rewritten('"id": "[^"]*", ', ""),
    "half a pair as id": rewritten('"id": "[^"]*"', r'"id": "\\ud800"'),
    "not a number": rewritten('"coordinates": ', '"coordinates": NaN, "c": '),
    "a huge number": rewritten('"coordinates": ', f'"coordinates": 1{"0" * 3000}, "c": '),
    "deep nesting": rewritten('"coordinates": ', f'"coordinates": {DEEP}, "c": '),
    "a deep page": answering(DEEP),
    "dates of another type": rewritten('"datetime": "[^"]*"', '"datetime": {"a": [1]}'),
    "properties of another type": rewritten('"properties": {', '"properties": [], "p": {'),
    "a byte that is no UTF-8": rewritten('"id": "', '"id": "\udcff'),
    "a byte order mark": rewritten("^", "\ufeff"),
    "an error": answering("oops", 500),
    "a refusal": answering("no", 400),
    "gone": answering("gone", 410),
}
ALTERING = {"half a pair as id", "a huge number", "dates of another type", "properties of another type"}
"""Tricks by which an item is served otherwise than it is stored."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    with forked("harvest_items.py", tmp_path_factory.mktemp("node")) as waiting:
        yield waiting


def harvested(script: Forked, server: Server, **shard: Any) -> tuple[Json, list[bytes]] | None:
    """Receipt and archive; None where the script says in a sentence that it failed."""
    server.blobs = {name: body for name, body in server.blobs.items() if name.endswith("budget.json")}
    code, _ = script.run(environment(server, **shard))
    if code:
        assert code in (5, 6)
        assert "harvests/h/items/c/shard.receipt.json" not in server.blobs
        return None
    with zstandard.ZstdDecompressor().stream_reader(server.blobs["harvests/h/items/c/shard.ndjson.zst"]) as reader:
        return json.loads(server.blobs["harvests/h/items/c/shard.receipt.json"]), reader.read().splitlines()


def honest(found: tuple[Json, list[bytes]] | None, catalog: Catalog, tricks: Sequence[str]) -> bool:
    """Whether what is called complete and verified is what the catalog has.

    An item that came under another id counts as deleted; one that came otherwise than it is stored is archived as it
    came.
    """
    if found is None or not found[0]["verified"] or found[0]["verification"]["unsettled_count"]:
        return True
    archived, there = ({json.loads(line)["id"]: line for line in lines} for lines in (found[1], catalog.bodies))
    kept = {name: line for name, line in archived.items() if name not in found[0]["verification"]["deleted"]}
    same = set(kept) == set(there) if ALTERING & set(tricks) else kept == there
    return same and len(archived) == len(found[1]) == found[0]["count"]


def played(server: Server, tricks: Sequence[str], first_look: bool) -> None:
    """Have the pages of one look misbehave in that order, the others not."""
    left = iter(tricks)

    def twist(page: Page) -> Answer | None:
        name = next(left, "") if page.second_look != first_look else ""
        return TRICKS[name](server.catalog, page) if name else None

    server.catalog.twist = twist


MOMENTS = st.integers(0, 5).map(lambda day: f"2020-01-{day + 1:02}T00:00:00Z")


@given(
    st.lists(st.sampled_from(["", *TRICKS]), min_size=1, max_size=6),
    st.lists(MOMENTS, min_size=25, max_size=25),
    st.booleans(),
    st.sampled_from(["filters", "merge", "sorts", ""]),
)
@settings(max_examples=70)
def test_no_misbehaviour_makes_a_harvest_claim_what_it_does_not_have(
    script: Forked, server: Server, tricks: list[str], moments: list[str], first_look: bool, changed: str
) -> None:
    server.catalog = Catalog([item(number, moment) for number, moment in enumerate(moments)])
    if changed:
        setattr(server.catalog, changed, not getattr(server.catalog, changed))
    played(server, tricks, first_look)
    found = harvested(script, server, page_size=4)
    assert honest(found, server.catalog, tricks)


@pytest.mark.parametrize("first_look", [True, False])
@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("place", [1, 3])
def test_each_misbehaviour_alone_is_survived_or_said(
    script: Forked, server: Server, trick: str, place: int, first_look: bool
) -> None:
    server.catalog = Catalog([item(number) for number in range(15)])
    played(server, [*[""] * (place - 1), trick], first_look)
    found = harvested(script, server, page_size=4)
    assert honest(found, server.catalog, [trick])
