"""The Parquet is a view: nothing fails its harvest or keeps a reader from a file, and nothing is unsaid."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import pyarrow.parquet
import pytest
import shapely
import zstandard
from faulty import running
from forking import Forked, forked
from parquet_readers import READERS, differences
from test_compaction_script import MEASURED, Compact, Container, compact, item
from test_fuzz_readers import compacted

__all__ = ["compact"]
Json = dict[str, Any]
SQUARE = {"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]]}
NARROW = """
import pathlib, sys
script = pathlib.Path(sys.argv[1]).read_text()
assert "SET threads = 1;" in script
script = script.replace("SET threads = 1;", "SET threads = 1; SET memory_limit = 'LIMIT';")
exec(compile(script, sys.argv[1], "exec"))
"""
"""Runs the script with less memory for the DuckDB that writes the files."""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    with forked("compact_items.py", tmp_path_factory.mktemp("node")) as waiting:
        yield waiting


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with running(Container()) as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(container: Container) -> None:
    container.blobs.clear()


class View:
    """What was made of some items."""

    def __init__(self, container: Container, script: Forked, folder: Path, *lines: bytes) -> None:
        container.archive(*lines)
        self.report, files = compacted(container, script, folder)
        self.files = {file.stem: file for file in files}
        self.listed = {told["id"]: told["problem"] for told in self.report["exceptions"]}

    def rows(self, columns: str, month: str = "2020-01") -> list[tuple[Any, ...]]:
        """Columns of a month's rows, by id."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            query = f"SELECT {columns} FROM read_parquet(?) ORDER BY id"  # noqa: S608  # the columns are ours
            return connection.execute(query, [str(self.files[month])]).fetchall()

    def differences(self, *items: bytes) -> list[str]:
        """What five readers read in another way than it was archived."""
        told = list(map(json.loads, items))
        return [
            some
            for name in READERS
            for file in self.files.values()
            for some in differences(name, file, told, self.report)
        ]


@pytest.fixture
def view(container: Container, script: Forked, tmp_path: Path) -> Any:
    """Makes a view of items."""
    return lambda *lines: View(container, script, tmp_path, *lines)


def test_an_item_with_two_members_of_one_name_is_listed_and_the_others_are_there(view: Any) -> None:
    twice = item("a").replace(b'"properties": {', b'"properties": {"gsd": 10, "gsd": 10, ')
    escaped = item("b").replace(b'"properties": {', b'"properties": {"\\u003agsd": 1, "\\u003Agsd": 2, ')
    harmless = item("d", properties={"text": '":\u003a', "gsd": {"gsd": 1}})
    made = view(twice, escaped, item("c"), harmless)
    assert made.listed == {"a": "it has two members of one name", "b": "it has two members of one name"}
    assert made.rows("id") == [("c",), ("d",)]


