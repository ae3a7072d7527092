"""Turn the archived items of one collection into stac-geoparquet, one file for each month of their moment (UTC).

Runs alone on a Batch node; needs `requests`, `azure-identity`, `msgspec`, `zstandard` and `duckdb`. Environment:
`RESULTS_URL` (the container), `HARVEST_ID`, `AZURE_CLIENT_ID` (the node identity's), `COMPACT` (JSON, see `Wanted`);
`READ_TIMEOUT_SECONDS`, 60 by default.
Below `harvests/<id>/` it reads `items/<segment>/<shard>.ndjson.zst` and writes `parquet/<segment>/<yyyy-mm>.parquet`,
`undated.parquet`, `ids/<segment>.parquet` and, last, `parquet/<segment>/compaction.json`; where it is told with which
harvests to compare, `changes/<segment>.ndjson` too. Does the same again on a second run.

An id that two shards hold, since its date was edited while the harvest ran, keeps its newest version: the other one is
taken out of its shard's archive and receipt before anything else.

Two looks at the items. The first divides them by month, on disk, and learns what types each member has in the whole
collection, so that all its files have the same columns and none is lost. The second has DuckDB write the files.
They hold:
- a column for each member of an item and for each of its properties, after https://github.com/stac-utils/stac-geoparquet;
- as JSON text, in every row, what differs in type between items or has no type (`converted` in the report says which);
- every item but the *exceptions*, those of which one cannot make a row: no JSON, no usable geometry, bbox or dates.
An item without a geometry keeps its row.

Reading order: `compact` says what happens; `Spill` divides, `Ids` tells versions apart, `Shape` learns, `Columns` and
`Month` write, `Footprints` says in the report where the rows lie, `Storage` asks.

Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 storage refused it (401, 403);
5 an archive is not what a harvest leaves, or rows got lost; 6 out of reach, or unavailable after all attempts.
"""

import hashlib
import io
import json
import logging
import math
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import msgspec
import requests
import zstandard
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential

Json = dict[str, Any]

