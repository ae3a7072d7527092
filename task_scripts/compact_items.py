"""Turn the archived items of one collection into stac-geoparquet, one file for each month of their moment (UTC).

Runs alone on a Batch node; needs `requests`, `azure-identity`, `msgspec`, `zstandard` and `duckdb`. Environment:
`RESULTS_URL` (the container), `HARVEST_ID`, `AZURE_CLIENT_ID` (the node identity's), `COMPACT` (name of a blob that
holds JSON, see `Wanted`); `READ_TIMEOUT_SECONDS`, 60 by default.
Below `harvests/<id>/` it reads `items/<segment>/<shard>.ndjson.zst` and writes `parquet/<segment>/<yyyy-mm>.parquet`,
`undated.parquet`, `ids/<segment>.parquet` and, last, `parquet/<segment>/compaction.json`; where it is told with which
harvests to compare, `changes/<segment>.ndjson` too. Does the same again on a second run.

An id that two shards hold, since its date was edited while the harvest ran, keeps its newest version: the other one is
taken out of its shard's archive and receipt before anything else.

Two looks at the items. The first divides them by month, on disk, and learns what types each member has in the whole
collection, so that all its files have the same columns and none is lost. The second makes rows, which DuckDB writes.
The files hold:
- a column for each member of an item and each of its properties, after https://github.com/stac-utils/stac-geoparquet;
- as JSON text, in every row, what differs in type between items, has no type or is not exact in one, or would take too
  many columns; beside what readers know by a name, what is not what they know (`converted` in the report says which);
- every item but the *exceptions*, those of which one cannot make a row: no JSON, no usable geometry, bbox or dates.
An item without a geometry keeps its row. The files are a view: where they cannot be written, the report says why in
`failed`, all items are exceptions, and the run succeeds.

Reading order: `compact` says what happens; `Spill` divides, `Ids` tells versions apart, `parted` what readers know,
`Shape` learns, `Columns` and `Month` write, `Footprints` says in the report where the rows lie, `Storage` asks.

Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 storage refused it (401, 403);
5 an archive is not what a harvest leaves; 6 out of reach, or unavailable after all attempts.
"""

import hashlib
import io
import json
import logging
import math
import os
import random
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
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
SECRET = re.compile(r"(?i:(?<=\bsig=))[^&\s\"'<>\\]+|\beyJ[\w-]{8,}(\.[\w-]*)*|(?<=://)[^/\s]+(?=@)")
"""Signature of a SAS, access token, user info of an address: services repeat what they were sent."""
CONTRIBUTOR = "the node identity may not use it; assign it the role Storage Blob Data Contributor on the account"

UNDATED = "undated"
MOMENTS = ("datetime", "start_datetime", "end_datetime")
DATES = (*MOMENTS, "created", "updated", "published", "expires", "unpublished")
"""Properties that readers of stac-geoparquet take for timestamps; without the first three as such there is no row."""
PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}|\.\d{6})?(?:Z|\+00:00)", re.ASCII)
"""What Python reads as PostgreSQL does, and ten times faster."""
MOMENT = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)(?:[Tt ](\d\d?):(\d\d?)(?::(\d\d?)(\.\d*)?)?(?: ?(?:[Zz]|([+-])(\d\d?)(?::?(\d\d))?))?)?",
    re.ASCII,
)
FINER = re.compile(r"\.\d{6}\d*[1-9]")
PROJECTED = "proj:geometry"
"""A geometry in properties or in an asset, which stac-geoparquet reads as WKB."""
LONGEST_LINE = 15_000_000
DEEPEST, MOST_MEMBERS = 16, 500
"""What is nested deeper, or has more different members, becomes JSON text: each member is a column to Parquet."""
MOST_COLUMNS, FEWEST_COLUMNS, MOST_SHAPES = 1_000, 100, 20_000
"""Columns of a file, also where memory was too short for those; members that are kept in mind at a time.

DuckDB 2.0 holds 2,048 rows of each column a few times over: 2,000 columns of text took 350 MB.
"""
EXACT = 2**53
"""Above it, not every integer is a double."""
BUFFERED_BYTES, FRAME_BYTES = 16 << 20, 1 << 20
ROW_GROUP_ROWS, ROW_GROUP_BYTES, ROW_BUFFER = 5_000, "64MB", 1 << 20
MOST_BYTES = 5_000 << 20
"""Of a blob that is written in one piece: https://learn.microsoft.com/rest/api/storageservices/put-blob."""
GEOMETRIES = {
    name: code
    for code, name in enumerate(
        ("Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon", "GeometryCollection"), 1
    )
}
"""Codes of ISO WKB, without heights: https://libgeos.org/specifications/wkb/."""
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


Box = tuple[float, float, float, float]
"""West, south, east, north; it crosses the antimeridian where west is above east."""
Span = tuple[int, int, int, int]
"""First and last column, first and last row."""


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


class Seal(msgspec.Struct, frozen=True):
    """Which bytes a file has."""

    size: int
    sha256: str

    @classmethod
    def of(cls, file: Path) -> "Seal":
        """The seal of a file."""
        with file.open("rb") as content:
            return cls(file.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest())


class Shard(msgspec.Struct, frozen=True):
    """A shard, and what its receipt says of its archive; without a seal it is of an earlier version."""

    name: str
    count: int
    ids_hash: str
    archive: Seal | None = None


class Identified(msgspec.Struct):
    """As much of an item as receipts count."""

    id: str


class Wanted(msgspec.Struct, frozen=True):
    """What to compact."""

    collection: str
    segment: str
    shards: list[Shard]
    base: list[str] = []
    """The harvests to compare with, oldest first: a full one and its increments."""
    increment: bool = False
    """Whether the archive holds changes only, so that what it lacks is not removed."""


def item_of(line: bytes) -> Json:
    """The item on a line of the archive, as far as it can be read.

    Raises:
        NoRow: nobody can tell its id.
    """
    return told(line)[0]