@pytest.mark.parametrize(
    ("geometry", "problem"),
    [
        ({"type": "Polygon", "coordinates": [SQUARE["coordinates"][0][:4]]}, "has a ring that is not closed"),  # type: ignore[index]
        ({"type": "LineString", "coordinates": [[1, 1]]}, "has 1 positions where at least 2 must be"),
        ({"type": "Polygon", "coordinates": [[[1, 1], [1, 1]]]}, "has 2 positions where at least 4 must be"),
        ({"type": "LineString", "coordinates": [[1, 1, 500], [2, 2]]}, "has positions that are not all of two or all"),
        ({"type": "Point", "coordinates": [1, 2, 3, 4]}, "has positions that are not all of two or all of three"),
        ({"type": "Point", "coordinates": []}, "has positions that are not all of two or all of three numbers"),
        ({"type": "Polygon", "coordinates": []}, "has a part that is empty or no list"),
        ({"type": "MultiPoint", "coordinates": [[1, "2"]]}, "has coordinates that are no numbers"),
        (
            {"type": "Point", "coordinates": [2**53 + 1, 2]},
            "has coordinates that are no numbers, or none that a double",
        ),
        ({"type": "Point", "coordinates": {"x": 1}}, "has coordinates that are no positions"),
        ({"type": "GeometryCollection", "geometries": []}, "has a part that is empty or no list"),
        ({"type": "Circle"}, "is no GeoJSON geometry"),
        ("POINT (1 2)", "is no GeoJSON geometry"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_geometry_that_readers_stop_at_is_listed_and_the_file_is_readable(
    view: Any, geometry: Any, problem: str
) -> None:
    good = item("good", geometry=SQUARE)
    made = view(item("odd", geometry=geometry), good)
    assert made.listed["odd"].startswith(f"its geometry {problem}")
    assert made.differences(good) == []


def test_every_kind_of_geometry_is_the_wkb_that_shapely_makes(view: Any) -> None:
    line, ring = [[0, 0, 1], [2, 0, 2], [2, 1.5, 3]], [[0, 0, 1], [2, 0, 2], [2, 1.5, 3], [0, 0, 1]]
    inside = {"Point": line[0], "LineString": line, "Polygon": [ring, ring], "MultiPoint": line}
    inside |= {"MultiLineString": [line, ring], "MultiPolygon": [[ring], [ring, ring]]}
    shapes: list[Json] = [{"type": kind, "coordinates": coordinates} for kind, coordinates in inside.items()]
    shapes += [{"type": "GeometryCollection", "geometries": shapes[:3]}]
    flat = json.loads(json.dumps(shapes).replace("0, 0, 1]", "0, 0]").replace("0, 2]", "0]").replace("1.5, 3]", "1.5]"))
    every = [*shapes, *flat]
    made = view(*(item(f"i{number:02}", geometry=shape) for number, shape in enumerate(every)))
    written = pyarrow.parquet.read_table(made.files["2020-01"])["geometry"].to_pylist()
    assert written == [shapely.to_wkb(shapely.from_geojson(json.dumps(s)), flavor="iso", byte_order=1) for s in every]


def test_what_a_geometry_has_beside_its_coordinates_is_kept_as_text(view: Any) -> None:
    named = {"type": "Point", "coordinates": [1, 2], "crs": {"name": "local"}}
    made = view(item("a", geometry=named))
    assert json.loads(made.rows('"item:geometry"')[0][0]) == named
    assert made.report["converted"].keys() == {"geometry"}


def test_projected_geometries_are_wkb_as_stac_geoparquet_has_them(view: Any) -> None:
    many = {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]]}
    shapes = {"a": SQUARE, "b": many}
    items = [
        item(name, properties={"proj:geometry": shape}, assets={"t": {"href": "x", "proj:geometry": shape}})
        for name, shape in shapes.items()
    ]
    made = view(*items)
    wkb = [shapely.to_wkb(shapely.from_geojson(json.dumps(shape)), flavor="iso") for shape in shapes.values()]
    assert made.rows('ST_AsWKB("proj:geometry")::BLOB, assets.t."proj:geometry"') == [(some, some) for some in wkb]
    assert made.differences(*items) == []
    assert geopandas.read_parquet(made.files["2020-01"])["proj:geometry"].crs is None


def test_projected_geometries_that_are_none_or_missing_keep_no_reader_from_the_file(view: Any) -> None:
    items = [item("a", properties={"proj:geometry": SQUARE}), item("b", properties={"proj:geometry": "SQUARE"})]
    items += [item("c"), item("d", assets={"t": {"href": "x", "proj:geometry": 5}})]
    made = view(*items)
    assert made.rows('"proj:geometry" IS NULL, "properties:proj:geometry", "item:assets"')[1:] == [
        (True, '"SQUARE"', None), (True, None, None), (True, None, '{"t":{"href":"x","proj:geometry":5}}')
    ]  # fmt: skip
    assert made.differences(*items) == []


def test_numbers_are_exact_or_text(view: Any) -> None:
    values = {"whole": 2**53 + 1, "beside": 2**53 + 1, "even": 2**53, "huge": 2**70}
    items = [item("a", properties=values), item("b", properties={"beside": 0.5, "even": 0.5})]
    made = view(*items)
    assert made.rows("whole, beside, even, huge")[0] == (2**53 + 1, str(2**53 + 1), float(2**53), str(2**70))
    assert made.report["converted"].keys() == {"properties.beside", "properties.huge"}
    assert made.differences(*items) == []


def test_month_and_column_are_one_moment_and_its_text_is_beside_it(view: Any) -> None:
    items = [item("a", "2021-06-30T23:59:59.9999999Z", {"created": "2021-06-01T00:00:00.1234565Z"}), item("b", None)]
    made = view(*items)
    columns = "strftime(\"datetime\", '%x %X.%f'), \"properties:datetime\", strftime(created, '%f')"
    assert made.rows(columns, "2021-07") == [("2021-07-01 00:00:00.000000", '"2021-06-30T23:59:59.9999999Z"', "123456")]
    assert made.report["converted"].keys() == {"properties.datetime", "properties.created"}
    assert made.differences(*items) == []


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("2021-06-30T23:59:60Z", "2021-07"),
        ("2021-12-31T24:00:00Z", "2022-01"),
        ("9999-12-31T23:59:59.9999994Z", "9999-12"),
        ("9999-12-31T23:59:59.9999999Z", None),
        ("9999-12-31T23:59:60Z", None),
        ("9999-12-31T24:00:00Z", None),
        ("0001-01-01T00:00:00Z", "0001-01"),
        ("0001-01-01T00:00:00+01:00", None),
        ("0000-12-31T00:00:00Z", None),
        ("10000-01-01T00:00:00Z", None),
        ("-0001-01-01T00:00:00Z", None),
    ],
)
def test_a_moment_is_in_its_month_or_listed(view: Any, text: str, month: str | None) -> None:
    made = view(item("a", text))
    assert set(made.files) == ({month} if month else set())
    assert made.listed == ({} if month else {"a": "its datetime cannot be read"})