CONFIGURATION, NO_TOKEN, REFUSED, UNEXPECTED, UNAVAILABLE = 2, 3, 4, 5, 6
REQUIRED = ("RESULTS_URL", "HARVEST_ID", "AZURE_CLIENT_ID", "COMPACT")
ADDRESS = re.compile(r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1))(:\d+)?(/[^\s@?#\\]*)?")
STORAGE_SCOPE = "https://storage.azure.com/.default"
STORAGE_VERSION = {"x-ms-version": "2023-11-03"}
TRANSIENT = {408, 429, 500, 502, 503, 504}
ATTEMPTS, TOKEN_ATTEMPTS = 10, 4
READ_SECONDS = float(os.environ.get("READ_TIMEOUT_SECONDS", "60"))
CONNECT_AND_READ_SECONDS = (10, READ_SECONDS)
SECRET = re.compile(r"(?i:(?<=\bsig=))[^&\s\"'<>\\]+|\beyJ[\w-]{8,}(\.[\w-]*)*")
"""Signature of a SAS and access token: services repeat what they were sent."""
CONTRIBUTOR = "the node identity may not use it; assign it the role Storage Blob Data Contributor on the account"

UNDATED = "undated"
MOMENTS = ("datetime", "start_datetime", "end_datetime")
DATES = (*MOMENTS, "created", "updated", "published", "expires", "unpublished")
"""Properties that stac-geoparquet has as timestamps. The first three decide about an item, the others become text."""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?")
LONGEST_LINE = 15_000_000
"""DuckDB reads no JSON object above 16 MiB; such an item is an exception."""
DEEPEST, MOST_MEMBERS = 16, 500
"""What is nested deeper, or has more different members, becomes JSON text: each member is a column to Parquet."""
BUFFERED_BYTES, FRAME_BYTES = 16 << 20, 1 << 20
ROW_GROUP_ROWS = 5_000
MEMORY_LIMIT, THREADS = "512MB", 2
LISTED_AT_MOST = 1000
PROGRESS_ITEMS = 100_000
STAMPS = ("_msft:ts", "updated")
"""Properties that say when the catalog last wrote an item."""
ID_ROW = {"id": "VARCHAR", "shard": "BIGINT", "line": "BIGINT", "changed": "BIGINT", "content": "BIGINT"}
"""`changed` in microseconds since 1970, UTC; `content` where that is not known."""
GRIDS_DEGREES = (2.0, 0.5, 0.125)
"""The grids that footprints are counted on, by the size of their cells; the first covers the globe within the limit."""
MOST_CELLS = 16_200
WIDE_DEGREES = 30.0
"""A box above this may span the gap between the parts of one item, or the globe for an item at the antimeridian."""
LINKS = 'STRUCT(href VARCHAR, rel VARCHAR, "type" VARCHAR, title VARCHAR)[]'


class Failed(Exception):
    """The run cannot go on: an exit code, and the sentence to say."""

    def __init__(self, exit_code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class NoRow(Exception):
    """An item does not fit into a row."""

    def __init__(self, problem: str, item_id: str | None = None, month: str = UNDATED) -> None:
        super().__init__(problem)
        self.problem, self.item_id, self.month = problem, item_id, month


class Wanted(msgspec.Struct, frozen=True):
    """What to compact."""

    collection: str
    segment: str
    shards: list[str]
    base: list[str] = []
    """The harvests to compare with, oldest first: a full one and its increments."""
    increment: bool = False
    """Whether the archive holds changes only, so that what it lacks is not removed."""


def item_of(line: bytes) -> Json:
    """The item on a line of the archive.

    Raises:
        NoRow: there is none that can be told apart from others.
    """
    try:
        item: Json = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NoRow(f"its JSON cannot be read: {error}", id_on(line)) from None
    if not isinstance(item.get("id"), str) or not isinstance(item.get("properties"), dict | None):
        raise NoRow("it has no id, or properties that are no object", id_on(line))
    return item


def check_row(item: Json, line: bytes) -> str:
    """The month of an item that fits into a row.

    Raises:
        NoRow: it does not.
    """
    item_id, properties = item["id"], item.get("properties") or {}
    month = month_of(properties)
    if nameless({**item, **properties}):
        raise NoRow("it has a member whose name no column can have", item_id, month)
    if len(line) > LONGEST_LINE:
        raise NoRow(f"it is larger than {LONGEST_LINE:,} bytes", item_id, month)
    if (bbox := item.get("bbox")) is not None and not is_bbox(bbox):
        raise NoRow("its bbox is not four or six numbers", item_id, month)
    unreadable = [name for name in MOMENTS if properties.get(name) is not None and instant(properties[name]) is None]
    if unreadable:
        raise NoRow(f"its {' and '.join(unreadable)} cannot be read", item_id, month)
    return month


def id_on(line: bytes) -> str | None:
    """The id of an item that cannot be read as a whole."""
    found = re.search(rb'"id"\s*:\s*"((?:[^"\\]|\\.)*)"', line)
    return found[1].decode(errors="replace") if found else None


def is_bbox(value: object) -> bool:
    """Whether it is a list of four or six numbers."""
    return isinstance(value, list) and len(value) in (4, 6) and all(type(number) in (int, float) for number in value)


def moment_of(properties: Json) -> datetime | None:
    """When an item is, by pgstac's rule: its start if start and end are both there, otherwise its datetime."""
    ranged = properties.get("start_datetime") is not None and properties.get("end_datetime") is not None
    return instant(properties.get("start_datetime" if ranged else "datetime"))


def month_of(properties: Json) -> str:
    """The file that holds an item."""
    moment = moment_of(properties)
    return f"{moment.year:04}-{moment.month:02}" if moment else UNDATED


def instant(text: object) -> datetime | None:
    """The moment that a text names, in whole microseconds, rounded as PostgreSQL does."""
    if not isinstance(text, str) or not RFC3339.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        finer = re.search(r"\.\d{6}(\d+)", text)
        return moment + timedelta(microseconds=round(float(f"0.{finer[1]}"))) if finer else moment
    except (ValueError, OverflowError):
        return None


@dataclass(slots=True)
class Shape:
    """What the values of one member are like, over all items."""

    kinds: set[object] = field(default_factory=set)
    members: dict[str, "Shape"] = field(default_factory=dict)
    element: "Shape | None" = None

    def learn(self, value: object, depth: int = 0) -> None:
        """Take note of a value."""
        if value is None:
            return
        kind: object = type(value)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            kind = "integers beyond 64 bits"
        elif depth > DEEPEST:
            kind = "nested too deeply"
        elif isinstance(value, dict):
            members = self.members
            for name, part in value.items():
                if name not in members:
                    members[name] = Shape()
                members[name].learn(part, depth + 1)
        elif isinstance(value, list):
            if self.element is None:
                self.element = Shape()
            for part in value:
                self.element.learn(part, depth + 1)
        self.kinds.add(kind)

    def type(self, path: str, converted: dict[str, str]) -> str:
        """The DuckDB type that holds all values; JSON, with a reason in `converted`, where there is no other."""
        reason = self.why_json()
        if reason:
            converted[path] = reason
            return "JSON"
        if self.kinds == {dict}:
            return struct({name: shape.type(f"{path}.{name}", converted) for name, shape in self.members.items()})
        if self.kinds == {list}:
            return self.list_type(path, converted)
        if self.kinds == {bool}:
            return "BOOLEAN"
        if self.kinds == {int}:
            return "BIGINT"
        return "DOUBLE" if float in self.kinds else "VARCHAR"

    def list_type(self, path: str, converted: dict[str, str]) -> str:
        """The type of lists; a list is one text rather than a list of texts."""
        inner: dict[str, str] = {}
        element = self.element.type(path, inner) if self.element else "VARCHAR"
        if element == "JSON":
            converted[path] = f"in a list: {inner[path].removeprefix('in a list: ')}"
            return "JSON"
        converted.update(inner)
        return f"{element}[]"

    def why_json(self) -> str:
        """Why no typed column can hold the values; empty if one can."""
        named = sorted(kind.__name__ if isinstance(kind, type) else str(kind) for kind in self.kinds)
        if any(isinstance(kind, str) for kind in self.kinds) or (len(named) > 1 and self.kinds != {int, float}):
            return f"values of several types: {', '.join(named)}" if len(named) > 1 else named[0]
        if self.kinds != {dict}:
            return ""
        if not self.members:
            return "objects without members"
        if len(self.members) > MOST_MEMBERS:
            return f"more than {MOST_MEMBERS} different members"
        if nameless(self.members):
            return "members whose names no column can have"
        return "members whose names differ in case only" if doubled(self.members) else ""


def struct(types: Mapping[str, str]) -> str:
    """The type of an object with these members."""
    return f"STRUCT({', '.join(f'{quoted(name)} {kind}' for name, kind in types.items())})"


def doubled(names: Iterable[str]) -> set[str]:
    """Those of the names that DuckDB takes for an earlier one, since they differ in case only."""
    seen: set[str] = set()
    return {name for name in names if name.lower() in seen or seen.add(name.lower())}  # type: ignore[func-returns-value]  # `add` as the filter's memory


def nameless(names: Iterable[str]) -> bool:
    """Whether one of the names cannot be said in SQL."""
    return any(not name or "\0" in name for name in names)


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"{}"'.format(name.replace('"', '""'))


def literal(text: str) -> str:
    """An SQL string."""
    return "'{}'".format(text.replace("'", "''"))


class Exceptions:
    """The items that have no row: how many of each month, and which."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[Json] = []

    def add(self, month: str, item_id: str | None, problem: str) -> None:
        """Take note of one."""
        self.counts[month] += 1
        if len(self.listed) < LISTED_AT_MOST:
            self.listed.append({"id": item_id, "problem": one_line(problem)})


class Spill:
    """The items by month, on disk: zstd frames of numbered lines, from buffers that are bounded together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.buffers: dict[str, bytearray] = {}
        self.buffered = 0
        self.zstd = zstandard.ZstdCompressor(level=1)

    def add(self, month: str, item_id: str, line: bytes) -> None:
        """Write an item down."""
        head = b'{"n":%d,"id":%b,"item":' % (self.counts[month], msgspec.json.encode(item_id))
        self.counts[month] += 1
        buffer = self.buffers.setdefault(month, bytearray())
        buffer += head + line + b"}\n"
        self.buffered += len(head) + len(line) + 2
        if len(buffer) > FRAME_BYTES:
            self.flush([month])
        elif self.buffered > BUFFERED_BYTES:
            self.flush(list(self.buffers))

    def flush(self, months: list[str]) -> None:
        """Write the buffers of some months, each as one frame."""
        for month in months:
            buffer = self.buffers.pop(month)
            self.buffered -= len(buffer)
            with self.file(month).open("ab") as file:
                file.write(self.zstd.compress(buffer))

    def clear(self) -> None:
        """Forget all of them."""
        for month in self.counts:
            self.file(month).unlink()

    def file(self, month: str) -> Path:
        """Where the items of a month are."""
        return self.folder / f"{month}.ndjson.zst"


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class Ids:
    """The ids of a collection, on disk: where each of them is, and which version it is."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ids.ndjson"
        self.lines = self.file.open("wb")
        self.stamped: Counter[str] = Counter()

    def add(self, item: Json, shard: int, line: int) -> None:
        """Write down an item: when the catalog last wrote it or, where it does not say, a digest of its content."""
        properties = item.get("properties") or {}
        stamps = {name: moment for name in STAMPS if (moment := instant(properties.get(name)))}
        self.stamped.update(list(stamps))
        changed = microseconds(max(stamps.values())) if stamps else None
        row = (item["id"], shard, line, changed, None if stamps else content_of(item))
        self.lines.write(msgspec.json.encode(dict(zip(ID_ROW, row, strict=True))) + b"\n")

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Make them the table `ids`."""
        self.lines.close()
        database.execute(f"CREATE OR REPLACE TEMP TABLE ids AS FROM {lines(self.file, ID_ROW, 'uncompressed')}")
        self.file.unlink()


def content_of(item: Json) -> int:
    """A digest of an item, without the links that a service makes anew for each answer."""
    told = msgspec.json.encode({name: value for name, value in item.items() if name != "links"}, order="deterministic")
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), signed=True)


def stale(database: duckdb.DuckDBPyConnection) -> dict[int, set[int]]:
    """By shard, the lines of ids that another line holds in a newer version, or else in a later shard."""
    older = (
        "SELECT shard, line FROM (SELECT shard, line, row_number() OVER "
        "(PARTITION BY id ORDER BY changed DESC NULLS LAST, shard DESC, line DESC) AS nth "
        "FROM ids WHERE id IN (SELECT id FROM ids GROUP BY id HAVING count(*) > 1)) WHERE nth > 1"
    )
    found: dict[int, set[int]] = {}
    for shard, line in rows(database, older):
        found.setdefault(shard, set()).add(line)
    return found


def compare(database: duckdb.DuckDBPyConnection, bases: list[Path], increment: bool) -> dict[str, int]:
    """Make the table `changes` of what differs from the last version that the bases hold; how many of each kind."""
    tables = [f"SELECT *, {nth} AS nth FROM read_parquet({literal(str(file))})" for nth, file in enumerate(bases)]  # noqa: S608
    none = "SELECT id, changed, content, 0 AS nth FROM ids LIMIT 0"
    version = "{changed: changed, content: content}"
    before = f"SELECT id, arg_max({version}, nth) AS was FROM ({' UNION ALL '.join(tables) or none}) GROUP BY id"  # noqa: S608
    database.execute(
        "CREATE OR REPLACE TEMP TABLE changes AS "  # noqa: S608
        "SELECT id, CASE WHEN was IS NULL THEN 'added' WHEN is_now IS NULL THEN 'removed' ELSE 'changed' END AS change "
        f"FROM (SELECT id, {version} AS is_now FROM ids) {'LEFT' if increment else 'FULL'} JOIN ({before}) "
        "USING (id) WHERE was IS DISTINCT FROM is_now"
    )
    counted = dict(rows(database, "SELECT change, count(*) FROM changes GROUP BY change"))
    return {kind: counted.get(kind, 0) for kind in ("added", "changed", "removed")}


class Schema:
    """What is learned of all items of a collection."""

    def __init__(self) -> None:
        self.item, self.properties = Shape(), Shape()
        self.texts: set[str] = set()
        self.solid = False

    def learn(self, item: Json) -> None:
        """Take note of an item."""
        properties = item.get("properties") or {}
        self.item.learn({name: value for name, value in item.items() if name not in ("geometry", "properties")})
        self.properties.learn(properties)
        self.solid = self.solid or len(item.get("bbox") or ()) == 6
        self.texts |= {n for n in DATES if isinstance(properties.get(n), str) and instant(properties[n]) is None}

    def is_date(self, name: str) -> bool:
        """Whether a property becomes a timestamp."""
        shape = self.properties.members[name]
        return name in DATES and name not in self.texts and shape.kinds <= {str}


class Columns:
    """How the items of a collection become rows: the type that DuckDB reads them as, and what it selects from that.

    Names that differ in case only are one name to DuckDB: the later ones are read as JSON and get another name, as do
    properties that are called like a member of the item.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.converted: dict[str, str] = {}
        self.selected: dict[str, str] = {}
        self.pointers: list[str] = []
        members = {"geometry": "JSON", **{name: self.member(name) for name in schema.item.members}}
        self.has_bbox = bool(members.get("bbox"))
        kept = self.select("item", {name: kind for name, kind in members.items() if kind}, "")
        properties = {name: self.property(name) for name in schema.properties.members}
        inner = self.select("properties", properties, "/properties")
        self.row = struct(kept | ({"properties": struct(inner)} if inner else {}))

    def member(self, name: str) -> str:
        """The type of a member of the items; empty where it is left out, since no item has anything there."""
        shape = self.schema.item.members[name]
        if name == "bbox":
            return "DOUBLE[]" if shape.kinds else ""
        if name == "links" and shape.kinds <= {list} and not (shape.element and shape.element.kinds):
            return LINKS
        if name == "assets" and shape.kinds <= {dict} and not shape.members:
            return ""
        return shape.type(name, self.converted)

    def property(self, name: str) -> str:
        """The type of a property."""
        if name in self.schema.texts:
            self.converted[f"properties.{name}"] = "not RFC 3339 in every item: text instead of a timestamp"
        return self.schema.properties.members[name].type(f"properties.{name}", self.converted)

    def select(self, source: str, types: Mapping[str, str], pointer: str) -> dict[str, str]:
        """Select the members of an item or its properties; returns the types of those that are read as typed."""
        same = doubled(types)
        taken = {column.lower() for column in self.selected}
        for name in types:
            column = name
            while column.lower() in taken:
                column = f"{source}:{column}"
            taken.add(column.lower())
            if column != name or name in same:
                self.converted[f"{source}.{name}"] = f"its name is taken: it is the column {column}"
            if name in same:
                self.pointers.append(f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
                self.selected[column] = f"odd.v{len(self.pointers)}"
            else:
                self.selected[column] = self.value(source, name)
        return {name: kind for name, kind in types.items() if name not in same}

    def value(self, source: str, name: str) -> str:
        """The SQL of a value."""
        if source == "properties":
            read = f"item.properties.{quoted(name)}"
            return f"CAST(upper({read}) AS TIMESTAMPTZ)" if self.schema.is_date(name) else read
        if name == "geometry":
            return "ST_AsWKB(TRY(ST_GeomFromGeoJSON(item.geometry)))"
        return bbox("item.bbox", self.schema.solid) if name == "bbox" else f"item.{quoted(name)}"

    def query(self, spilled: Path, left_out: bool) -> str:
        """The rows of a month."""
        columns = ", ".join(f"{value} AS {quoted(name)}" for name, value in self.selected.items())
        query = f"SELECT {columns} FROM {lines(spilled, {'n': 'BIGINT', 'item': self.row})} AS items"  # noqa: S608  # names are quoted
        if self.pointers:
            odd = ", ".join(f"item->{literal(pointer)} AS v{n}" for n, pointer in enumerate(self.pointers, 1))
            query += f" JOIN (SELECT n, {odd} FROM {lines(spilled, {'n': 'BIGINT', 'item': 'JSON'})}) AS odd USING (n)"  # noqa: S608
        return query + (" ANTI JOIN left_out USING (n)" if left_out else "")

    def metadata(self) -> str:
        """The file's GeoParquet and stac-geoparquet metadata; without a CRS it is OGC:CRS84, as GeoJSON is."""
        corners = {corner: ["bbox", corner] for corner in ("xmin", "ymin", "xmax", "ymax")}
        geometry: Json = {"encoding": "WKB", "geometry_types": []}
        if self.has_bbox:
            geometry["covering"] = {"bbox": corners}
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
        return f"{{geo: {literal(json.dumps(geo))}, 'stac-geoparquet': {literal(json.dumps({'version': '1.1.0'}))}}}"


def bbox(value: str, solid: bool) -> str:
    """A list of numbers as stac-geoparquet's struct; with heights where any item has them."""
    half = f"len({value}) // 2"
    axes = {"x": 1, "y": 2, "z": 3} if solid else {"x": 1, "y": 2}
    low = {f"{axis}min": f"{value}[{place}]" for axis, place in axes.items()}
    high = {f"{axis}max": f"{value}[{half} + {place}]" for axis, place in axes.items()}
    if solid:
        for corners, name in ((low, "zmin"), (high, "zmax")):
            corners[name] = f"CASE len({value}) WHEN 6 THEN {corners[name]} END"
    members = ", ".join(f"{name}: {edge}" for name, edge in {**low, **high}.items())
    return f"CASE WHEN {value} IS NOT NULL THEN {{{members}}} END"


def lines(file: Path, types: Mapping[str, str], compression: str = "zstd") -> str:
    """The table function that reads a spilled file."""
    columns = ", ".join(f"{name}: {literal(kind)}" for name, kind in types.items())
    form = f"format = 'newline_delimited', compression = {literal(compression)}"
    return f"read_json({literal(str(file))}, {form}, columns = {{{columns}}})"


class Month:
    """One file of the answer."""

    def __init__(self, database: duckdb.DuckDBPyConnection, spill: Spill, month: str, exceptions: Exceptions) -> None:
        self.database, self.month, self.exceptions = database, month, exceptions
        self.spilled, self.count = spill.file(month), spill.counts[month]
        self.file = spill.folder / f"{month}.parquet"
        self.rows = 0

    def write(self, columns: Columns) -> None:
        """Write the file, and count what is in it.

        Raises:
            Failed: rows and exceptions are not what was archived.
        """
        left_out = self.leave_out()
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, KV_METADATA {columns.metadata()}"
        self.database.execute(
            f"COPY ({columns.query(self.spilled, left_out > 0)}) TO {literal(str(self.file))} ({options})"
        )
        self.rows = self.number(f"SELECT count(*) FROM read_parquet({literal(str(self.file))})")  # noqa: S608
        if self.rows + left_out != self.count:
            problem = f"{self.rows} rows and {left_out} left out are not the {self.count} items of {self.month}"
            raise Failed(UNEXPECTED, f"rows got lost: {problem}")

    def leave_out(self) -> int:
        """Note which lines are no rows, since their geometry is none; how many."""
        kinds = {"n": "BIGINT", "id": "VARCHAR", "item": "STRUCT(geometry JSON)"}
        self.database.execute(
            f"CREATE OR REPLACE TEMP TABLE left_out AS SELECT n, id FROM {lines(self.spilled, kinds)} "  # noqa: S608
            "WHERE item.geometry IS NOT NULL AND TRY(ST_GeomFromGeoJSON(item.geometry)) IS NULL"
        )
        for item_id in rows(self.database, "SELECT id FROM left_out ORDER BY n"):
            self.exceptions.add(self.month, *item_id, "its geometry is no GeoJSON geometry")
        return self.number("SELECT count(*) FROM left_out")

    def number(self, query: str) -> int:
        """The one number that a query answers with."""
        return int(next(rows(self.database, query))[0])


def rows(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    """What a query answers, a thousand rows in memory."""
    answer = database.execute(query)
    while some := answer.fetchmany(1000):
        yield from some


Box = tuple[float, float, float, float]
"""West, south, east, north; it crosses the antimeridian where west is above east."""
Span = tuple[int, int, int, int]
"""First and last column, first and last row."""


class Footprints:
    """Where the rows of a collection lie: how many footprints touch each cell, on grids as fine as the limit allows."""

    def __init__(self) -> None:
        self.items = 0
        self.grids = [Grid(degrees) for degrees in GRIDS_DEGREES]

    def learn(self, database: duckdb.DuckDBPyConnection, file: Path, has_bbox: bool) -> None:
        """Take note of the rows of a file: of their boxes, or of their geometries where a box is wide or missing."""
        corners = [f"bbox.{corner}" if has_bbox else "NULL" for corner in ("xmin", "ymin", "xmax", "ymax")]
        unsure = f"bbox IS NULL OR bbox.xmax - bbox.xmin > {WIDE_DEGREES}" if has_bbox else "true"
        query = (
            f"SELECT {', '.join(corners)}, CASE WHEN {unsure} THEN ST_AsGeoJSON(geometry) END "  # noqa: S608
            f"FROM read_parquet({literal(str(file))})"
        )
        for *corner, geometry in rows(database, query):
            boxes = list(parts_of(json.loads(geometry))) if geometry else []
            self.add([box for box in boxes or [tuple(corner)] if on_earth(box)])

    def add(self, boxes: list[Box]) -> None:
        """Take note of an item."""
        self.items += bool(boxes)
        for grid in self.grids:
            grid.add(boxes)

    def report(self) -> Json:
        """How many items lie somewhere, and by the size of a cell in degrees: `column,row,items` of those touched."""
        grids: dict[str, str] = {}
        left = MOST_CELLS
        for grid in self.grids:
            cells = grid.cells(left)
            if cells is None:
                break
            left -= len(cells)
            grids[f"{grid.degrees:g}"] = " ".join(f"{column},{row},{items}" for column, row, items in cells)
        return {"items": self.items, "grids": grids}


class Grid:
    """How many boxes touch each cell; columns count from 180° W and rows from 90° S.

    Only where that number changes is kept, so that a box costs four marks, whatever its size.
    """

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees
        self.columns, self.rows = round(360 / degrees), round(180 / degrees)
        self.changes: Counter[tuple[int, int]] = Counter()

    def add(self, boxes: list[Box]) -> None:
        """Count an item once in each cell that its boxes touch; those that share columns are taken together."""
        if len(self.changes) > 4 * MOST_CELLS:
            return  # a cell has four corners, so that more than the limit are touched
        for first, last, bottom, top in together(span for box in boxes for span in self.spans(*box)):
            for column, change in ((first, 1), (last + 1, -1)):
                self.changes[bottom, column] += change
                self.changes[top + 1, column] -= change

    def spans(self, west: float, south: float, east: float, north: float) -> Iterator[Span]:
        """The cells of a box: two spans where it crosses the antimeridian. A cell that only its edge meets is none."""
        first, last = self.between(west + 180, (east if west <= east else east + 360) + 180)
        bottom, top = (min(max(row, 0), self.rows - 1) for row in self.between(south + 90, north + 90))
        if last - first >= self.columns:
            first, last = 0, self.columns - 1
        first, last = first % self.columns, first % self.columns + last - first
        yield first, min(last, self.columns - 1), bottom, top
        if last >= self.columns:
            yield 0, last - self.columns, bottom, top

    def between(self, low: float, high: float) -> tuple[int, int]:
        """The first and the last cell of a range."""
        first = math.floor(low / self.degrees)
        return first, max(first, math.ceil(high / self.degrees) - 1)

    def cells(self, at_most: int) -> list[tuple[int, int, int]] | None:
        """Column, row and number of items of the cells that are touched; None if they are more."""
        by_row: dict[int, Counter[int]] = {}
        for (row, column), change in self.changes.items():
            by_row.setdefault(row, Counter())[column] = change
        found: list[tuple[int, int, int]] = []
        changes: Counter[int] = Counter()
        for row in range(self.rows):
            changes.update(by_row.get(row, {}))
            items = 0
            for (first, change), (end, _) in pairwise(sorted(changes.items())):
                items += change
                found += [(column, row, items) for column in range(first, end) if items]
            if len(found) > at_most:
                return None
        return found


def together(spans: Iterable[Span]) -> list[Span]:
    """The spans with those that share columns as one."""
    joined: list[Span] = []
    for first, last, bottom, top in sorted(spans):
        if joined and first <= joined[-1][1]:
            before = joined.pop()
            joined.append((before[0], max(before[1], last), min(before[2], bottom), max(before[3], top)))
        else:
            joined.append((first, last, bottom, top))
    return joined


def parts_of(geometry: Json) -> Iterator[Box]:
    """The boxes of a GeoJSON geometry's parts."""
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from parts_of(part)
        return
    for part in geometry["coordinates"] if geometry["type"].startswith("Multi") else [geometry["coordinates"]]:
        if there := list(positions(part)):
            easts, norths = [x for x, *_ in there], [y for _, y, *_ in there]
            yield min(easts), min(norths), max(easts), max(norths)


def positions(coordinates: list[Any]) -> Iterator[list[float]]:
    """The positions in GeoJSON coordinates, however deep they are."""
    if coordinates and not isinstance(coordinates[0], list):
        yield coordinates
    else:
        for part in coordinates:
            yield from positions(part)


def on_earth(box: tuple[Any, ...]) -> bool:
    """Whether all corners are there, and longitudes at most one turn too far."""
    return None not in box and all(abs(x) <= 540 for x in box[::2]) and -90 <= box[1] <= box[3] <= 90


class Identity:
    """The node's identity; azure-identity keeps its tokens and replaces them before they expire."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.renew()

    def renew(self) -> None:
        """Forget all tokens, and that the identity endpoint throttled us: MSAL remembers both."""
        self.credential = DefaultAzureCredential(read_timeout=READ_SECONDS)

    def token(self) -> str:
        """A valid token for storage; tried again because identity endpoints answer 429 when a whole node asks."""
        for attempt in range(1, TOKEN_ATTEMPTS + 1):
            try:
                return str(self.credential.get_token(STORAGE_SCOPE).token)
            except ClientAuthenticationError as error:
                problem = one_line(str(error))
            time.sleep(backoff(attempt))
            self.renew()
        advice = f"check that the pool has the user-assigned identity with client id {self.client_id}"
        raise Failed(NO_TOKEN, f"no token for {STORAGE_SCOPE}: {advice}. azure-identity said: {problem}")


class Storage:
    """The results container: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api."""

    def __init__(self, identity: Identity, root: str) -> None:
        self.identity, self.root = identity, root
        self.session = requests.Session()

    def download(self, name: str, target: Path) -> bool:
        """Save a blob; whether there is one."""
        return self.ask("GET", name, accepted=(200, 404), target=target) == 200

    def put(self, name: str, content: Path | bytes, kind: str) -> None:
        """Write a blob in one piece, so that it is there as a whole or not at all."""
        if isinstance(content, Path) and not content.stat().st_size:
            content = b""  # an empty file is sent in chunks, which blob storage does not take
        self.ask(
            "PUT", name, accepted=(201,), content=content, headers={"x-ms-blob-type": "BlockBlob", "Content-Type": kind}
        )

    def delete(self, name: str) -> None:
        """Delete a blob, or find it gone."""
        self.ask("DELETE", name, accepted=(202, 404))

    def ask(
        self,
        method: str,
        name: str,
        *,
        accepted: tuple[int, ...],
        content: Path | bytes = b"",
        headers: Mapping[str, str] | None = None,
        target: Path | None = None,
    ) -> int:
        """Send a request until its answer is accepted, or there is no point in asking again; the answer's status."""
        url = f"{self.root}/{quote(name)}"
        problem, renewed = "", False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, said = self.send(method, url, content, {**STORAGE_VERSION, **(headers or {})}, target)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                status, said = 0, one_line(str(error))
            if status in accepted:
                return status
            problem = f"{status or ''} {said}".strip()
            if status == 401 and not renewed:
                self.identity.renew()
                renewed = True
            elif status and status not in TRANSIENT:
                raise self.refused(method, url, status, problem)
            note(f"attempt {attempt} of {ATTEMPTS}: {method} {url}: {problem}")
            time.sleep(backoff(attempt))
        raise Failed(UNAVAILABLE, f"{method} {url} failed after {ATTEMPTS} attempts; run it again later: {problem}")

    def send(
        self, method: str, url: str, content: Path | bytes, headers: Mapping[str, str], target: Path | None
    ) -> tuple[int, str]:
        """Send it once; its status, and what the service said with it. What it accepts goes into the file."""
        token = self.identity.token()
        with nullcontext(content) if isinstance(content, bytes) else content.open("rb") as body:
            answer = self.session.request(
                method,
                url,
                data=body if method == "PUT" else None,
                headers={**headers, "Authorization": f"Bearer {token}"},
                auth=lambda request: request,  # keeps requests from a .netrc
                timeout=CONNECT_AND_READ_SECONDS,
                allow_redirects=False,
                stream=True,
            )
        with answer:
            if target is None or answer.status_code != 200:
                return answer.status_code, one_line(answer.text.replace(token, "(token)"))
            with target.open("wb") as file:
                for block in answer.iter_content(1 << 20):
                    file.write(block)
        return 200, ""

    def refused(self, method: str, url: str, status: int, problem: str) -> Failed:
        """What an answer means that was not asked for."""
        if status in (401, 403):
            return Failed(REFUSED, f"{method} {url}: {CONTRIBUTOR}. It answered {problem}")
        return Failed(UNEXPECTED, f"{method} {url}: this is none of the answers that were expected: {problem}")


def archived(file: Path) -> Iterator[bytes]:
    """The lines of an archived shard.

    Raises:
        Failed: it is damaged.
    """
    try:
        with (
            file.open("rb") as packed,
            zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as raw,
        ):
            for line in io.BufferedReader(raw, 1 << 18):
                if not line.endswith(b"\n"):
                    raise Failed(UNEXPECTED, f"{file.name} ends in the middle of an item: harvest its shard again")
                yield line[:-1]
    except zstandard.ZstdError as error:
        raise Failed(UNEXPECTED, f"{file.name} is damaged: {error}; harvest its shard again") from None


@dataclass
class Divided:
    """What is known of all items of a collection after a look at each."""

    spill: Spill
    ids: Ids
    schema: Schema = field(default_factory=Schema)
    exceptions: Exceptions = field(default_factory=Exceptions)
    count: int = 0

    def add(self, line: bytes, shard: int, number: int) -> None:
        """Take note of the item on a line of a shard."""
        self.count += 1
        try:
            item = item_of(line)
            self.ids.add(item, shard, number)
            self.spill.add(check_row(item, line), item["id"], line)
            self.schema.learn(item)
        except NoRow as no_row:
            self.exceptions.add(no_row.month, no_row.item_id, no_row.problem)
        if self.count % PROGRESS_ITEMS == 0:
            note(f"{self.count:,} items divided")

    def changed_by(self) -> str | None:
        """The property by which changed items can be asked for: the first that all items have."""
        return next((name for name in STAMPS if self.ids.stamped[name] == self.count > 0), None)


def divide(wanted: Wanted, storage: Storage, folder: str, workplace: Path) -> Divided:
    """Fetch the shards one after the other, divide their items by month, and learn what they are like."""
    divided = Divided(Spill(workplace), Ids(workplace))
    for place, shard in enumerate(wanted.shards):
        packed = workplace / f"{shard}.ndjson.zst.part"
        fetch(storage, f"{folder}/items/{wanted.segment}/{shard}.ndjson.zst", packed)
        for number, line in enumerate(archived(packed)):
            divided.add(line, place, number)
        packed.unlink()
    divided.spill.flush(list(divided.spill.buffers))
    note(f"{divided.count:,} items of {len(wanted.shards)} shards are in {len(divided.spill.counts)} months")
    return divided


def fetch(storage: Storage, name: str, target: Path) -> None:
    """Save a blob that must be there.

    Raises:
        Failed: it is not.
    """
    if not storage.download(name, target):
        raise Failed(UNEXPECTED, f"{name} is not there: harvest its shard again")


def take_out(storage: Storage, blob: str, numbers: set[int], workplace: Path) -> None:
    """Take lines out of an archived shard. Its receipt is away meanwhile: half done, the shard is harvested again."""
    packed, kept, told = (workplace / name for name in ("whole.part", "kept.part", "receipt.part"))
    fetch(storage, f"{blob}.ndjson.zst", packed)
    fetch(storage, f"{blob}.receipt.json", told)
    receipt, moments, gone = json.loads(told.read_bytes()), [], set()
    with kept.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as archive:
        for number, line in enumerate(archived(packed)):
            if number in numbers:
                gone.add(item_of(line)["id"])
            else:
                archive.write(line + b"\n")
                moments.append(moment_on(line))
    storage.delete(f"{blob}.receipt.json")
    storage.put(f"{blob}.ndjson.zst", kept, "application/zstd")
    storage.put(f"{blob}.receipt.json", json.dumps(without(receipt, gone, moments, kept)).encode(), "application/json")
    note(f"{len(numbers)} items of {blob} are in another shard in a newer version; they are taken out")


def moment_on(line: bytes) -> datetime | None:
    """When the item on a line is."""
    try:
        return moment_of(item_of(line).get("properties") or {})
    except NoRow:
        return None


def without(receipt: Json, gone: set[str], moments: list[datetime | None], archive: Path) -> Json:
    """The receipt of a shard that lost some ids."""
    hashes = sum(int.from_bytes(hashlib.sha256(item_id.encode()).digest()) for item_id in gone)
    known = [moment for moment in moments if moment]
    clean = [told for told in receipt["dirty"] if told["id"] not in gone]
    return {
        **receipt,
        "count": receipt["count"] - len(gone),
        "duplicates": receipt["duplicates"] + len(gone),
        "ids_hash": f"{(int(receipt['ids_hash'], 16) - hashes) % 2**256:064x}",
        "min_datetime": rfc3339(min(known, default=None)),
        "max_datetime": rfc3339(max(known, default=None)),
        "dirty": clean,
        "dirty_count": receipt["dirty_count"] - len(receipt["dirty"]) + len(clean),
        "bytes": archive.stat().st_size,
    }


def rfc3339(moment: datetime | None) -> str | None:
    """As text, with microseconds only where there are any."""
    return moment.replace(tzinfo=None).isoformat() + "Z" if moment else None


def compact(wanted: Wanted, storage: Storage, folder: str, workplace: Path) -> Json:
    """Write the files of all months, the ids and what changed, then the report; returns it."""
    with database(workplace) as connection:
        divided = divide(wanted, storage, folder, workplace)
        divided.ids.load(connection)
        cleaned = {wanted.shards[place]: numbers for place, numbers in stale(connection).items()}
        for shard, numbers in cleaned.items():
            take_out(storage, f"{folder}/items/{wanted.segment}/{shard}", numbers, workplace)
        if cleaned:
            divided.spill.clear()
            divided = divide(wanted, storage, folder, workplace)
            divided.ids.load(connection)
        columns, footprints = Columns(divided.schema), Footprints()
        target = f"{folder}/parquet/{wanted.segment}"
        files = write_months(connection, divided, columns, footprints, storage, target)
        changes = write_ids(connection, wanted, storage, folder, workplace)
    report: Json = {
        "collection": wanted.collection,
        "files": files,
        "exceptions": divided.exceptions.listed,
        "exceptions_count": divided.exceptions.counts.total(),
        "converted": columns.converted,
        "cleaned": sorted(cleaned),
        "changed_by": divided.changed_by(),
        "changes": changes,
        "footprints": footprints.report(),
    }
    storage.put(f"{target}/compaction.json", json.dumps(report).encode(), "application/json")
    return report


def write_months(
    connection: duckdb.DuckDBPyConnection,
    divided: Divided,
    columns: Columns,
    footprints: Footprints,
    storage: Storage,
    target: str,
) -> Json:
    """Write a file for each month that has rows; what became of the items of each."""
    files: Json = {}
    for name in sorted(divided.spill.counts):
        month = Month(connection, divided.spill, name, divided.exceptions)
        month.write(columns)
        footprints.learn(connection, month.file, columns.has_bbox)
        storage.put(f"{target}/{name}.parquet", month.file, "application/vnd.apache.parquet")
        files[name] = {"rows": month.rows, "bytes": month.file.stat().st_size}
        note(f"{name}: {month.rows:,} rows, {files[name]['bytes']:,} bytes")
        month.file.unlink()
        month.spilled.unlink()
    exceptions = divided.exceptions.counts
    return {
        name: {"rows": 0, "bytes": 0, **files.get(name, {}), "exceptions": exceptions[name]}
        for name in sorted({*files, *exceptions})
    }


def write_ids(
    connection: duckdb.DuckDBPyConnection, wanted: Wanted, storage: Storage, folder: str, workplace: Path
) -> Json | None:
    """Write the ids with their versions and, where there is something to compare with, which of them changed."""
    file = workplace / "ids.parquet"
    select = "SELECT id, changed, content FROM ids ORDER BY id"
    connection.execute(f"COPY ({select}) TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd)")
    storage.put(f"{folder}/ids/{wanted.segment}.parquet", file, "application/vnd.apache.parquet")
    if not wanted.base:
        return None
    bases = [workplace / f"base-{number}.parquet" for number in range(len(wanted.base))]
    held = [
        base
        for base, harvest in zip(bases, wanted.base, strict=True)
        if storage.download(f"harvests/{harvest}/ids/{wanted.segment}.parquet", base)
    ]
    changes = compare(connection, held, wanted.increment)
    listed = workplace / "changes.ndjson"
    connection.execute(f"COPY (FROM changes ORDER BY id) TO {literal(str(listed))} (FORMAT json)")
    storage.put(f"{folder}/changes/{wanted.segment}.ndjson", listed, "application/x-ndjson")
    note(", ".join(f"{number:,} {kind}" for kind, number in changes.items()))
    return changes


def database(workplace: Path) -> duckdb.DuckDBPyConnection:
    """A database in memory that asks nothing of the network and spills what it cannot hold."""
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": MEMORY_LIMIT,
            "threads": str(THREADS),
            "temp_directory": str(workplace / "duckdb"),
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def backoff(attempt: int) -> float:
    """Seconds to wait after that attempt: 250 ms, doubling to 60 s, half of it at random."""
    longest = min(60.0, 0.25 * 2**attempt)
    return random.uniform(longest / 2, longest)  # noqa: S311  # it spreads load and guards nothing


def one_line(text: str) -> str:
    """Text for a message."""
    return " ".join(text.split())[:500]


def note(sentence: str) -> None:
    """Tell how it goes, on standard error."""
    print(f"compact_items: {SECRET.sub('(secret)', sentence)}", file=sys.stderr, flush=True)


def run(environment: Mapping[str, str]) -> None:
    """Compact what the environment says."""
    missing = [name for name in REQUIRED if not environment.get(name)]
    if missing:
        raise Failed(CONFIGURATION, f"{', '.join(missing)} not set; set what the head of this script lists")
    try:
        wanted = msgspec.json.decode(environment["COMPACT"], type=Wanted)
    except msgspec.DecodeError as error:
        raise Failed(CONFIGURATION, f"COMPACT is not what to compact: {error}") from None
    root = environment["RESULTS_URL"].rstrip("/")
    if not ADDRESS.fullmatch(root):
        raise Failed(CONFIGURATION, f"RESULTS_URL must be an https address without user or query, not {root!r}")
    storage = Storage(Identity(environment["AZURE_CLIENT_ID"]), root)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as workplace:
        try:
            report = compact(wanted, storage, f"harvests/{environment['HARVEST_ID']}", Path(workplace))
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            said = str(error).partition("\n")[0] or "Python could not allocate it"
            raise Failed(
                UNEXPECTED,
                f"the files of {wanted.collection} take more memory than there is ({said}): harvest it in shorter "
                "intervals, or set fewer pool_task_slots or a larger pool_vm_size",
            ) from None
        except duckdb.Error as error:
            raise Failed(UNEXPECTED, f"DuckDB could not write the files of {wanted.collection}: {error}") from None
    note(f"done: {sum(file['rows'] for file in report['files'].values()):,} rows in {len(report['files'])} files")


def main() -> int:
    """Compact; the exit code tells why that failed."""
    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what it warns of is said by `Failed`
    try:
        run(os.environ)
    except Failed as failed:
        note(str(failed))
        return failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