def told(line: bytes) -> tuple[Json, str]:
    """The item on a line of the archive, as far as it can be read, and why it cannot be read as a whole.

    Raises:
        NoRow: nobody can tell its id.
    """
    problem = ""
    try:
        item: Json = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        item, problem = lenient_item(line), f"its JSON cannot be read: {error}"
    if not isinstance(item.get("id"), str):
        raise NoRow(problem or "it has no id", id_on(line))
    if not isinstance(item.get("properties"), dict | None):
        return as_text(item["id"], line), problem or "its properties are no object"
    return item, problem


def lenient_item(line: bytes) -> Json:
    """An item whose JSON has what JSON has not: NaN, or a number that no double holds; or else its text."""
    try:
        item = json.loads(line)
        msgspec.json.encode(item)
    except (ValueError, RecursionError):
        item = None
    return item if isinstance(item, dict) else as_text(id_on(line), line)


def as_text(item_id: str | None, line: bytes) -> Json:
    """Something to tell the versions of an item apart by that cannot be read."""
    return {"id": item_id, "text": line.decode(errors="replace")}


def id_on(line: bytes) -> str | None:
    """The id of an item that cannot be read as a whole."""
    found = re.search(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*")', line)
    try:
        return str(json.loads(found[1])).encode(errors="replace").decode() if found else None
    except ValueError:
        return found[1].decode(errors="replace").strip('"') if found else None


def check_row(item: Json, line: bytes, unread: str = "") -> str:
    """The month of an item that fits into a row.

    Raises:
        NoRow: it does not.
    """
    properties = item.get("properties") or {}
    month = month_of(properties)
    if problem := unread or problem_of(item, properties, line):
        raise NoRow(problem, item["id"], month)
    return month


def problem_of(item: Json, properties: Json, line: bytes) -> str:
    """Why an item does not fit into a row; empty if it does."""
    if nameless({**item, **properties}):
        return "it has a member whose name no column can have"
    if len(line) > LONGEST_LINE:
        return f"it is larger than {LONGEST_LINE:,} bytes"
    if repeats_names(item, line):
        return "it has two members of one name"
    unreadable = [name for name in MOMENTS if properties.get(name) is not None and instant(properties[name]) is None]
    if unreadable:
        return f"its {' and '.join(unreadable)} cannot be read"
    return place_problem(item.get("bbox"), item.get("geometry"))


def place_problem(bbox: object, geometry: object) -> str:
    """Why a bbox or a geometry does not fit into a row; empty if they do."""
    if bbox is not None and not is_bbox(bbox):
        return "its bbox is not four or six numbers"
    try:
        if geometry is not None:
            Geometry(geometry)
    except ValueError as error:
        return f"its geometry {error}"
    return ""


def repeats_names(item: Json, line: bytes) -> bool:
    """Whether an object in an item's JSON has two members of one name, of which readers see one.

    A line that names each member once has as many colons as the item written anew, unless one is escaped.
    """
    if line.count(b":") == msgspec.json.encode(item).count(b":") and b"\\u003" not in line:
        return False

    def members(pairs: list[tuple[str, Any]]) -> Json:
        if len(named := dict(pairs)) < len(pairs):
            raise KeyError
        return named

    try:
        json.loads(line, object_pairs_hook=members)
    except KeyError:
        return True
    return False


def is_bbox(value: object) -> bool:
    """Whether it is a list of four or six numbers."""
    return isinstance(value, list) and len(value) in (4, 6) and are_doubles(value)


def are_doubles(values: list[Any]) -> bool:
    """Whether all are numbers that a double holds."""
    return {int, float}.issuperset(map(type, values)) and all(
        abs(value) <= EXACT for value in values if type(value) is int
    )


def moment_of(properties: Json) -> datetime | None:
    """When an item is, by pgstac's rule: its start if start and end are both there, otherwise its datetime."""
    ranged = properties.get("start_datetime") is not None and properties.get("end_datetime") is not None
    return instant(properties.get("start_datetime" if ranged else "datetime"))


def month_of(properties: Json) -> str:
    """The file that holds an item."""
    moment = moment_of(properties)
    return f"{moment.year:04}-{moment.month:02}" if moment else UNDATED


def instant(text: object) -> datetime | None:
    """The moment that PostgreSQL holds for a text, in whole microseconds; None outside of the years 1 to 9999.

    As PostgreSQL does it, `:60` is the next minute, `24:00:00` the next day, what is finer is rounded half to even, and
    no zone is 16 hours or more from UTC: https://www.postgresql.org/docs/current/datetime-input-rules.html.
    """
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text) if PLAIN.fullmatch(text) else lenient(text)
    except ValueError:
        return lenient(text)


def lenient(text: str) -> datetime | None:
    """A moment that Python does not read as PostgreSQL does."""
    found = MOMENT.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second, away, beside = (int(found[n] or 0) for n in (1, 2, 3, 4, 5, 6, 9, 10))
    microsecond = round(float(f"0{found[7] or ''}") * 1_000_000)
    clock = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)
    if minute > 59 or second > 60 or clock > timedelta(days=1) or away > 15 or beside > 59:
        return None
    zone = timedelta(hours=away, minutes=beside)
    try:
        return datetime(year, month, day, tzinfo=UTC) + (clock + zone if found[8] == "-" else clock - zone)
    except (ValueError, OverflowError):
        return None


