"""Five readers of a stac-geoparquet file, and whether what they read is what was archived."""

import json
import math
import re
import runpy
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import numpy
import pyarrow as pa
import pyarrow.parquet
import rustac
import shapely
from node_scripts import SCRIPTS
from stac_geoparquet.arrow import stac_table_to_items

Json = dict[str, Any]
SCRIPT = runpy.run_path(str(SCRIPTS / "compact_items.py"))
KNOWN: dict[str, Json] = SCRIPT["PARTS"]
LEFT_OUT = {("rustac", "stac_version"), ("rustac", "type"), ("geopandas", "bbox")}
"""Rustac makes 1.1.0 of 1.0.0 and features of all; geopandas leaves out what it can filter by."""
COLUMN = re.compile(r"it is the column (.+)$")


def by_duckdb(file: Path) -> Iterator[Json]:
    """Rows as DuckDB reads them."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = dict(row[:2] for row in connection.execute("DESCRIBE FROM read_parquet(?)", [str(file)]).fetchall())
        geometries = [name for name, kind in columns.items() if kind.startswith("GEOMETRY")]
        shown = ", ".join(f'ST_AsWKB("{name}")::BLOB AS "{name}"' for name in geometries)
        answer = connection.execute(f"SELECT * REPLACE ({shown}) FROM read_parquet(?)", [str(file)])  # noqa: S608  # names of ours
        yield from (dict(zip(columns, row, strict=True)) for row in answer.fetchall())


def by_pyarrow(file: Path) -> Iterator[Json]:
    """Rows as pyarrow reads them."""
    yield from pyarrow.parquet.read_table(file).to_pylist()


def by_geopandas(file: Path) -> Iterator[Json]:
    """Rows as geopandas reads them; without a word it makes floats of integers where some are missing."""
    frame = geopandas.read_parquet(file, to_pandas_kwargs={"integer_object_nulls": True})
    yield from frame.to_dict("records")


def by_rustac(file: Path) -> Iterator[Json]:
    """Items as rustac reads them; version 0.9.18 reads no file with a row without a geometry."""
    if all(row["geometry"] for row in pyarrow.parquet.read_table(file, columns=["geometry"]).to_pylist()):
        yield from map(flat, rustac.read_sync(str(file))["features"])


def by_stac_geoparquet(file: Path) -> Iterator[Json]:
    """Items as stac-geoparquet reads them, of the rows that it can read.

    Version 0.8.3 stops at a null in a column of bboxes or geometries, and at collections of geometries.
    """
    table = pyarrow.parquet.read_table(file)
    assets = table.schema.field("assets").type if "assets" in table.column_names else []
    projected = [asset.name for asset in assets if asset.type.get_field_index("proj:geometry") >= 0]

    def reads(row: Json) -> bool:
        geometries = [row["geometry"], row.get("proj:geometry", row["geometry"])]
        geometries += [(row["assets"][name] or {}).get("proj:geometry") for name in projected]
        boxed = row.get("bbox") is not None and None not in row["bbox"].values()
        return boxed and all(geometries) and "GeometryCollection" not in map(kind_of, geometries)

    some = table.filter(pa.array(list(map(reads, table.to_pylist()))))
    if len(some):
        yield from map(flat, stac_table_to_items(some))


def kind_of(wkb: bytes) -> str:
    """The kind of a geometry."""
    return str(shapely.from_wkb(wkb).geom_type)


def flat(item: Json) -> Json:
    """An item as the row that it came from."""
    return {**{name: value for name, value in item.items() if name != "properties"}, **(item.get("properties") or {})}


READERS: dict[str, Callable[[Path], Iterator[Json]]] = {
    "duckdb": by_duckdb,
    "pyarrow": by_pyarrow,
    "geopandas": by_geopandas,
    "rustac": by_rustac,
    "stac-geoparquet": by_stac_geoparquet,
}


def differences(reader: str, file: Path, archived: Iterable[Json], report: Json) -> list[str]:
    """What a reader gives back in another way than it was archived, and the report does not say so."""
    columns = {path: found[1] for path, said in report["converted"].items() if (found := COLUMN.search(said))}
    items = {item["id"]: item for item in archived}
    found = []
    for row in READERS[reader](file):
        item = items[row["id"]]
        for source, members in (("item", item), ("properties", item.get("properties") or {})):
            for name, was in members.items():
                if (source, name) == ("item", "properties") or (reader, name) in LEFT_OUT:
                    continue
                read = value_of(row, source, name, columns)
                if not equal(read, was) and not (reader == "rustac" and rustac_made(read, was)):
                    found.append(f"{reader}: {row['id']}: {source}.{name} was {was!r:.300}, and is {read!r:.300}")
    return found


def rustac_made(read: Any, was: Any) -> bool:
    """Whether rustac made it so.

    It makes nothing of an empty list or an empty list of nothing, today of no datetime, a geometry of a collection that
    holds one alone, and two numbers of three where another row has two.
    """
    if was is None and moment_of(str(read)):
        return True
    if not isinstance(was, dict) or not isinstance(read, dict):
        return (was or None, read or None) == (None, None)
    if was.get("type") == "GeometryCollection" and equal(read, was["geometries"][0]):
        return len(was["geometries"]) == 1
    if "coordinates" not in was:
        return False
    ground = [shapely.force_2d(shapely.from_geojson(json.dumps(geometry))) for geometry in (read, was)]
    return bool(ground[0] == ground[1]) and not shapely.has_z(shapely.from_geojson(json.dumps(read)))


def value_of(row: Json, source: str, name: str, columns: dict[str, str]) -> object:
    """What a row holds of a member: in a column of its name, of another name, or among the others."""
    path = name if source == "item" else f"{source}.{name}"
    beside = row.get(columns.get(path, ""))
    if name not in KNOWN[source]:
        others = columns.get("others" if source == "item" else f"{source}.others", "")
        if path in columns or name in row or others not in row:
            return row.get(columns.get(path, name))
        return as_json(row[others]).get(name)
    if nothing(beside):
        return row.get(name)
    there, odd = row.get(name), as_json(beside)
    if isinstance(odd, dict) and name == "assets":
        return {**(there or {}), **odd}
    if isinstance(odd, list) and name in ("links", "stac_extensions") and not nothing(there):
        return Both([*there, *odd])
    return odd


class Both(list[Any]):
    """Elements that came from two columns, in any order."""


def as_json(value: Any) -> Any:
    """JSON text as what it says, and other text as it is; rustac reads JSON text so by itself."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def nothing(value: Any) -> bool:
    """Whether nothing is there: null, what is missing and an object without members are the same to Parquet."""
    if isinstance(value, dict):
        return all(map(nothing, value.values()))
    if isinstance(value, Both):
        return False
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "NaT"


