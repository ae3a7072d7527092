"""Item harvests of stac-fastapi-pgstac, which GeoCatalog is built on, behind the local GeoCatalog's door.

Harvests that need an environment are of the newest generation; the node script meets both.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from catalogs import DATA, archived
from conftest import running_azure
from flow_runs import Site, running_site
from generations import of_the_newest
from stac_session import StacSession, reader
from stac_stub import Json, Server, harvest, serving, start

from benchmarks.pgstac import NEWEST, Generation, running_pgstac
from spatiobatch.query import query_from

SPAN = ("2024-01-01T00:00:00Z", "2024-01-09T00:00:00Z")
EDGES = ("2024-01-03", "2024-01-05", "2024-01-07")
"""Where a harvest on four task slots cuts that span."""
CHANGES = {
    "before": "2024-06-01T11:59:59.999999Z",
    "before+00:00": "2024-06-01T11:59:59.999999+00:00",
    "at": "2024-06-01T12:00:00Z",
    "at+00:00": "2024-06-01T12:00:00+00:00",
    "microsecond-after": "2024-06-01T12:00:00.000001Z",
    "half-second-after": "2024-06-01T12:00:00.5+00:00",
    "year-after": "2025-06-01T00:00:00Z",
    "never": None,
}
Items = dict[tuple[str, str], bytes]


def collection(name: str) -> bytes:
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [SPAN]}}
    told = {"type": "Collection", "stac_version": "1.0.0", "description": name, "license": "CC0-1.0", "links": []}
    return json.dumps({**told, "id": name, "extent": extent}).encode()


def item(of: str, item_id: str, number: int = 0, moment: str | None = SPAN[0], **properties: Any) -> bytes:
    told: Json = {"type": "Feature", "stac_version": "1.0.0", "id": item_id, "collection": of, "links": []}
    told["geometry"] = {"type": "Point", "coordinates": [number, 0.5]}
    told |= {"bbox": [number, 0.5, number, 0.5], "assets": {"data": {"href": f"https://127.0.0.1/{item_id}.tif"}}}
    return json.dumps(told | {"properties": {"datetime": moment, "number": number, **properties}}).encode()


def moments() -> Iterator[bytes]:
    """Items on and beside the edges of shards, across them, at one instant, and outside the collection's extent."""
    dates: list[Json] = [{"moment": "2024-01-05T12:00:00Z"}] * 60
    dates += [{"moment": moment} for moment in ("2019-05-05T05:05:05.050505Z", "2024-01-06T23:59:59.9999996Z", SPAN[1])]
    for day in EDGES:
        edge, behind, later = f"{day}T00:00:00Z", f"{day}T00:00:00.000001Z", "2024-01-08T00:00:00Z"
        before = f"2024-01-{int(day[-2:]) - 1:02}T23:59:59.999999Z"
        dates += [{"moment": moment} for moment in (before, edge, behind, f"{day}T02:00:00+02:00")]
        ranges = [(before, edge), (before, behind), (edge, behind), (edge, edge), (SPAN[0], edge), (edge, later)]
        dates += [{"moment": None, "start_datetime": one, "end_datetime": other} for one, other in ranges]
        dates += [{"moment": later, "start_datetime": before, "end_datetime": edge}]
        dates += [{"moment": edge, "start_datetime": SPAN[0]}, {"moment": before, "end_datetime": later}]
    yield from (item("moments", f"moment-{number:03}", number, **each) for number, each in enumerate(dates))


def changes() -> Iterator[bytes]:
    for name in ("updated", "_msft:ts"):
        yield from (item("changes", f"{name}-{when}", **{name: moment}) for when, moment in CHANGES.items())


def by_key(bodies: Iterable[bytes]) -> Items:
    keyed = ((json.loads(body), body) for body in bodies)
    return {(told["collection"], told["id"]): body for told, body in keyed}