class Geometry:
    """A GeoJSON geometry, as ISO WKB.

    All of its positions have two or all have three numbers. What GEOS refuses to read, so that one row would keep
    geopandas from a whole file, is none: open rings, lines of one position, empty parts. Nor does rustac read a
    collection in a collection.

    Raises:
        ValueError: it is none; the end of a sentence that begins with it.
    """

    def __init__(self, geometry: object) -> None:
        self.size = 0
        self.box: Box = (math.inf, math.inf, -math.inf, -math.inf)
        self.more = False
        self.wkb = self.written(geometry)

    def written(self, geometry: object, inner: bool = False) -> bytes:
        """The WKB of a geometry or of one in a collection."""
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if not isinstance(geometry, dict) or not isinstance(kind, str) or kind not in GEOMETRIES:
            raise ValueError("is no GeoJSON geometry")
        if inner and kind == "GeometryCollection":
            raise ValueError("has a collection in a collection")
        inside = "geometries" if kind == "GeometryCollection" else "coordinates"
        self.more = self.more or bool(geometry.keys() - {"type", inside})
        return self.of_kind(kind, geometry.get(inside))

    def of_kind(self, kind: str, inside: object) -> bytes:
        """The WKB of a kind of geometry with that inside."""
        if kind == "Point":
            content = self.positions([inside], 1)
        elif kind == "LineString":
            content = counted(self.positions(inside, 2), inside)
        elif kind == "Polygon":
            content = counted(b"".join(map(self.ring, listed(inside))), inside)
        elif kind == "GeometryCollection":
            content = counted(b"".join(self.written(some, inner=True) for some in listed(inside)), inside)
        else:
            part = kind.removeprefix("Multi")
            content = counted(b"".join(self.of_kind(part, some) for some in listed(inside)), inside)
        return struct.pack("<BI", 1, GEOMETRIES[kind] + (1000 if self.size == 3 else 0)) + content

    def ring(self, inside: object) -> bytes:
        """The WKB of a ring."""
        content = counted(self.positions(inside, 4), inside)
        if listed(inside)[0] != listed(inside)[-1]:
            raise ValueError("has a ring that is not closed")
        return content

    def positions(self, inside: object, at_least: int) -> bytes:
        """The WKB of positions, without their number."""
        if not isinstance(inside, list) or not all(isinstance(position, list) for position in inside):
            raise ValueError("has coordinates that are no positions")
        if len(inside) < at_least:
            raise ValueError(f"has {len(inside)} positions where at least {at_least} must be")
        self.size = self.size or len(inside[0])
        if self.size not in (2, 3) or {self.size} != set(map(len, inside)):
            raise ValueError("has positions that are not all of two or all of three numbers")
        numbers = list(chain.from_iterable(inside))
        if not are_doubles(numbers):
            raise ValueError("has coordinates that are no numbers, or none that a double holds")
        xs, ys, (west, south, east, north) = numbers[:: self.size], numbers[1 :: self.size], self.box
        self.box = min(west, *xs), min(south, *ys), max(east, *xs), max(north, *ys)
        return struct.pack(f"<{len(numbers)}d", *numbers)


def listed(inside: object) -> list[Any]:
    """The parts of a geometry, of which there are some."""
    if not isinstance(inside, list) or not inside:
        raise ValueError("has a part that is empty or no list")
    return inside


def counted(content: bytes, inside: object) -> bytes:
    """The WKB of parts behind their number."""
    return struct.pack("<I", len(listed(inside))) + content


Part = tuple[Any, Any]
"""Of a value, what readers of stac-geoparquet expect by its name, and what is otherwise or more; either may be None."""


def part_text(value: object) -> Part:
    """A text, or not."""
    return (value, None) if isinstance(value, str) else (None, value)


def part_moment(value: object) -> Part:
    """A moment, or its text; both where it is finer than microseconds."""
    moment = instant(value)
    return moment, value if moment is None or FINER.search(str(value)) else None


def part_geometry(value: object) -> Part:
    """WKB, or not; both where there is more than a geometry."""
    try:
        geometry = Geometry(value)
    except ValueError:
        return None, value
    return geometry.wkb, value if geometry.more else None


def part_list(value: object, fits: Callable[[Any], bool]) -> Part:
    """The elements that fit, and those that do not."""
    if not isinstance(value, list):
        return None, value
    odd = [some for some in value if not fits(some)]
    return [some for some in value if fits(some)] if odd else value, odd or None


def part_extensions(value: object) -> Part:
    """Addresses of extensions."""
    return part_list(value, lambda extension: isinstance(extension, str))


def part_links(value: object) -> Part:
    """Links, which have an address and a relation."""
    return part_list(value, lambda link: are_texts(link, ("href", "rel"), ("type", "title", "method")))


def part_assets(value: object) -> Part:
    """Assets, which have an address."""
    if not isinstance(value, dict):
        return {}, value
    parts = {name: part_asset(asset) for name, asset in value.items() if asset is not None}
    odd = {name: part[1] for name, part in parts.items() if part[1] is not None}
    return {name: part[0] for name, part in parts.items() if part[0] is not None}, odd or None


def part_asset(asset: object) -> Part:
    """An asset, with its projected geometry as WKB."""
    if not isinstance(asset, dict) or not are_texts(asset, ("href",), ("title", "description", "type")):
        return None, asset
    if asset.get("roles") is not None and part_extensions(asset["roles"])[1] is not None:
        return None, asset
    if PROJECTED not in asset:
        return asset, None
    wkb, odd = part_geometry(asset[PROJECTED]) if asset[PROJECTED] is not None else (None, None)
    whole = {name: value for name, value in asset.items() if name != PROJECTED}
    return (whole if wkb is None else {**whole, PROJECTED: wkb}, None) if odd is None else (None, asset)


def are_texts(value: object, needed: Iterable[str], possible: Iterable[str]) -> bool:
    """Whether it is an object with texts in these places."""
    if not isinstance(value, dict):
        return False
    if any(type(value[name]) is not str for name in possible if name in value and value[name] is not None):
        return False
    return not any(type(value.get(name)) is not str for name in needed)


PARTS: dict[str, dict[str, Callable[[Any], Part]]] = {
    "item": {
        **dict.fromkeys(("id", "type", "stac_version", "collection"), part_text),
        "stac_extensions": part_extensions,
        "geometry": part_geometry,
        "bbox": lambda bbox: (bbox, None),
        "links": part_links,
        "assets": part_assets,
    },
    "properties": {
        **dict.fromkeys(DATES, part_moment),
        **dict.fromkeys(("title", "description"), part_text),
        PROJECTED: part_geometry,
    },
}
"""What readers of stac-geoparquet know by its name: another kind of value in one row keeps some from a whole file."""
RESERVED = {"properties", *PARTS["item"], *PARTS["properties"]}