def equal(read: Any, was: Any) -> bool:
    """Whether what was read is what was archived."""
    if isinstance(read, numpy.ndarray):
        read = read.tolist()
    if nothing(read) or (nothing(was) and not isinstance(was, dict)):
        return nothing(was) and nothing(read)
    if isinstance(read, shapely.Geometry | bytes):
        geometry = read if isinstance(read, shapely.Geometry) else shapely.from_wkb(read)
        return equal(json.loads(shapely.to_geojson(geometry)), was)
    if isinstance(was, dict):
        return isinstance(there := as_json(read), dict) and all(
            equal(there.get(name), was.get(name)) for name in there.keys() | was.keys()
        )
    return equal_lists(read, was) if isinstance(was, list) else equal_scalars(read, was)


def equal_scalars(read: Any, was: Any) -> bool:
    """Whether a text, a moment, a number or a truth was read."""
    if isinstance(read, datetime):
        return SCRIPT["instant"](was) == read
    if isinstance(was, str):
        return was in (read, as_json(read)) or moment_of(read) == moment_of(was) is not None
    return as_json(read) == was and isinstance(as_json(read), bool) == isinstance(was, bool)


def equal_lists(read: Any, was: list[Any]) -> bool:
    """Whether the same elements were read."""
    if isinstance(read, dict):
        read = [
            read[corner] for corner in ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax") if read.get(corner) is not None
        ]
    if isinstance(read, Both):
        return len(read) == len(was) and all(any(equal(one, other) for one in read) for other in was)
    there = as_json(read)
    return isinstance(there, list | tuple) and len(there) == len(was) and all(map(equal, there, was))


def moment_of(text: str) -> datetime | None:
    """The moment that a text names."""
    moment: datetime | None = SCRIPT["instant"](text)
    return moment