def test_one_item_that_is_not_as_stac_has_it_keeps_no_reader_from_a_file(view: Any) -> None:
    odd: dict[str, Json] = {
        "links": {"links": [{"href": "a", "rel": "self"}, {"rel": "self"}, None]},
        "assets": {"assets": {"a": {"title": "no address"}, "b": {"href": "b", "roles": "data"}, "c": {"href": "c"}}},
        "lists": {"assets": [1], "links": "x", "stac_extensions": [None, "https://example.com"]},
        "texts": {"stac_version": 1, "collection": 2, "type": 3},
        "none": {"assets": None, "links": ..., "stac_extensions": ..., "type": ...},
        "names": {"datetime": 1, "created": "x", "proj:geometry": "y", "Geometry": 5},
        "dates": {"properties": {"datetime": "2020-01-01T00:00:00Z", "updated": "soon", "title": 5, "created": 6}},
        "taken": {"properties": {"datetime": "2020-01-01T00:00:00Z", "type": 1, "links": 2, "properties": {"a": 1}}},
    }
    items = [item("plain"), *(item(name, **members) for name, members in odd.items())]
    made = view(*items)
    assert made.listed == {}
    assert made.differences(*items) == []


def found_by_box(file: Path, *box: float) -> set[str]:
    """What geopandas finds with its filter by bbox; it refuses where a file declares nothing to filter by."""
    return set(geopandas.read_parquet(file, bbox=box)["id"])


FIJI = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[177, -20], [180, -20], [180, -16], [177, -16], [177, -20]]],
        [[[-180, -20], [-178, -20], [-178, -16], [-180, -16], [-180, -20]]],
    ],
}


def test_a_covering_is_declared_where_every_bbox_holds_its_geometry(view: Any) -> None:
    made = view(item("a", geometry=SQUARE, bbox=[1, 1, 0, 2, 2, 9]), item("b"), item("c", geometry=None, bbox=...))
    assert found_by_box(made.files["2020-01"], 1.4, 2.4, 1.6, 2.6) == {"b"}


@pytest.mark.parametrize(
    "odd",
    [
        {"bbox": ...},
        {"bbox": [177, -20, -178, -16], "geometry": FIJI},
        {"bbox": [8, 8, 9, 9]},
        {"bbox": [1.5, 2.5, 1.4, 2.5]},
    ],
    ids=["no bbox", "across the antimeridian", "elsewhere", "the wrong way round"],
)
def test_no_covering_is_declared_where_one_bbox_is_not_true(view: Any, odd: Json) -> None:
    made = view(item("a"), item("b", **odd))
    with pytest.raises(ValueError, match="bbox"):
        found_by_box(made.files["2020-01"], 0, 0, 9, 9)