def parted(item: Json) -> tuple[dict[str, Json], Json]:
    """The members of an item and its properties; and by the name of a column, what readers do not expect by theirs."""
    odd: Json = {}
    members = {"item": dict(item), "properties": dict(item.get("properties") or {})}
    members["item"].pop("properties", None)
    for source, values in members.items():
        for name, part in PARTS[source].items():
            if name in values:
                good, other = (None, None) if values[name] is None else part(values[name])
                values[name] = good
                if good is None:
                    del values[name]
                if other is not None:
                    odd[f"{source}:{name}"] = other
    members["item"].setdefault("assets", {})  # rustac reads no file where some items have assets and some have null
    return members, odd


@dataclass(slots=True)
class Shape:
    """What the values of one member are like, over all items."""

    kinds: set[object] = field(default_factory=set)
    members: dict[str, "Shape"] = field(default_factory=dict)
    element: "Shape | None" = None
    reason: str = ""
    """Why it is JSON text whatever its values are like."""

    def learn(self, value: object, depth: int = 0) -> int:
        """Take note of a value; how many more members are kept in mind for it."""
        if value is None or self.reason:
            return 0
        grown = 0
        kind = kind_of(value)
        if depth > DEEPEST and isinstance(value, dict | list):
            kind = "nested too deeply"
        elif isinstance(value, dict):
            grown = self.learn_members(value, depth)
        elif isinstance(value, list):
            if self.element is None:
                self.element = Shape()
            grown = sum(self.element.learn(part, depth + 1) for part in value)
        self.kinds.add(kind)
        return grown

    def learn_members(self, value: Json, depth: int) -> int:
        """Take note of an object."""
        grown, members = 0, self.members
        for name, part in value.items():
            shape = members.get(name)
            if shape is None:
                shape = members[name] = Shape()
                grown += 1
            if type(part) in PLAIN_KINDS:
                shape.kinds.add(type(part))  # a short cut for most of them
            else:
                grown += shape.learn(part, depth + 1)
        if len(members) > MOST_MEMBERS:
            return grown + self.become_text(f"more than {MOST_MEMBERS} different members")
        return grown

    def become_text(self, reason: str) -> int:
        """Be JSON text from now on; how many more members are kept in mind, which is a negative number."""
        forgotten = self.known()
        self.reason, self.members, self.element = reason, {}, None
        return -forgotten

    def known(self) -> int:
        """How many members are kept in mind, itself not among them."""
        inner = sum(1 + shape.known() for shape in self.members.values())
        return inner + (self.element.known() if self.element else 0)

    def columns(self) -> int:
        """How many columns of a Parquet file it takes."""
        if self.why_json():
            return 1
        inner = [*self.members.values(), *([self.element] if self.element else [])]
        return sum(shape.columns() for shape in inner) or 1

    def type(self, path: str, converted: dict[str, str]) -> str:
        """The DuckDB type that holds all values; JSON, with a reason in `converted`, where there is no other."""
        reason = self.why_json()
        if reason:
            converted[path] = reason
            return "JSON"
        if self.kinds == {dict}:
            return struct_of({name: shape.type(f"{path}.{name}", converted) for name, shape in self.members.items()})
        if self.kinds == {list}:
            return self.list_type(path, converted)
        return next((kind for kinds, kind in TYPES if self.kinds and self.kinds <= kinds), "VARCHAR")

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
        if self.reason:
            return self.reason
        named = sorted(kind.__name__ if isinstance(kind, type) else str(kind) for kind in self.kinds)
        if self.kinds & TEXT_ONLY or (len(named) > 1 and not any(self.kinds <= kinds for kinds, _ in TYPES)):
            return f"values of several types: {', '.join(named)}" if len(named) > 1 else named[0]
        if self.kinds != {dict}:
            return ""
        if not self.members:
            return "objects without members"
        if nameless(self.members):
            return "members whose names no column can have"
        return "members whose names differ in case only" if doubled(self.members) else ""

    def is_objects(self) -> bool:
        """Whether all members, or all elements, are objects that have columns."""
        inner = self.element or self
        shapes = [inner] if self.element else list(self.members.values())
        return not self.reason and not inner.why_json() and all(s.kinds == {dict} and not s.why_json() for s in shapes)

    def read(self, value: str) -> str:
        """The SQL of a value that was written as JSON: WKB is base64 there."""
        if self.kinds == {bytes}:
            return f"from_base64({value})"
        if not self.holds_wkb():
            return value
        parts = ", ".join(f"{quoted(name)} := {s.read(f'{value}.{quoted(name)}')}" for name, s in self.members.items())
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({parts}) END"

    def holds_wkb(self) -> bool:
        """Whether there is WKB in it."""
        if self.kinds == {bytes}:
            return True
        return not self.why_json() and any(shape.holds_wkb() for shape in self.members.values())


PLAIN_KINDS = {str, float, bool}
LONG, TOO_LONG = f"integers beyond {EXACT}", "integers beyond 64 bits"
TEXT_ONLY: set[object] = {TOO_LONG, "nested too deeply"}
TYPES: tuple[tuple[set[object], str], ...] = (
    ({bool}, "BOOLEAN"),
    ({int, LONG}, "BIGINT"),
    ({int, float}, "DOUBLE"),
    ({datetime}, "TIMESTAMPTZ"),
    ({str}, "VARCHAR"),
    ({bytes}, "VARCHAR"),
)
"""What holds some kinds of values exactly; WKB is base64 in JSON."""


def kind_of(value: object) -> object:
    """What a value is."""
    if type(value) is int and abs(value) > EXACT:
        return LONG if -(2**63) <= value < 2**63 else TOO_LONG
    return type(value)