def real_items() -> Iterator[bytes]:
    """Those of the real data that pgstac takes: not what ends before it begins."""
    for file in DATA.glob("*.ndjson.zst"):
        for line in zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read().splitlines():
            dates = json.loads(line)["properties"]
            if (dates.get("start_datetime") or "") <= (dates.get("end_datetime") or "~"):
                yield line


@pytest.fixture(scope="module")
def real() -> Items:
    return by_key(real_items())


@pytest.fixture(scope="module")
def pgstac(generation: Generation, real: Items) -> Iterator[str]:
    """The address of a pgstac with the generated items and, in the newest where they are at hand, the real ones."""
    collections, items = [collection("moments"), collection("changes")], [*moments(), *changes()]
    if real and generation is NEWEST:
        collections += (DATA / "collections.ndjson").read_bytes().splitlines()
        items += real.values()
    with running_pgstac(collections, items, generation) as address:
        yield address


@pytest.fixture(scope="module")
def site(pgstac: str, tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment before that pgstac."""
    flags = ("--stac-upstream", pgstac, "--clock", "instant")
    folder = tmp_path_factory.mktemp("site")
    with running_site(folder, *flags, resource_group="pgstac", requests_per_second="200") as running:
        running.provision()
        yield running


@pytest.fixture(scope="module")
def stac(site: Site) -> Iterator[StacSession]:
    with reader(site.variables) as session:
        yield session


@pytest.fixture(scope="module")
def door(pgstac: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StacSession]:
    """A reader of that pgstac."""
    folder = tmp_path_factory.mktemp("door")
    with running_azure(folder, "--stac-upstream", pgstac) as variables, reader(variables) as session:
        yield session


class Page(msgspec.Struct):
    """A page, its items as bytes."""

    features: list[msgspec.Raw]
    links: list[Json]


def served(stac: StacSession, *collections: str) -> Items:
    """The items of a plain search, as its pages spell them."""
    bodies: list[bytes] = []
    query: Json | None = {"collections": collections, "limit": 1000}
    while query:
        page = msgspec.json.decode(stac.post("/search", json=query).content, type=Page)
        bodies += map(bytes, page.features)
        query = next((link["body"] for link in page.links if link["rel"] == "next"), None)
    return by_key(bodies)


@of_the_newest
@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real STAC data is not beside the checkout")
def test_real_catalogs_come_back_byte_for_byte(site: Site, stac: StacSession, real: Items, tmp_path: Path) -> None:
    names = tuple({name for name, _ in real})
    found = site.harvest(query_from(content="items", collections=names), output=tmp_path)
    lines = archived(tmp_path)
    assert lines.keys() == real.keys()
    assert lines == served(stac, *names)
    assert (found.manifest.complete, found.manifest.verified) == (True, True)
    counted = {name: totals.items for name, totals in found.manifest.collections.items()}
    assert counted == {name: sum(of == name for of, _ in real) for name in names}


@of_the_newest
def test_an_item_is_in_the_one_shard_that_owns_its_start(site: Site, stac: StacSession, tmp_path: Path) -> None:
    found = site.harvest(query_from(content="items", collections=("moments",)), output=tmp_path)
    receipts = [json.loads(file.read_bytes()) for file in tmp_path.glob("harvests/*/items/*/*.receipt.json")]
    assert {f"{day}T00:00:00Z" for day in EDGES} <= {receipt["start"] for receipt in receipts}
    lines = archived(tmp_path)
    assert lines.keys() == by_key(moments()).keys()
    assert lines == served(stac, "moments")
    assert (found.manifest.complete, found.manifest.verified) == (True, True)


@of_the_newest
def test_a_narrowed_harvest_is_complete_and_brings_what_was_asked_for(site: Site, tmp_path: Path) -> None:
    narrowed = {"datetime": "2024-01-03/2024-01-06", "bbox": "0,0,80,1", "filter": "number > 10"}
    found = site.harvest(query_from(content="items", collections=("moments",), **narrowed), output=tmp_path)
    expected = selected(lambda moment, number: within(moment, "2024-01-03", "2024-01-06") and 10 < number <= 80)
    assert sorted(name for _, name in archived(tmp_path)) == expected
    assert (found.manifest.complete, found.manifest.verified) == (True, True)


def within(moment: datetime, first: str, end: str) -> bool:
    return datetime.fromisoformat(first).astimezone(UTC) <= moment < datetime.fromisoformat(end).astimezone(UTC)


def selected(wanted: Callable[[datetime, int], bool]) -> list[str]:
    """The ids of the generated items with such a start and number."""
    told = [(start(body), json.loads(body)) for body in moments()]
    return [each["id"] for moment, each in told if moment and wanted(moment, each["properties"]["number"])]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


ABOVE_TEN = {"op": ">", "args": [{"property": "number"}, 10]}


@pytest.mark.parametrize(
    ("shard", "wanted"),
    [
        ({}, lambda moment, number: True),
        ({"undated": True}, lambda moment, number: False),
        (
            {"start": "2024-01-03T00:00:00Z", "end": "2024-01-05T00:00:00.000001Z"},
            lambda moment, number: within(moment, "2024-01-03T00:00:00Z", "2024-01-05T00:00:00.000001Z"),
        ),
        ({"bbox": [0, 0, 30.5, 1]}, lambda moment, number: number <= 30),
        ({"filter": ABOVE_TEN}, lambda moment, number: number > 10),
        (
            {"filter": ABOVE_TEN, "start": "2024-01-03T00:00:00Z", "bbox": [0, 0, 30.5, 1]},
            lambda moment, number: within(moment, "2024-01-03T00:00:00Z", "9999-01-01T00:00:00Z") and 10 < number <= 30,
        ),
    ],
    ids=["whole", "undated", "interval", "bbox", "filter", "filter+interval+bbox"],
)
def test_small_pages_bring_each_item_of_a_shard_once(
    pgstac: str, server: Server, tmp_path: Path, shard: Json, wanted: Callable[[datetime, int], bool]
) -> None:
    done = harvest(server, tmp_path, {"GEOCATALOG_URL": pgstac}, collection="moments", page_size=9, **shard)
    assert sorted(done.ids) == selected(wanted)
    assert done.receipt["verified"]


def test_shards_that_stop_at_their_quota_hand_on_every_item_once(pgstac: str, server: Server, tmp_path: Path) -> None:
    ids: list[str] = []
    rest: Json | None = {}
    while rest is not None:
        cut = {"collection": "moments", "page_size": 20, "page_quota": 2, **rest}
        done = harvest(server, tmp_path, {"GEOCATALOG_URL": pgstac}, **cut)
        assert done.receipt["verified"]
        ids += done.ids
        rest = done.receipt["remainder"]
    assert sorted(ids) == selected(lambda moment, number: True)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StacSession]:
    """Our own GeoCatalog with the items that changed."""
    folder = tmp_path_factory.mktemp("changes")
    (folder / "collections.ndjson").write_bytes(collection("changes"))
    (folder / "changes.ndjson").write_bytes(b"\n".join(changes()))
    with running_azure(folder, "--catalog", str(folder)) as variables, reader(variables) as session:
        yield session


@pytest.mark.parametrize("name", ["updated", "_msft:ts"])
def test_what_changed_since_a_second_is_found_by_its_text_without_a_zone(
    door: StacSession, ours: StacSession, name: str
) -> None:
    # Pgstac refuses a timestamp here unless the property is declared a date-time, and before 0.10 its temporal
    # operators compare the item's datetime, whatever they are asked. Such a text sorts before all that name its second.
    since = {"op": ">=", "args": [{"property": name}, "2024-06-01T12:00:00"]}
    asked = {"collections": ["changes"], "filter": since, "filter-lang": "cql2-json", "limit": 100}
    expected = [f"{name}-{when}" for when in CHANGES if when.startswith(("at", "microsecond", "half", "year"))]
    assert sorted(ours.ids(method="POST", **asked)) == sorted(expected)
    assert sorted(door.ids(method="POST", **asked)) == sorted(expected)
