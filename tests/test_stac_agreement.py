"""The local GeoCatalog and stac-fastapi-pgstac, which GeoCatalog is built on, answer the same of the same catalog.

Two generations of it are asked: the one behind the service, and the newest, for what has not changed since. Where they
do not agree, the docstrings of local_azure.geocatalog say so; the cases below are all that do.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from catalogs import without_links
from conftest import running_azure
from generations import of_the_newest, of_the_service
from stac_session import StacSession, reader
from test_pgstac import collection, item, moments

from benchmarks.pgstac import Generation, running_pgstac
from local_azure.geocatalog import demo

Both = tuple[StacSession, StacSession]
Query = dict[str, Any]
SHAPES = {
    "unit": [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]],
    "beside": [[1, 0], [2, 0], [2, 1], [1, 1], [1, 0]],
    "inside": [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75], [0.25, 0.25]],
    "across": [[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5], [0.5, 0.5]],
    "far-west": [[-180, -1], [-178, -1], [-178, 1], [-180, 1], [-180, -1]],
    "far-east": [[178, -1], [180, -1], [180, 1], [178, 1], [178, -1]],
}
ODD: list[dict[str, Any]] = [
    {"text": "Höhen 100% _x", "flag": True, "count": 1},
    {"text": "hoehen", "flag": False, "count": 2.5},
    {"text": None, "flag": None, "count": None},
    {"text": "Zebra", "count": -3, "nested": {"deep": {"value": 7}}},
    {"text": "zebra", "count": 10**15, "with:colon": "a"},
    {"text": 'O\'Neill \\ "quoted"', "count": 1e-7},
]


def shaped() -> Iterator[bytes]:
    """Items of shapes that touch, hold and cross each other, and of properties of every kind."""
    for name, ring in SHAPES.items():
        told = json.loads(item("shaped", f"shape-{name}"))
        west, south, east, north = (*map(min, zip(*ring, strict=True)), *map(max, zip(*ring, strict=True)))
        geometry = {"type": "Polygon", "coordinates": [ring]}
        yield json.dumps(told | {"geometry": geometry, "bbox": [west, south, east, north]}).encode()
    yield from (item("shaped", f"odd-{number}", 100 + number, **properties) for number, properties in enumerate(ODD))


@pytest.fixture(scope="module")
def both(generation: Generation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Readers of the local GeoCatalog and of pgstac behind its door, of one catalog."""
    folder, behind = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("pgstac")
    collections = [*demo.collections(), collection("moments"), collection("shaped")]
    items = [*(body for _, body in demo.items(200)), *moments(), *shaped()]
    (folder / "collections.ndjson").write_bytes(b"\n".join(collections))
    (folder / "items.ndjson").write_bytes(b"\n".join(items))
    with (
        running_pgstac(collections, items, generation) as address,
        running_azure(folder, "--catalog", str(folder), "--geocatalog-limit", "10000:clamp") as local,
        running_azure(behind, "--stac-upstream", address) as upstream,
        reader(local) as ours,
        reader(upstream) as theirs,
    ):
        yield ours, theirs


def pages(stac: StacSession, method: str, path: str, query: Query) -> list[list[str]]:
    """The keys of a search's items, page by page."""
    found = stac.pages(method, path, query)
    return [[f"{each['collection']}/{each['id']}" for each in page["features"]] for page in found]


def agreed(both: Both, query: Query, method: str = "GET", path: str = "/search") -> list[str]:
    """What both find, in the same order on the same pages."""
    ours, theirs = (pages(stac, method, path, query) for stac in both)
    assert ours == theirs
    return [key for page in ours for key in page]


def filtered(both: Both, condition: Query, **more: Any) -> list[str]:
    """What both find by a CQL2 filter in JSON."""
    return agreed(both, {"filter": condition, "filter-lang": "cql2-json", "limit": 1000, **more}, "POST")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("limit", [13, 100, 1000, 20_000])
def test_pages_agree(both: Both, method: str, limit: int) -> None:
    assert len(agreed(both, {"limit": limit}, method)) == 314


