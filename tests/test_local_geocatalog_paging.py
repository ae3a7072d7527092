"""Pages of the local GeoCatalog: nothing missing, nothing twice, every byte as it was stored."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from conftest import running_azure
from stac_session import StacSession, reader

DAY = "2024-03-01T00:00:00Z"
LATER = "2024-03-01T00:00:00.000001Z"


def item(item_id: str, collection: str = "first", **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": collection,
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "properties": properties,
        "links": [],
        "assets": {},
    }


ITEMS = [
    *(item(f"same-{n:02d}", datetime=DAY) for n in range(25)),
    *(item(f"same-{n:02d}", collection="second", datetime=DAY) for n in range(5)),
    item("microsecond-later", datetime=LATER, number=7.50),
    item("other-zone", datetime="2024-03-01T01:00:00+01:00"),
    item("range", datetime=DAY, start_datetime="2024-01-01T00:00:00Z", end_datetime="2024-02-01T00:00:00Z"),
    item("no-datetime", datetime=None, start_datetime="2024-04-01T00:00:00Z", end_datetime="2024-05-01T00:00:00Z"),
    item("lone-start", datetime=DAY, start_datetime="2020-01-01T00:00:00Z", end_datetime=None),
    item("backwards", start_datetime="2024-06-02T00:00:00Z", end_datetime="2024-06-01T00:00:00Z"),
    item("undated", datetime=None),
    item("a:colon", datetime="2024-03-02T00:00:00Z", place="Zürich \u2603"),
]
LINES = {
    f"{line['collection']}/{line['id']}": json.dumps(line, indent=None, separators=(" , ", ": ")).encode()
    for line in ITEMS
}


def write_catalog(folder: Path) -> Path:
    """A catalog folder whose lines no usual encoder would write."""
    folder.mkdir()
    collections = [{"type": "Collection", "id": name, "links": [], "number": 1.0} for name in ("first", "second")]
    folder.joinpath("collections.ndjson").write_text("\n".join(map(json.dumps, collections)))
    first = [line for key, line in LINES.items() if key.startswith("first/")]
    replaced = json.dumps(item("same-00", datetime="1999-01-01T00:00:00Z")).encode()
    folder.joinpath("first.ndjson.zst").write_bytes(zstandard.compress(b"\n".join([replaced, *first])))
    second = [line for key, line in LINES.items() if key.startswith("second/")]
    folder.joinpath("second.ndjson").write_bytes(b"\n".join(second) + b"\n\n")
    return folder


@pytest.fixture(scope="module")
def stac(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StacSession]:
    folder = tmp_path_factory.mktemp("azure")
    flags = ("--catalog", str(write_catalog(folder / "catalog")))
    with running_azure(folder, *flags) as settings, reader(settings) as session:
        yield session


def keys(items: list[dict[str, Any]]) -> list[str]:
    return [f"{found['collection']}/{found['id']}" for found in items]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("limit", [1, 3, 5, 1000])
@pytest.mark.parametrize("field", ["datetime", "-datetime", "id", "-id", "properties.number"])
def test_pages_hold_every_item_once(stac: StacSession, method: str, limit: int, field: str) -> None:
    direction = {"field": field.lstrip("-"), "direction": "desc" if field.startswith("-") else "asc"}
    found = keys(stac.items(method, limit=limit, sortby=field if method == "GET" else [direction]))
    assert sorted(found) == sorted(LINES)


def test_reverse_order_is_the_mirror_image(stac: StacSession) -> None:
    up = keys(stac.items(sortby="datetime,id", limit=4))
    assert keys(stac.items(sortby="-datetime,-id", limit=7)) == up[::-1]


def test_default_order_is_newest_first_then_id_downwards(stac: StacSession) -> None:
    dated = stac.ids(datetime=f"{DAY}/{LATER}", collections="first", limit=4)
    assert dated[:3] == ["microsecond-later", "same-24", "same-23"]


def test_ties_go_by_collection_and_id_in_the_direction_of_the_first_key(stac: StacSession) -> None:
    up = keys(stac.items(sortby="datetime", ids="same-00,same-01", limit=3))
    assert up == ["first/same-00", "first/same-01", "second/same-00", "second/same-01"]
    assert keys(stac.items(sortby="-datetime", ids="same-00,same-01", limit=3)) == up[::-1]


def test_item_bytes_are_the_stored_ones(stac: StacSession) -> None:
    page = stac.get("/search", params={"limit": 100}).content
    assert all(line in page for line in LINES.values())


def test_one_item_is_answered_as_stored(stac: StacSession) -> None:
    answer = stac.get("/collections/first/items/a:colon")
    assert answer.content == LINES["first/a:colon"]
    assert answer.headers["content-type"] == "application/geo+json"


def test_last_line_of_an_id_wins(stac: StacSession) -> None:
    assert stac.get("/collections/first/items/same-00").json()["properties"]["datetime"] == DAY


def test_items_of_a_collection_are_paged(stac: StacSession) -> None:
    assert sorted(keys(stac.items(path="/collections/second/items", limit=2))) == [
        f"second/same-{n:02d}" for n in range(5)
    ]


def test_page_without_a_limit_has_ten_items(stac: StacSession) -> None:
    page = stac.get("/search").json()
    assert len(page["features"]) == page["numberReturned"] == 10
    assert "numberMatched" not in page


def test_next_link_keeps_the_api_version_and_the_public_address(stac: StacSession) -> None:
    (link,) = [link for link in stac.get("/search").json()["links"] if link["rel"] == "next"]
    assert link["href"].startswith(f"{stac.root}/search?api-version=")


def test_interval_is_closed_on_both_sides(stac: StacSession) -> None:
    assert set(stac.ids(datetime=f"{LATER}/2024-03-02T00:00:00Z")) == {"microsecond-later", "a:colon"}


def test_instant_matches_to_the_microsecond(stac: StacSession) -> None:
    assert stac.ids(datetime=LATER) == ["microsecond-later"]


def test_what_is_finer_than_a_microsecond_is_rounded(stac: StacSession) -> None:
    assert stac.ids(datetime="2024-03-01T00:00:00.0000005Z") == ["microsecond-later"]
    assert stac.ids(datetime="2024-03-01T00:00:00.0000014Z") == ["microsecond-later"]


def test_filter_makes_a_half_open_interval(stac: StacSession) -> None:
    text = f"datetime >= TIMESTAMP('{LATER}') AND datetime < TIMESTAMP('2024-03-02T00:00:00Z')"
    assert stac.ids(filter=text) == ["microsecond-later"]


def test_range_of_an_item_is_its_start_and_end(stac: StacSession) -> None:
    assert stac.ids(datetime="2024-01-15T00:00:00Z") == ["range"]
    assert stac.ids(datetime="2024-05-01T00:00:00Z") == ["no-datetime"]
    assert "range" not in stac.ids(datetime=DAY)


def test_lone_start_leaves_the_datetime(stac: StacSession) -> None:
    assert "lone-start" in stac.ids(datetime=DAY)
    assert stac.ids(datetime="../2023-12-31T00:00:00Z") == []


def test_range_that_ends_before_it_starts_is_served(stac: StacSession) -> None:
    assert stac.ids(datetime="2024-06-02T00:00:00Z/..") == ["backwards"]


def test_undated_item_matches_no_interval_and_is_found_by_filter(stac: StacSession) -> None:
    assert "undated" not in stac.ids(datetime="1900-01-01T00:00:00Z/..")
    assert stac.ids(filter="datetime IS NULL") == ["undated"]


def test_token_of_an_item_that_is_gone_fails(stac: StacSession) -> None:
    assert stac.get("/search", params={"token": "next:first:gone"}).status_code == 500


def test_collections_change_in_their_links_only(stac: StacSession) -> None:
    first = stac.get("/collections/first").json()
    assert first.pop("links")
    assert first == {"type": "Collection", "id": "first", "number": 1.0}


def test_changed_source_is_served_after_a_restart(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog")
    with running_azure(tmp_path, "--catalog", str(catalog)) as settings, reader(settings) as session:
        assert len(session.items(limit=1000)) == len(ITEMS)
    with catalog.joinpath("second.ndjson").open("a") as file:
        file.write(json.dumps(item("new", collection="second", datetime=DAY)))
    with running_azure(tmp_path, "--catalog", str(catalog)) as settings, reader(settings) as session:
        assert len(session.items(limit=1000)) == len(ITEMS) + 1