@pytest.mark.parametrize(
    "change", [b'"gone": 1e400', b'"v": 1, "v": 2', b'"v": NaN', b'"v": "\\ud800"', b'"v": "\xff"']
)
def test_an_item_that_cannot_be_a_row_is_still_told_apart(
    container: Container, script: Forked, tmp_path: Path, change: bytes
) -> None:
    made = View(container, script, tmp_path, item("a", v=0).replace(b'"v": 0', change), item("b"))
    assert made.listed.keys() == {"a"}
    ids = tmp_path / "ids.parquet"
    ids.write_bytes(container.blobs["harvests/h/ids/c.parquet"])
    assert [row["id"] for row in pyarrow.parquet.read_table(ids).to_pylist()] == ["a", "b"]


def test_many_asset_keys_are_text_in_a_column_of_its_own(view: Any) -> None:
    items = [
        item(
            f"i{n:02}",
            assets={f"tile_{n}_{k}": {"href": f"h{n}/{k}", "title": "t", "roles": ["data"]} for k in range(10)},
        )
        for n in range(40)
    ]
    made = view(*items)
    assert made.report["converted"]["assets"].endswith("it is the column item:assets")
    assert made.differences(*items) == []


def test_five_thousand_names_of_properties_are_columns_and_one_text_of_the_others(view: Any) -> None:
    items = [item(f"i{n:03}", properties={f"p{n}_{k}": n for k in range(100)}) for n in range(50)]
    made = view(*items)
    assert len(made.rows("*")[0]) < 1100
    assert made.report["converted"]["properties.others"].startswith("more than 1,000 columns")
    assert made.differences(*items) == []


def test_names_that_come_anew_with_every_item_take_no_memory(container: Container, compact: Compact) -> None:
    names = [{f"member-{n}-{k}": {"x": k} for k in range(50)} for n in range(1500)]
    container.archive(*(item(f"i{n}", properties={"all": all_, f"{n % 40}": all_}) for n, all_ in enumerate(names)))
    done = compact(command=MEASURED)
    assert done.report["converted"]["properties.all"] == "more than 500 different members"
    assert int(done.finished.stdout) < 300_000


def test_large_items_are_rows_in_bounded_memory(container: Container, compact: Compact) -> None:
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    lines = [
        item(f"i{n}", properties={"log": f"{n}" * (1_000_000 if n % 10 else 4_000_000)}) + b"\n" for n in range(1, 9)
    ]
    packed = [packer.compress(line.replace(b'"id": "i', b'"id": "%d-' % turn)) for turn in range(40) for line in lines]
    container.hold(b"".join([*packed, packer.flush()]))
    done = compact(command=MEASURED)
    assert done.report["failed"] is None
    assert done.report["files"]["2020-01"]["rows"] == 320
    assert int(done.finished.stdout) < 600_000


def wide(number: int) -> bytes:
    """An item with a few of many columns."""
    return item(f"i{number}", "2020-02-01T00:00:00Z", {f"p{(number * 10 + k) % 900}": "x" for k in range(10)})


def test_where_memory_is_short_fewer_columns_hold_all_items(container: Container, compact: Compact) -> None:
    container.archive(item("a"), *map(wide, range(3000)))
    done = compact(command=NARROW.replace("LIMIT", "100MB"))
    assert done.report["failed"] is None
    assert done.report["converted"]["properties.others"].startswith("more than 100 columns")
    assert done.report["files"]["2020-02"]["rows"] == 3000
    assert done.rows("2020-01", "id, p0") == [("a", None)]


def test_a_view_that_cannot_be_written_fails_no_harvest_and_lists_all_items(
    container: Container, compact: Compact
) -> None:
    container.archive(item("a"), item("b", "yesterday"), *map(wide, range(3000)))
    done = compact(command=NARROW.replace("LIMIT", "4MB"))
    report = done.report
    assert "Out of Memory" in report["failed"]
    assert [(told["id"], told["problem"]) for told in report["exceptions"]] == [(None, report["failed"])]
    assert {name: (file["rows"], file["exceptions"]) for name, file in report["files"].items()} == {
        "2020-01": (0, 1), "2020-02": (0, 3000), "undated": (0, 1)
    }  # fmt: skip
    assert not [name for name in container.blobs if name.endswith(".parquet") and "/parquet/" in name]
    assert "harvests/h/ids/c.parquet" in container.blobs
