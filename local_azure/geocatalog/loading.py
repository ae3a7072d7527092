"""Builds the catalog file, once for each state of its source."""

import hashlib
import io
import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import zstandard

from local_azure.geocatalog import demo, geometry
from local_azure.geocatalog.times import instant

_FORMAT = "4"
"""To be raised when the tables change, so that files of an older form are built again."""

_TABLES = """
PRAGMA page_size = 16384;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE collections (position INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT);
CREATE TABLE items (
    collection TEXT NOT NULL, id TEXT NOT NULL, starts INTEGER, ends INTEGER,
    west REAL, south REAL, east REAL, north REAL, geometry BLOB,
    properties TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (collection, id)
);
"""

_INDEXES = """
CREATE INDEX by_collection ON items (collection, starts, id);
CREATE INDEX by_time ON items (starts, collection, id);
CREATE INDEX by_id ON items (id);
ANALYZE;
"""

_INSERT_ITEM = """
INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT))
ON CONFLICT (collection, id) DO UPDATE SET
    starts = excluded.starts, ends = excluded.ends, west = excluded.west, south = excluded.south,
    east = excluded.east, north = excluded.north, geometry = excluded.geometry,
    properties = excluded.properties, body = excluded.body
"""


class CatalogSourceError(Exception):
    """A line of the source is not a STAC object; the message names the line."""


class _Item(msgspec.Struct):
    id: str
    collection: str | None = None
    geometry: msgspec.Raw = msgspec.Raw(b"null")
    properties: msgspec.Raw = msgspec.Raw(b"{}")


class _Dates(msgspec.Struct):
    datetime: Any = None
    start_datetime: Any = None
    end_datetime: Any = None


def catalog_file(folder: Path, source: Path | None, demo_items: int) -> Path:
    """The SQLite file below `folder` that holds the source, built unless it is there already.

    Args:
        folder: kept from one start to the next.
        source: of foreign items, or None for demo items.
        demo_items: how many there are.
    """
    sources = sorted(source.glob("*.ndjson*")) if source else []
    key = repr([_FORMAT, demo_items if source is None else None, [_stamp(file) for file in sources]])
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.sqlite"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        partial = file.with_suffix(".part")
        if source:
            _build(partial, _lines(_collections_file(source)), _folder_items(source))
        else:
            _build(partial, demo.collections(), demo.items(demo_items))
        partial.rename(file)
    return file


def _stamp(file: Path) -> tuple[str | int, ...]:
    """What differs when a file has changed or another one has taken its place, old as that may be."""
    status = file.stat()
    return str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _collections_file(source: Path) -> Path:
    file = source / "collections.ndjson"
    if not file.is_file():
        raise CatalogSourceError(f"the catalog folder {source} has no collections.ndjson")
    return file


def _folder_items(source: Path) -> Iterator[tuple[str, bytes]]:
    """The items of a folder's files; a file's name is the collection of items that name none."""
    for file in sorted({*source.glob("*.ndjson"), *source.glob("*.ndjson.zst")} - {_collections_file(source)}):
        collection_id = unquote(file.name.removesuffix(".zst").removesuffix(".ndjson"))
        for line in _lines(file):
            yield collection_id, line


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as raw:
        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        text = io.BufferedReader(reader, 1 << 20) if file.suffix == ".zst" else raw
        for number, line in enumerate(text, 1):
            stripped = line.strip()
            if stripped:
                yield _checked(stripped, file, number)


def _checked(line: bytes, file: Path, number: int) -> bytes:
    try:
        msgspec.json.decode(line, type=_Item)
    except msgspec.DecodeError as error:
        raise CatalogSourceError(f"{file}, line {number} is not a STAC object: {error}") from error
    return line


def _build(file: Path, collections: Iterable[bytes], items: Iterable[tuple[str, bytes]]) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(_TABLES)
    connection.executemany(
        "INSERT OR REPLACE INTO collections (id, body) VALUES (?, CAST(? AS TEXT))",
        ((msgspec.json.decode(line, type=_Item).id, line) for line in collections),
    )
    lines = iter(items)
    while batch := list(itertools.islice(lines, 1000)):
        connection.executemany(_INSERT_ITEM, _rows(batch))
    connection.executescript(_INDEXES)
    connection.commit()
    connection.close()


def _rows(batch: list[tuple[str, bytes]]) -> Iterator[tuple[Any, ...]]:
    items = [msgspec.json.decode(line, type=_Item) for _, line in batch]
    shapes = geometry.shapes([bytes(item.geometry) for item in items])
    for (collection_id, line), item, shape in zip(batch, items, shapes, strict=True):
        properties = bytes(item.properties)
        yield (item.collection or collection_id, item.id, *_range(properties), *shape, properties, line)


def _range(properties: bytes) -> tuple[int | None, int | None]:
    """When an item is: pgstac's rule."""
    dates = msgspec.json.decode(properties, type=_Dates | None) or _Dates()
    if dates.start_datetime is not None and dates.end_datetime is not None:
        start, end = instant(dates.start_datetime), instant(dates.end_datetime)
    else:
        start = end = instant(dates.datetime)
    if start is None or end is None:
        return None, None
    return start, max(start, end)
