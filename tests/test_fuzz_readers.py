"""Whatever items hold, five readers read what is written, and find what was archived or what the report says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from catalogs import DATA
from faulty import running
from forking import Forked, forked
from hypothesis import given, settings
from hypothesis import strategies as st
from node_scripts import CLIENT_ID
from parquet_readers import READERS, differences
from test_compaction_script import PARQUET, WANTED, Container
from test_fuzz_parsers import VALUES

Json = dict[str, Any]
CORNERS = [[0, 0], [2, 0], [2, 1.5], [0, 0]]
PLACES = st.sampled_from(
    [
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "Point", "coordinates": [1, 2, 3.5]},
        {"type": "Point", "coordinates": [1.5, 2], "bbox": [1, 2, 3, 4]},
        {"type": "Point", "coordinates": [1, 2, 3, 4]},
        {"type": "Point", "coordinates": []},
        {"type": "LineString", "coordinates": [[1, 1]]},
        {"type": "LineString", "coordinates": [[1, 1, 500], [2, 2]]},
        {"type": "LineString", "coordinates": [[179, 1], [-179, 1]]},
        {"type": "Polygon", "coordinates": [CORNERS]},
        {"type": "Polygon", "coordinates": [CORNERS[:-1]]},
        {"type": "Polygon", "coordinates": [CORNERS[:1] + CORNERS[-1:]]},
        {"type": "Polygon", "coordinates": []},
        {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]},
        {"type": "MultiLineString", "coordinates": [CORNERS, CORNERS[:2]]},
        {"type": "MultiPolygon", "coordinates": [[CORNERS], [CORNERS, CORNERS]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]},
        {"type": "GeometryCollection", "geometries": []},
        {"type": "Polygon"},
        None,
    ]
)
MOMENTS = st.sampled_from(
    [
        "2021-06-30T23:59:59.9999999Z",
        "2021-06-01T00:00:00.1234567Z",
        "2021-06-01T24:00:00Z",
        "2021-06-30T23:59:60Z",
        "2021-06-01T01:30:00.5+05:30",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.9999999Z",
        "2021-06-01",
        "soon",
        "",
        None,
    ]
)
NUMBERS = st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63, -(2**63), 2**70, 0.5, -0.0, 5e-324, 1e308])
TEXTS = st.sampled_from(["", "null", "1", '"', "{}", "ä 日本 \U0001f600", "\0", "a,b\n", "2021-06-01T00:00:00Z"])
ANYTHING = NUMBERS | TEXTS | VALUES
LINKS = st.sampled_from(
    [
        {"href": "a", "rel": "self"},
        {"href": "b", "rel": "x", "method": "POST", "body": {"a": [1]}},
        {"rel": "x"},
        None,
        5,
    ]
)
ASSETS = st.fixed_dictionaries(
    {"href": st.just("a")}, optional={"title": TEXTS, "roles": st.just(["data"]), "x": ANYTHING}
)
PROJECTED = st.fixed_dictionaries({"href": st.just("a"), "proj:geometry": PLACES})
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "geometry": PLACES,
    "bbox": st.sampled_from([[1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [179, 1, -179, 2], [1, 2], None, [2**60, 0, 0, 0]]),
    "links": st.lists(LINKS | ANYTHING, max_size=2) | ANYTHING,
    "assets": st.dictionaries(st.sampled_from("aAb"), ASSETS | PROJECTED | ANYTHING, max_size=2) | ANYTHING,
    "stac_extensions": st.lists(TEXTS | NUMBERS, max_size=2) | ANYTHING,
    "stac_version": st.sampled_from(["1.0.0", "1.1.0", None, 1]),
    "type": TEXTS | NUMBERS,
    "collection": st.sampled_from(["c", None, 5]),
    "created": ANYTHING,
    "foreign": ANYTHING,
    "Geometry": ANYTHING,
}
PROPERTIES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("datetime", "start_datetime", "end_datetime", "created", "updated"), MOMENTS),
    **dict.fromkeys(("expires", "title", "a", "A", "b", "id", "type", "geometry", "properties", "links"), ANYTHING),
    "proj:geometry": PLACES,
    "numbers": NUMBERS,
    "list": st.lists(ANYTHING, max_size=3),
}
ITEM = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "collection": "c",
    "geometry": {"type": "Point", "coordinates": [1.5, 2]},
    "bbox": [1.5, 2, 1.5, 2],
    "links": [],
    "assets": {"a": {"href": "https://example.com/a"}},
}
HOME = {"datetime": "2021-06-01T00:00:00Z"}


def few(members: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Json]:
    """Some of the members, each with a value of its own kind."""
    some = st.lists(st.sampled_from(sorted(members)), max_size=3, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({name: members[name] for name in names}))


ODD = st.lists(st.tuples(few(MEMBERS), few(PROPERTIES)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with running(Container()) as server:
        yield server


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    with forked("compact_items.py", tmp_path_factory.mktemp("node")) as waiting:
        yield waiting


def compacted(container: Container, script: Forked, folder: Path) -> tuple[Json, list[Path]]:
    """The report on what was archived, and the files."""
    container.want({"shards": [container.part("s1")]})
    environment = {
        "RESULTS_URL": f"{container.origin}/results",
        "HARVEST_ID": "h",
        "AZURE_CLIENT_ID": CLIENT_ID,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": container.origin,
        "COMPACT": WANTED,
    }
    code, said = script.run(environment)
    assert code == 0, said
    files = []
    for name, content in container.blobs.items():
        if name.startswith(PARQUET) and name.endswith(".parquet"):
            files.append(folder / name.rsplit("/", 1)[1])
            files[-1].write_bytes(content)
    return json.loads(container.blobs[f"{PARQUET}/compaction.json"]), files


def check(container: Container, script: Forked, folder: Path, items: list[Json]) -> Json:
    """Hold what all readers read against the items; the report."""
    report, files = compacted(container, script, folder)
    assert report["failed"] is None
    assert sum(file["rows"] + file["exceptions"] for file in report["files"].values()) == len(items)
    assert [found for reader in READERS for file in files for found in differences(reader, file, items, report)] == []
    return report


def odd_items_are_read_as_they_were(container: Container, script: Forked, folder: Path, examples: int) -> None:
    @given(ODD)
    @settings(max_examples=examples)
    def fuzz(drawn: list[tuple[Json, Json]]) -> None:
        items = [
            {**ITEM, "id": f"i{number}", **members, "properties": {**HOME, **properties}}
            for number, (members, properties) in enumerate(drawn)
        ]
        container.blobs.clear()
        container.archive(*(json.dumps(item).encode() for item in items))
        check(container, script, folder, items)

    fuzz()


def test_five_readers_find_odd_items_as_they_were(container: Container, script: Forked, tmp_path: Path) -> None:
    odd_items_are_read_as_they_were(container, script, tmp_path, 25)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_five_readers_find_many_odd_items_as_they_were(container: Container, script: Forked, tmp_path: Path) -> None:
    odd_items_are_read_as_they_were(container, script, tmp_path, 1000)


def real(collection: str) -> bytes:
    """An archived shard of real items, without what is there twice."""
    lines = (
        zstandard.ZstdDecompressor().stream_reader((DATA / f"{collection}.ndjson.zst").read_bytes()).read().splitlines()
    )
    return b"\n".join({json.loads(line)["id"]: line for line in lines}.values()) + b"\n"


def real_items_are_read_as_they_were(
    container: Container, script: Forked, folder: Path, collection: str, most: int | None
) -> None:
    lines = real(collection).splitlines(keepends=True)[:most]
    container.blobs.clear()
    container.hold(zstandard.compress(b"".join(lines)))
    assert check(container, script, folder, list(map(json.loads, lines)))["exceptions"] == []


@pytest.mark.skipif(not DATA.exists(), reason="needs the sample catalogs beside the checkout")
@pytest.mark.parametrize("collection", ["openaerialmap", "naip", "sentinel-2-l2a", "landsat-c2-l2"])
def test_five_readers_find_real_items_as_they_were(
    container: Container, script: Forked, tmp_path: Path, collection: str
) -> None:
    real_items_are_read_as_they_were(container, script, tmp_path, collection, 60)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not DATA.exists(), reason="needs the sample catalogs beside the checkout")
@pytest.mark.parametrize("collection", ["openaerialmap", "naip", "sentinel-2-l2a", "landsat-c2-l2"])
def test_five_readers_find_all_real_items_as_they_were(
    container: Container, script: Forked, tmp_path: Path, collection: str
) -> None:
    real_items_are_read_as_they_were(container, script, tmp_path, collection, None)