def test_pages_of_a_collection_agree(both: Both) -> None:
    assert len(agreed(both, {"limit": 9}, path="/collections/moments/items")) == 102


@pytest.mark.parametrize("keys", ["-datetime", "+id", "-id", "platform,-id", "-end_datetime", "-updated,id"])
def test_orders_agree_to_the_last_null(both: Both, keys: str) -> None:
    assert len(agreed(both, {"sortby": keys, "limit": 60})) == 314


@of_the_service
@pytest.mark.parametrize(
    "keys", ["datetime", "collection", "-collection,datetime", "end_datetime", "text", "-text", "nothing"]
)
def test_ties_go_by_id_downwards_whatever_the_direction(both: Both, keys: str) -> None:
    assert len(agreed(both, {"sortby": keys, "limit": 1000})) == 314


@of_the_service
@pytest.mark.parametrize("keys", ["datetime", "collection", "updated"])
def test_pages_of_an_ascending_sort_skip_and_repeat_the_same_ties(both: Both, keys: str) -> None:
    found = agreed(both, {"sortby": keys, "limit": 7})
    assert len(set(found)) < len(found)
    assert len(set(found)) < 314


@pytest.mark.parametrize("bbox", ["-10,50,0,60", "0,0,1,1", "1,0,1.5,1", "-180,-90,180,90", "0.3,0.3,0.4,0.4"])
def test_boxes_agree(both: Both, bbox: str) -> None:
    assert agreed(both, {"bbox": bbox, "limit": 1000})


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "Point", "coordinates": [1, 0.5]},
        {"type": "MultiPoint", "coordinates": [[0.1, 0.1], [30, 0.5]]},
        {"type": "LineString", "coordinates": [[0, 0.5], [40, 0.5]]},
        {"type": "Polygon", "coordinates": [SHAPES["inside"]]},
    ],
    ids=lambda shape: shape["type"],
)
def test_shapes_agree(both: Both, shape: Query) -> None:
    found = agreed(both, {"intersects": shape, "limit": 1000}, "POST")
    assert found == agreed(both, {"intersects": json.dumps(shape), "limit": 1000})
    assert found


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "asked",
    [
        "2024-01-03T00:00:00Z",
        "2024-01-03T00:00:00.000001Z",
        "2024-01-02T23:59:59.999999Z",
        "2024-01-03T02:00:00+02:00",
        "2024-01-07T00:00:00Z",
        "2024-01-02T23:59:59.999999Z/2024-01-03T00:00:00Z",
        "2024-01-03T00:00:00Z/2024-01-03T00:00:00.000001Z",
        "../2024-01-01T00:00:00Z",
        "/2024-01-01T00:00:00Z",
        "2024-01-08T00:00:00Z/..",
        "2024-01-08T00:00:00Z/",
        "2022-01-01T00:00:00Z/2022-12-31T23:59:59Z",
    ],
)
def test_intervals_agree_to_the_microsecond(both: Both, method: str, asked: str) -> None:
    assert agreed(both, {"datetime": asked, "limit": 1000}, method)


@of_the_newest
def test_what_is_finer_than_a_microsecond_is_rounded(both: Both) -> None:
    # The generation behind the service has Python read the interval of a GET, which cuts it off.
    assert agreed(both, {"datetime": "2024-01-06T23:59:59.9999996Z", "limit": 1000})


@pytest.mark.parametrize(
    "text",
    [
        *("number > 10", "number >= 10 AND number < 12", "number <> 10", "properties.number = 10"),
        *("number BETWEEN 5 AND 8", "number IN (1, 2, 3)", "NOT (number > 3)", "count > 1", "count < 0", "count = 2.5"),
        *("text = 'Zebra'", "NOT (text = 'Zebra')", "CASEI(text) = CASEI('ZEBRA')", "text LIKE 'Z%'"),
        *("text LIKE 'z_bra'", "text LIKE '%100\\%%'", "id LIKE 'odd-%'", "id = 'odd-1'", "flag = TRUE"),
        *("nested.deep.value = 7", "\"with:colon\" = 'a'", "eo:cloud_cover < 25", "platform = 'aircraft'", "gsd = 0.3"),
        *(
            "collection = 'shaped'",
            "collection IN ('shaped', 'moments') AND number < 3",
            "number = 1 OR text = 'zebra'",
        ),
        *("text IS NULL", "text IS NOT NULL", "flag IS NULL", "nothing IS NULL", "datetime IS NOT NULL"),
        *("end_datetime IS NOT NULL", "updated >= '2024-01-01T00:00:00'"),
    ],
)
def test_filters_agree(both: Both, text: str) -> None:
    assert agreed(both, {"filter": text, "limit": 1000})