def struct_of(types: Mapping[str, str]) -> str:
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
    """The items by month, on disk: zstd frames of lines, from buffers that are bounded together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.buffers: dict[str, bytearray] = {}
        self.buffered = 0
        self.zstd = zstandard.ZstdCompressor(level=1)

    def add(self, month: str, line: bytes) -> None:
        """Write an item down."""
        self.counts[month] += 1
        buffer = self.buffers.setdefault(month, bytearray())
        buffer += line + b"\n"
        self.buffered += len(line) + 1
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
        self.members: dict[str, dict[str, Shape]] = {"item": {}, "properties": {}}
        self.unlearned: set[str] = set()
        self.known = 0
        self.odd: dict[str, None] = {}
        self.solid = False

    def learn(self, item: Json) -> None:
        """Take note of an item."""
        members, odd = parted(item)
        for source, values in members.items():
            self.learn_members(source, values)
        self.odd.update(dict.fromkeys(odd))
        self.solid = self.solid or len(item.get("bbox") or ()) == 6

    def learn_members(self, source: str, values: Json) -> None:
        """Take note of the members of an item or of its properties; of so many that memory is bounded."""
        shapes = self.members[source]
        for name, value in values.items():
            shape = shapes.get(name)
            if shape is None:
                if len(shapes) >= MOST_COLUMNS and name not in RESERVED:
                    self.unlearned.add(source)
                    continue
                shape = shapes[name] = Shape()
            grown = shape.learn(value)
            if grown > 0 and self.known + grown > MOST_SHAPES:
                grown += shape.become_text("too many different members beside those of others")
            self.known += grown

    def fit(self, most: int) -> None:
        """Make JSON text of what takes the most columns, until there are no more than so many."""
        shapes = [shape for members in self.members.values() for shape in members.values()]
        columns = {id(shape): shape.columns() for shape in shapes}
        total = sum(columns.values())
        for shape in sorted(shapes, key=lambda shape: -columns[id(shape)]):
            taken = columns[id(shape)]
            if total <= most or taken == 1:
                return
            shape.become_text(f"{taken:,} columns, where all columns together must be at most {most:,}")
            total -= taken - 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in the file, what it is called in rows, how DuckDB reads it there."""

    name: str
    key: str
    type: str
    value: str


class Columns:
    """How the items of a collection become rows.

    A member gets a column of another name where its own is taken, as it is to DuckDB by one that differs in case only,
    or where readers know something else by it. Beyond a number of columns, the others are JSON text in one.
    """

    def __init__(self, schema: Schema, most: int) -> None:
        schema.fit(most)
        self.schema = schema
        self.converted: dict[str, str] = {}
        self.all: list[Column] = []
        self.taken = set(RESERVED)
        self.named: dict[str, dict[str, Column]] = {"item": {}, "properties": {}}
        self.named["item"]["geometry"] = self.column("geometry", "VARCHAR", "from_base64({})")
        self.named["properties"]["datetime"] = self.column("datetime", "TIMESTAMPTZ", "{}")
        self.text_of_assets = False
        for source, parts in PARTS.items():
            for name, shape in schema.members[source].items():
                if name in parts and name not in self.named[source] and is_there(shape):
                    self.named[source][name] = self.known(source, name, shape)
        self.odd = {name: self.not_known(*name.split(":", 1)) for name in schema.odd}
        self.others: dict[str, Column] = {}
        for source in ("properties", "item"):
            self.learned(source, most)

    def known(self, source: str, name: str, shape: Shape) -> Column:
        """The column of what readers know by its name."""
        if name == "bbox":
            return self.column(name, "DOUBLE[]", bbox("{}", self.schema.solid))
        if name == "links" and not (shape.element and shape.element.kinds):
            return self.column(name, LINKS, "{}")
        kind = shape.type(path_of(source, name), self.converted)
        if name in ("assets", "links") and (kind == "JSON" or not shape.is_objects()):
            self.text_of_assets = self.text_of_assets or name == "assets"
            return self.renamed(source, name, "JSON", "members that are not always objects")
        return self.column(name, kind, shape.read("{}"))

    def not_known(self, source: str, name: str) -> Column:
        """The column of what readers do not expect by its name."""
        if source == "item" and name == "assets" and self.text_of_assets:
            return self.named[source][name]
        return self.renamed(source, name, "JSON", "what readers of stac-geoparquet do not expect there is JSON text")

    def learned(self, source: str, most: int) -> None:
        """The columns of the other members of an item, or of its properties."""
        left_over = source in self.schema.unlearned
        for name, shape in self.schema.members[source].items():
            if name in PARTS[source]:
                continue
            if len(self.all) < most:
                self.named[source][name] = self.open(source, name, shape)
            else:
                left_over = True
        if left_over:
            self.others[source] = self.renamed(
                source, "others", "JSON", f"more than {most:,} columns: JSON text of the others"
            )

    def open(self, source: str, name: str, shape: Shape) -> Column:
        """The column of a member whose meaning is open."""
        kind = shape.type(path_of(source, name), self.converted)
        if name.lower() in self.taken:
            return self.renamed(source, name, kind, "its name is taken")
        return self.column(name, kind, "{}")

    def renamed(self, source: str, name: str, kind: str, reason: str) -> Column:
        """A column of another name, and why."""
        free = f"{source}:{name}"
        while free.lower() in self.taken:
            free = f"{source}:{free}"
        path = path_of(source, name)
        self.converted[path] = f"{self.converted.get(path, reason)}; it is the column {free}"
        return self.column(free, kind, "{}")

    def column(self, name: str, kind: str, value: str) -> Column:
        """One more column; in its value, `{}` stands for what it is called in rows."""
        key = f"c{len(self.all)}"
        self.taken.add(name.lower())
        self.all.append(Column(name, key, kind, value.replace("{}", key)))
        return self.all[-1]

    def row(self, item: Json) -> Json:
        """What is stored of an item; null is what is not there."""
        members, odd = parted(item)
        if self.text_of_assets and item.get("assets") is not None:
            members["item"]["assets"] = odd["item:assets"] = item["assets"]
        row: Json = {self.odd[name].key: value for name, value in odd.items() if name in self.odd}
        for source, values in members.items():
            others: Json = {}
            for name, value in values.items():
                if value is None:
                    continue
                if column := self.named[source].get(name):
                    row[column.key] = value
                elif name not in PARTS[source]:
                    others[name] = value
            if others:
                row[self.others[source].key] = others
        return row

    def query(self, rows: Path, longest: int) -> str:
        """The rows of a file, of which the longest has so many bytes."""
        columns = ", ".join(f"{column.value} AS {quoted(column.name)}" for column in self.all)
        types = {column.key: column.type for column in self.all}
        return f"SELECT {columns} FROM {lines(rows, types, longest=longest)}"  # noqa: S608  # names are quoted

    def metadata(self, covering: bool, projected: bool) -> str:
        """The file's GeoParquet and stac-geoparquet metadata; without a CRS it is OGC:CRS84, as GeoJSON is.

        Whether the bboxes hold the geometries, so that readers may look at those alone; and whether all rows have a
        projected geometry, since rustac makes empty polygons of none where those are declared.
        """
        corners = {corner: ["bbox", corner] for corner in ("xmin", "ymin", "xmax", "ymax")}
        wkb: Json = {"encoding": "WKB", "geometry_types": []}
        columns: Json = {"geometry": {**wkb, "covering": {"bbox": corners}} if covering else wkb}
        if projected:
            columns[PROJECTED] = {**wkb, "crs": None}
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": columns}
        return f"{{geo: {literal(json.dumps(geo))}, 'stac-geoparquet': {literal(json.dumps({'version': '1.1.0'}))}}}"


