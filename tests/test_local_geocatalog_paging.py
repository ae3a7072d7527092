"""Pages of the local GeoCatalog: every byte as it was stored, and nothing missing or twice but where pgstac does so."""

import json
import os
import shutil
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
@pytest.mark.parametrize("fields", ["-datetime", "-datetime,-id", "datetime,id", "id", "-id", "properties.number,id"])
def test_pages_of_a_collection_hold_every_item_once(stac: StacSession, method: str, limit: int, fields: str) -> None:
    found = keys(stac.items(method, limit=limit, **sorted_by(method, fields)))
    assert sorted(found) == sorted(key for key in LINES if key.startswith("first/"))


def sorted_by(method: str, fields: str) -> dict[str, Any]:
    """A search of the first collection in that order."""
    if method == "GET":
        return {"collections": "first", "sortby": fields}
    directions = {True: "desc", False: "asc"}
    split = [(field.lstrip("-"), directions[field.startswith("-")]) for field in fields.split(",")]
    return {"collections": ["first"], "sortby": [{"field": name, "direction": way} for name, way in split]}


@pytest.mark.parametrize("field", ["datetime", "properties.number"])
def test_pages_of_an_ascending_sort_that_does_not_name_the_id_skip_and_repeat_ties(
    stac: StacSession, field: str
) -> None:
    found = keys(stac.items(collections="first", sortby=field, limit=5))
    assert len(set(found)) < len(found)
    assert len(set(found)) < len([key for key in LINES if key.startswith("first/")])


def test_items_of_one_id_and_moment_in_two_collections_pass_for_one_at_the_end_of_a_page(stac: StacSession) -> None:
    assert len(stac.items(ids="same-00,same-01", limit=1)) == 2
    assert len(stac.items(ids="same-00,same-01", limit=4)) == 4


def test_reverse_order_is_the_mirror_image(stac: StacSession) -> None:
    up = keys(stac.items(sortby="datetime,id", collections="first", limit=4))
    assert keys(stac.items(sortby="-datetime,-id", collections="first", limit=7)) == up[::-1]


def test_default_order_is_newest_first_then_id_downwards(stac: StacSession) -> None:
    dated = stac.ids(datetime=f"{DAY}/{LATER}", collections="first", limit=4)
    assert dated[:3] == ["microsecond-later", "same-24", "same-23"]


def test_ties_go_by_id_downwards_whatever_the_direction(stac: StacSession) -> None:
    down = ["same-04", "same-03", "same-02", "same-01", "same-00"]
    for order in ("datetime", "-datetime", "collection", "-collection", "properties.number"):
        assert stac.ids(collections="second", sortby=order) == down
    assert stac.ids(collections="second", sortby="datetime,id") == down[::-1]


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
    assert len(page["features"]) == 10


def test_pages_have_the_recorded_members_in_the_recorded_order(stac: StacSession) -> None:
    page = stac.get("/search", params={"limit": 1}).json()
    assert list(page) == ["type", "links", "features"]
    assert [link["rel"] for link in page["links"]] == ["root", "self", "next"]
    page = stac.get("/collections/first/items", params={"limit": 1}).json()
    assert list(page) == ["type", "features", "links"]
    assert [link["rel"] for link in page["links"]] == ["collection", "parent", "root", "self", "next"]


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
    answer = stac.get("/search", params={"token": "next:first:gone"})
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (500, "InternalServerError")


def test_token_names_an_item_and_means_the_place_where_that_item_is_now(tmp_path: Path) -> None:
    catalog, days = tmp_path / "catalog", {f"day-{n}": f"2024-03-0{n}T00:00:00Z" for n in range(1, 7)}
    catalog.mkdir()
    (catalog / "collections.ndjson").write_text('{"type":"Collection","id":"first","links":[]}')

    def publish() -> None:
        lines = [json.dumps(item(name, datetime=moment)) for name, moment in days.items()]
        (catalog / "first.ndjson").write_text("\n".join(lines))

    publish()
    with running_azure(tmp_path, "--catalog", str(catalog)) as settings, reader(settings) as session:
        (following,) = [link for link in session.get("/search?limit=2").json()["links"] if link["rel"] == "next"]
    assert "token=next%3Afirst%3Aday-5" in following["href"]
    days["day-5"] = "2024-03-02T12:00:00Z"
    publish()
    with running_azure(tmp_path, "--catalog", str(catalog)) as settings, reader(settings) as session:
        assert [found["id"] for found in session.get(following["href"]).json()["features"]] == ["day-2", "day-1"]


def test_collections_change_in_their_links_only(stac: StacSession) -> None:
    first = stac.get("/collections/first").json()
    assert first.pop("links")
    assert first == {"type": "Collection", "id": "first", "number": 1.0}


def test_collection_with_a_number_that_python_cannot_hold_is_served_as_it_is(tmp_path: Path) -> None:
    line = '{"type":"Collection","id":"far","links":[],"example:distance":1E400}'
    (tmp_path / "collections.ndjson").write_text(line)
    with running_azure(tmp_path, "--catalog", str(tmp_path)) as settings, reader(settings) as session:
        assert '"example:distance":1E400' in session.get("/collections").text
        assert '"example:distance":1E400' in session.get("/collections/far").text


def test_changed_source_is_served_after_a_restart(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog")
    with running_azure(tmp_path, "--catalog", str(catalog)) as settings, reader(settings) as session:
        assert len(session.items(limit=1000)) == len(ITEMS)
    with catalog.joinpath("second.ndjson").open("a") as file:
        file.write(json.dumps(item("new", collection="second", datetime=DAY)))
    with running_azure(tmp_path, "--catalog", str(catalog)) as settings, reader(settings) as session:
        assert len(session.items(limit=1000)) == len(ITEMS) + 1


def test_another_folder_is_served_after_a_restart_on_the_same_state(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "collections.ndjson").write_text(f'{{"type":"Collection","id":"{name}","links":[]}}')
        (tmp_path / name / "items.ndjson").write_text(json.dumps(item(f"of-{name}", collection=name, datetime=DAY)))
    for name in ("one", "other", "one"):
        with running_azure(tmp_path, "--catalog", str(tmp_path / name)) as settings, reader(settings) as session:
            assert session.ids() == [f"of-{name}"]


def test_a_folder_that_has_taken_the_place_of_another_is_served(tmp_path: Path) -> None:
    for name, folder in (("one", "catalog"), ("two", "later")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "collections.ndjson").write_text('{"type":"Collection","id":"c","links":[]}')
        (tmp_path / folder / "c.ndjson").write_text(json.dumps(item(name, collection="c", datetime=DAY)))
        for file in (tmp_path / folder).iterdir():
            os.utime(file, (0, 0))
    with running_azure(tmp_path, "--catalog", str(tmp_path / "catalog")) as settings, reader(settings) as session:
        assert session.ids() == ["one"]
    shutil.rmtree(tmp_path / "catalog")
    (tmp_path / "later").rename(tmp_path / "catalog")
    with running_azure(tmp_path, "--catalog", str(tmp_path / "catalog")) as settings, reader(settings) as session:
        assert session.ids() == ["two"]