@of_the_service
@pytest.mark.parametrize("text", ["start_datetime IS NULL", "start_datetime >= '2024-01-02'", "type IS NULL"])
def test_what_is_no_queryable_is_text_or_nothing(both: Both, text: str) -> None:
    assert agreed(both, {"filter": text, "limit": 1000})


@pytest.mark.parametrize("name", ["datetime", "end_datetime"])
def test_no_item_of_pgstac_lacks_a_range(both: Both, name: str) -> None:
    # A lone start_datetime or end_datetime beside a datetime leaves the datetime as both.
    assert agreed(both, {"filter": f"{name} IS NULL"}) == []


@pytest.mark.parametrize("name", ["datetime", "end_datetime"])
@pytest.mark.parametrize("operator", ["=", "<>", "<", "<=", ">", ">="])
@pytest.mark.parametrize("moment", ["2024-01-03T00:00:00Z", "2024-01-03T00:00:00.000001Z"])
def test_moments_agree(both: Both, name: str, operator: str, moment: str) -> None:
    assert filtered(both, {"op": operator, "args": [{"property": name}, {"timestamp": moment}]})


def test_half_open_intervals_agree(both: Both) -> None:
    text = "datetime >= TIMESTAMP('2024-01-03T00:00:00Z') AND datetime < TIMESTAMP('2024-01-05T00:00:00Z')"
    assert agreed(both, {"filter": text, "limit": 1000})


@of_the_service
@pytest.mark.parametrize("name", ["datetime", "end_datetime", "updated"])
@pytest.mark.parametrize(
    "operator",
    [
        *("t_after", "t_before", "t_contains", "t_disjoint", "t_during", "t_equals", "t_finishedBy", "t_finishes"),
        *("t_intersects", "t_meets", "t_metBy", "t_startedBy", "t_starts"),
    ],
)
def test_temporal_operators_compare_the_range_of_an_item(both: Both, name: str, operator: str) -> None:
    operands = [{"property": name}, {"interval": ["2024-01-03T00:00:00Z", "2024-01-05T00:00:00Z"]}]
    filtered(both, {"op": operator, "args": operands}, collections=["moments"])


@pytest.mark.parametrize(
    "operator",
    ["s_intersects", "s_contains", "s_within", "s_equals", "s_touches", "s_overlaps", "s_disjoint", "s_crosses"],
)
def test_spatial_operators_agree(both: Both, operator: str) -> None:
    unit = {"type": "Polygon", "coordinates": [SHAPES["unit"]]}
    found = filtered(both, {"op": operator, "args": [{"property": "geometry"}, unit]}, collections=["shaped"])
    assert found or operator == "s_crosses"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"ids": "odd-1,odd-2"}, 2),
        ({"ids": "none"}, 0),
        ({"collections": "none"}, 0),
        ({"collections": "shaped,none"}, 12),
        ({"collections": "shaped", "ids": "odd-1,moment-001"}, 1),
    ],
)
def test_ids_and_collections_agree(both: Both, asked: Query, found: int) -> None:
    assert len(agreed(both, asked)) == found


@pytest.mark.parametrize(
    "comparisons",
    [
        {"eo:cloud_cover": {"gte": 95}},
        {"number": {"gt": 1, "lt": 4}},
        {"number": {"ne": 1}},
        {"text": {"eq": "zebra"}},
    ],
)
def test_the_query_extension_agrees(both: Both, comparisons: Query) -> None:
    assert agreed(both, {"query": comparisons, "limit": 1000}, "POST")