def path_of(source: str, name: str) -> str:
    """What a member is called in the report."""
    return name if source == "item" else f"{source}.{name}"


def is_there(shape: Shape) -> bool:
    """Whether any item has something there, be it an empty list."""
    return bool(shape.kinds) and (bool(shape.members or shape.reason) or shape.kinds != {dict})


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


def lines(file: Path, types: Mapping[str, str], compression: str = "zstd", longest: int = 1 << 24) -> str:
    """The table function that reads a spilled file, of whose objects the longest has so many bytes."""
    columns = ", ".join(f"{name}: {literal(kind)}" for name, kind in types.items())
    form = f"format = 'newline_delimited', compression = {literal(compression)}, maximum_object_size = {longest}"
    return f"read_json({literal(str(file))}, {form}, columns = {{{columns}}})"


class NoView(Exception):
    """The items of a collection cannot be written as Parquet."""


class Month:
    """One file of the answer."""

    def __init__(self, spill: Spill, month: str, columns: Columns, footprints: "Footprints") -> None:
        self.month, self.columns, self.footprints = month, columns, footprints
        self.spilled, self.count = spill.file(month), spill.counts[month]
        self.stored = spill.folder / f"{month}.rows.zst"
        self.file = spill.folder / f"{month}.parquet"
        self.longest = ROW_BUFFER
        self.covering = "bbox" in columns.named["item"]
        self.projected = PROJECTED in columns.named["properties"]

    def write(self, database: duckdb.DuckDBPyConnection) -> int:
        """Write the file; how many rows are in it.

        Raises:
            NoView: it is not what was archived, or too large for blob storage.
        """
        with self.stored.open("wb") as file, zstandard.ZstdCompressor(level=1).stream_writer(file) as rows_file:
            for line in archived(self.spilled):
                rows_file.write(self.row(msgspec.json.decode(line)))
        groups = f"ROW_GROUP_SIZE {ROW_GROUP_ROWS}, ROW_GROUP_SIZE_BYTES '{ROW_GROUP_BYTES}'"
        metadata = self.columns.metadata(self.covering, self.projected)
        options = f"FORMAT parquet, COMPRESSION zstd, {groups}, KV_METADATA {metadata}"
        query = self.columns.query(self.stored, self.longest)
        database.execute(f"COPY ({query}) TO {literal(str(self.file))} ({options})")
        self.stored.unlink()
        written = next(rows(database, f"SELECT count(*) FROM read_parquet({literal(str(self.file))})"))[0]  # noqa: S608
        if written != self.count:
            raise NoView(f"{written} rows of {self.month} are not its {self.count} items")
        if self.file.stat().st_size > MOST_BYTES:
            raise NoView(f"{self.month} has more than {MOST_BYTES:,} bytes, which no single upload may have")
        return self.count

    def row(self, item: Json) -> bytes:
        """A row of the file, as JSON; notes where it lies."""
        bbox, geometry = item.get("bbox"), item.get("geometry")
        if self.covering and geometry is not None:
            self.covering = covers(corners_of(bbox), Geometry(geometry).box)
        self.footprints.learn(corners_of(bbox), geometry)
        row = self.columns.row(item)
        self.projected = self.projected and self.columns.named["properties"][PROJECTED].key in row
        line = msgspec.json.encode(row) + b"\n"
        self.longest = max(self.longest, len(line))
        return line


def corners_of(bbox: list[float] | None) -> Box | None:
    """The corners of a bbox on the ground."""
    if bbox is None:
        return None
    half = len(bbox) // 2
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def covers(outer: Box | None, inner: Box) -> bool:
    """Whether a box holds another, and does not cross the antimeridian."""
    return outer is not None and all(
        low <= high
        for low, high in ((outer[0], inner[0]), (outer[1], inner[1]), (inner[2], outer[2]), (inner[3], outer[3]))
    )


def rows(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    """What a query answers, a thousand rows in memory."""
    answer = database.execute(query)
    while some := answer.fetchmany(1000):
        yield from some


class Footprints:
    """Where the rows of a collection lie: how many footprints touch each cell, on grids as fine as the limit allows."""

    def __init__(self) -> None:
        self.items = 0
        self.grids = [Grid(degrees) for degrees in GRIDS_DEGREES]

    def learn(self, corners: Box | None, geometry: Json | None) -> None:
        """Take note of a row: of its box, or of its geometry where the box is wide or missing."""
        unsure = corners is None or corners[2] - corners[0] > WIDE_DEGREES
        boxes = list(parts_of(geometry)) if unsure and geometry else []
        self.add([box for box in boxes or filter(None, [corners]) if on_earth(box)])

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


def on_earth(box: Box) -> bool:
    """Whether its latitudes are on Earth, and its longitudes at most one turn too far."""
    return all(abs(x) <= 540 for x in box[::2]) and -90 <= box[1] <= box[3] <= 90


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


class Unsound(Exception):
    """An archive is not what its receipt says: its shard has to be harvested again."""


def archived(file: Path) -> Iterator[bytes]:
    """The lines of an archived shard.

    Raises:
        Unsound: it is damaged.
    """
    try:
        with (
            file.open("rb") as packed,
            zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as raw,
        ):
            for line in io.BufferedReader(raw, 1 << 18):
                if not line.endswith(b"\n"):
                    raise Unsound("it ends in the middle of an item")
                yield line[:-1]
    except zstandard.ZstdError as error:
        raise Unsound(f"it is damaged: {error}") from None


@dataclass
class Divided:
    """What is known of all items of a collection after a look at each."""

    spill: Spill
    ids: Ids
    schema: Schema = field(default_factory=Schema)
    exceptions: Exceptions = field(default_factory=Exceptions)
    count: int = 0
    unsound: dict[str, str] = field(default_factory=dict)
    """Shards whose archives are not what their receipts say, and why."""
    replaced: dict[str, Shard] = field(default_factory=dict)
    """Shards of which an earlier attempt of this task took items out, as they are now."""

    def add(self, line: bytes, shard: int, number: int) -> None:
        """Take note of the item on a line of a shard."""
        self.count += 1
        try:
            item, unread = told(line)
            self.ids.add(item, shard, number)
            self.spill.add(check_row(item, line, unread), line)
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
    for place, part in enumerate(wanted.shards):
        packed = workplace / f"{part.name}.ndjson.zst.part"
        blob = f"{folder}/items/{wanted.segment}/{part.name}"
        try:
            fetch(storage, f"{blob}.ndjson.zst", packed)
            check(successor(storage, blob, part, packed, divided), packed, divided, place)
        except Unsound as unsound:
            divided.unsound[part.name] = str(unsound)
        packed.unlink(missing_ok=True)
    divided.spill.flush(list(divided.spill.buffers))
    note(f"{divided.count:,} items of {len(wanted.shards)} shards are in {len(divided.spill.counts)} months")
    return divided


def successor(storage: Storage, blob: str, part: Shard, packed: Path, divided: Divided) -> Shard:
    """A shard as it is now, if an earlier attempt of this task took items out of the archive that is asked for."""
    receipt = packed.with_name("receipt.part")
    if part.archive in (None, Seal.of(packed)) or not storage.download(f"{blob}.receipt.json", receipt):
        return part
    told = json.loads(receipt.read_bytes())
    if told.get("replaces") != part.archive.sha256:
        return part
    return divided.replaced.setdefault(part.name, msgspec.convert(told, type=Shard))


def check(part: Shard, packed: Path, divided: Divided, place: int) -> None:
    """Divide the items of a shard, after a look whether its archive is the one that its receipt was written for.

    Raises:
        Unsound: it is not.
    """
    if part.archive and part.archive != (there := Seal.of(packed)):
        raise Unsound(f"it has {there.size} bytes of SHA-256 {there.sha256}, not {part.archive.size} of its receipt's")
    count = hashes = 0
    for number, line in enumerate(archived(packed)):
        divided.add(line, place, number)
        count, hashes = count + 1, hashes + hash_on(line)
    if (count, f"{hashes % 2**256:064x}") != (part.count, f"{int(part.ids_hash, 16):064x}"):
        raise Unsound(f"it holds {count} items, which are not the {part.count} that its receipt is of")


def hash_on(line: bytes) -> int:
    """The SHA-256 of the id on a line, as a number; 0 where there is none."""
    try:
        item_id = msgspec.json.decode(line, type=Identified).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    return int.from_bytes(hashlib.sha256(item_id.encode()).digest())


def fetch(storage: Storage, name: str, target: Path) -> None:
    """Save a blob that must be there.

    Raises:
        Unsound: it is not.
    """
    if not storage.download(name, target):
        raise Unsound(f"{name} is not there")


def take_out(storage: Storage, blob: str, part: Shard, numbers: set[int], workplace: Path) -> Shard:
    """Take lines out of an archived shard. Its receipt is away meanwhile: half done, the shard is harvested again.

    Raises:
        Unsound: the receipt is not the one that this is about any more.
    """
    packed, kept, told = (workplace / name for name in ("whole.part", "kept.part", "receipt.part"))
    fetch(storage, f"{blob}.ndjson.zst", packed)
    fetch(storage, f"{blob}.receipt.json", told)
    receipt, moments, gone = json.loads(told.read_bytes()), [], set()
    if msgspec.convert(receipt, type=Shard) != part:
        raise Unsound("its receipt was replaced meanwhile")
    with kept.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as archive:
        for number, line in enumerate(archived(packed)):
            if number in numbers:
                gone.add(msgspec.json.decode(line, type=Identified).id)
            else:
                archive.write(line + b"\n")
                moments.append(moment_on(line))
    remaining = without(receipt, gone, moments, kept)
    storage.delete(f"{blob}.receipt.json")
    storage.put(f"{blob}.ndjson.zst", kept, "application/zstd")
    storage.put(f"{blob}.receipt.json", json.dumps(remaining).encode(), "application/json")
    note(f"{len(numbers)} items of {blob} are in another shard in a newer version; they are taken out")
    return msgspec.convert(remaining, type=Shard)


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
        "archive": msgspec.to_builtins(Seal.of(archive)) if receipt.get("archive") else None,
        "replaces": receipt["archive"]["sha256"] if receipt.get("archive") else None,
    }


def rfc3339(moment: datetime | None) -> str | None:
    """As text, with microseconds only where there are any."""
    return moment.replace(tzinfo=None).isoformat() + "Z" if moment else None


def compact(wanted: Wanted, storage: Storage, folder: str, workplace: Path) -> Json:
    """Write the files of all months, the ids and what changed, then the report; returns it."""
    with database(workplace) as connection:
        divided = divide(wanted, storage, folder, workplace)
        if divided.unsound:
            return put_report(wanted, storage, folder, unsound=divided.unsound)
        divided.ids.load(connection)
        cleaned = dict(divided.replaced)
        wanted = with_parts(wanted, cleaned)
        if stale_lines := stale(connection):
            again, unsound = clean(wanted, stale_lines, storage, folder, workplace)
            if unsound:
                return put_report(wanted, storage, folder, unsound=unsound)
            cleaned |= again
            divided.spill.clear()
            divided = divide(with_parts(wanted, again), storage, folder, workplace)
            divided.ids.load(connection)
        target = f"{folder}/parquet/{wanted.segment}"
        view = write_view(divided, storage, target)
        changes = write_ids(connection, wanted, storage, folder, workplace)
    told = {"cleaned": sorted(cleaned), "changed_by": divided.changed_by(), "changes": changes}
    return put_report(wanted, storage, folder, **view, **told)