@pytest.mark.parametrize(
    "fields",
    [
        *("id", "id,properties.number", "-assets", "-properties.number", "properties", "-properties", "id,-properties"),
        *("nothing", "properties.nothing", "+id,+geometry", "properties.nested.deep", "assets.data.href", "-bbox"),
        *("-properties.nested.deep.value", "properties,-properties.number", "-links", "links,-properties"),
    ],
)
def test_fields_agree_but_for_what_is_always_included(both: Both, fields: str) -> None:
    asked = {"fields": fields, "collections": "shaped", "limit": 100}
    ours, theirs = (stac.items(**asked) for stac in both)
    assert [relations(item) for item in ours] == [relations(item) for item in theirs]
    assert bare(ours) == bare(theirs)
    assert len(ours) == 12


def relations(item: Query) -> list[str]:
    """Of an item's links."""
    return [link["rel"] for link in item.get("links", [])]


def bare(items: list[Query]) -> list[Query]:
    """Items without links, id and collection."""
    return [
        {name: value for name, value in item.items() if name not in ("links", "id", "collection")} for item in items
    ]


def test_an_item_and_the_collections_agree(both: Both) -> None:
    ours, theirs = (stac.get("/collections/shaped/items/odd-5").json() for stac in both)
    assert without_links([ours]) == without_links([theirs])
    ours, theirs = (stac.get("/collections").json()["collections"] for stac in both)
    assert sorted(each["id"] for each in ours) == sorted(each["id"] for each in theirs)


@of_the_newest
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        *(
            ("/search", {"datetime": text})
            for text in ("yesterday", "2024-01-03", "../..", "/", "2024-13-01T00:00:00Z")
        ),
        ("/search", {"datetime": "2024-01-05T00:00:00Z/2024-01-03T00:00:00Z"}),
        *(("/search", {"bbox": text}) for text in ("1,2,3", "0,5,1,1", "a,b,c,d")),
        *(("/search", {"limit": text}) for text in ("0", "-1", "x")),
        *(("/search", {"filter": text}) for text in ("eo:cloud_cover <", "datetime > TIMESTAMP('yesterday')")),
        ("/search", {"filter": "gsd = 1", "filter-lang": "cql2-xml"}),
        ("/search", {"intersects": "{}"}),
        ("/search", {"bbox": "0,0,1,1", "intersects": json.dumps({"type": "Point", "coordinates": [0, 0]})}),
        ("/collections/none", {}),
        ("/collections/none/items", {}),
        ("/collections/none/queryables", {}),
        ("/collections/none/items/none", {}),
        ("/collections/shaped/items/none", {}),
    ],
)
def test_refusals_agree(both: Both, path: str, asked: Query) -> None:
    ours, theirs = (stac.get(path, params=asked).status_code for stac in both)
    assert ours == theirs
    assert ours in (400, 404)


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {
            "fields": [{"include": ["id"]}],
        },
        {"sortby": "id"},
        {"sortby": [{"field": "id", "direction": "up"}]},
        {"bbox": [1, 2, 3]},
        {"bbox": [0, 5, 1, 1]},
        {"filter": "id = 'a'", "filter-lang": "cql2-text"},
        {"ids": "a"},
        {"datetime": "yesterday"},
        {"query": {"number": {"startsWith": 1}}},
    ],
    ids=json.dumps,
)
def test_refusals_of_bodies_agree(both: Both, asked: Query) -> None:
    assert [stac.post("/search", json=asked).status_code for stac in both] == [400, 400]


def test_a_box_across_the_antimeridian_is_read_as_documented(both: Both) -> None:
    # Pgstac takes it for the rest of the world. "In cases where the box spans the antimeridian the first value is
    # larger than the third": https://learn.microsoft.com/rest/api/planetarycomputer
    ours, theirs = (stac.ids(bbox="170,-50,-170,50", collections="shaped", limit=1000) for stac in both)
    assert sorted(ours) == ["shape-far-east", "shape-far-west"]
    assert "shape-unit" in theirs