def with_parts(wanted: Wanted, parts: Mapping[str, Shard]) -> Wanted:
    """What to compact, with some shards as they are now."""
    return msgspec.structs.replace(wanted, shards=[parts.get(part.name, part) for part in wanted.shards])


def put_report(wanted: Wanted, storage: Storage, folder: str, **told: Any) -> Json:
    """Write the report; returns it."""
    report: Json = {"collection": wanted.collection, "files": {}, **told}
    name = f"{folder}/parquet/{wanted.segment}/compaction.json"
    storage.put(name, json.dumps(report).encode(), "application/json")
    return report


def clean(
    wanted: Wanted, stale_lines: dict[int, set[int]], storage: Storage, folder: str, workplace: Path
) -> tuple[dict[str, Shard], dict[str, str]]:
    """Take older versions out of their shards: what those are now, by name, and which could not be changed and why."""
    cleaned, unsound = {}, {}
    for place, numbers in stale_lines.items():
        part = wanted.shards[place]
        blob = f"{folder}/items/{wanted.segment}/{part.name}"
        try:
            cleaned[part.name] = take_out(storage, blob, part, numbers, workplace)
        except Unsound as problem:
            unsound[part.name] = str(problem)
    return cleaned, unsound


def write_view(divided: Divided, storage: Storage, target: str) -> Json:
    """Write the files of all months, with few columns where memory is too short for many; what the report says of them.

    Where that cannot be done either, all items are exceptions: the archive alone has them.
    """
    problem = ""
    for most in (MOST_COLUMNS, FEWEST_COLUMNS):
        columns, footprints = Columns(divided.schema, most), Footprints()
        try:
            files = write_months(divided, columns, footprints, storage, target)
        except (duckdb.Error, NoView) as error:
            problem = one_line(str(error))
            note(f"with at most {most:,} columns the files cannot be written: {problem}")
        else:
            exceptions = divided.exceptions
            return view_of(files, exceptions.counts, exceptions.listed, columns.converted, footprints)
    for month in divided.spill.counts:
        storage.delete(f"{target}/{month}.parquet")
    counts = divided.exceptions.counts + divided.spill.counts
    sentence = f"the Parquet of this collection could not be written: {problem}"
    everything = {"id": None, "problem": sentence}
    return {**view_of({}, counts, [everything], {}, Footprints()), "failed": sentence}


def view_of(
    files: Json, exceptions: Counter[str], listed: list[Json], converted: dict[str, str], footprints: Footprints
) -> Json:
    """What the report says of the files."""
    none = {"rows": 0, "bytes": 0}
    return {
        "files": {n: {**files.get(n, none), "exceptions": exceptions[n]} for n in sorted({*files, *exceptions})},
        "exceptions": listed,
        "exceptions_count": exceptions.total(),
        "converted": converted,
        "footprints": footprints.report(),
        "failed": None,
    }


def write_months(divided: Divided, columns: Columns, footprints: Footprints, storage: Storage, target: str) -> Json:
    """Write a file for each month that has rows; how many, and its size.

    In a database of its own: one that ran out of memory, or met an error of its own, does not go on.
    """
    files: Json = {}
    with database(divided.spill.folder) as connection:
        connection.execute("SET threads = 1; SET preserve_insertion_order = false")  # one thread keeps it all the same
        for name in sorted(divided.spill.counts):
            month = Month(divided.spill, name, columns, footprints)
            count = month.write(connection)
            storage.put(f"{target}/{name}.parquet", month.file, "application/vnd.apache.parquet")
            files[name] = {"rows": count, "bytes": month.file.stat().st_size}
            note(f"{name}: {count:,} rows, {files[name]['bytes']:,} bytes")
            month.file.unlink()
    return files


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


def plain(text: str) -> str:
    """Text that nothing obeys instead of showing it: what a terminal would is escaped, and it stays on its line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def note(sentence: str) -> None:
    """Tell how it goes, on standard error."""
    print(f"compact_items: {plain(SECRET.sub('(secret)', sentence))}", file=sys.stderr, flush=True)


def wanted_from(storage: Storage, name: str) -> Wanted:
    """What the flow wrote into a blob: an environment variable is too short for the names of so many shards."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        file = Path(folder) / "wanted.json"
        if not storage.download(name, file):
            raise Failed(CONFIGURATION, f"COMPACT names {name}, which is not there; the flow writes it")
        try:
            return msgspec.json.decode(file.read_bytes(), type=Wanted)
        except msgspec.DecodeError as error:
            raise Failed(CONFIGURATION, f"{name} is not what to compact: {error}") from None


def run(environment: Mapping[str, str]) -> None:
    """Compact what the environment says."""
    missing = [name for name in REQUIRED if not environment.get(name)]
    if missing:
        raise Failed(CONFIGURATION, f"{', '.join(missing)} not set; set what the head of this script lists")
    root = environment["RESULTS_URL"].rstrip("/")
    if not ADDRESS.fullmatch(root):
        raise Failed(CONFIGURATION, f"RESULTS_URL must be an https address without user or query, not {root!r}")
    storage = Storage(Identity(environment["AZURE_CLIENT_ID"]), root)
    wanted = wanted_from(storage, environment["COMPACT"])
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
    for shard, problem in report.get("unsound", {}).items():
        note(f"shard {shard} has to be harvested again: {problem}")
    note(f"done: {sum(file['rows'] for file in report['files'].values()):,} rows in {len(report['files'])} files")


def main() -> int:
    """Compact; the exit code tells why that failed."""
    logging.disable(logging.CRITICAL)  # what libraries warn of is said by `Failed`
    os.environ["NETRC"] = os.devnull  # the environment gives proxies and certificates, never credentials
    try:
        run(os.environ)
    except Failed as failed:
        note(str(failed))
        return failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
