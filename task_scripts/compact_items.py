"""Turn the archived items of one collection into stac-geoparquet, one file for each month of their moment (UTC).

Runs alone on a Batch node; needs `requests`, `azure-identity`, `msgspec`, `zstandard` and `duckdb`. Environment:
`RESULTS_URL` (the container), `HARVEST_ID`, `AZURE_CLIENT_ID` (the node identity's) and `COMPACT` (JSON, see `Wanted`).
Reads `harvests/<id>/items/<segment>/<shard>.ndjson.zst`; writes `harvests/<id>/parquet/<segment>/<yyyy-mm>.parquet`,
`undated.parquet` and, last, `compaction.json`. Does the same again on a second run.

Two looks at the items. The first divides them by month, on disk, and learns what types each member has in the whole
collection, so that all its files have the same columns and none is lost. The second has DuckDB write the files.
They hold:
- a column for each member of an item and for each of its properties, after https://github.com/stac-utils/stac-geoparquet;
- as JSON text, in every row, what differs in type between items or has no type (`converted` in the report says which);
- every item but the *exceptions*, those of which one cannot make a row: no JSON, no usable geometry, bbox or dates.
An item without a geometry keeps its row. An id that two shards hold has one row in a month, its newest version.

Reading order: `compact` says what happens; `Spill` divides, `Shape` learns, `Columns` and `Month` write; `Storage` asks.

Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 storage refused it (401, 403);
5 an archive is not what a harvest leaves, or rows got lost; 6 out of reach, or unavailable after all attempts.
"""

import io
import json
import logging
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
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
CONNECT_AND_READ_SECONDS = (10, 60)
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
BUFFERED_BYTES, FRAME_BYTES = 64 << 20, 1 << 20
ROW_GROUP_ROWS = 10_000
MEMORY_LIMIT, THREADS = "1GB", 2
LISTED_AT_MOST = 1000
PROGRESS_ITEMS = 100_000
LINKS = "STRUCT(href VARCHAR, rel VARCHAR, \"type\" VARCHAR, title VARCHAR)[]"


class Failed(Exception):
    """The run cannot go on: an exit code, and the sentence to say."""

    def __init__(self, exit_code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class NoRow(Exception):
    """An item does not fit into a row."""


class Wanted(msgspec.Struct, frozen=True):
    """What to compact."""

    collection: str
    segment: str
    shards: list[str]


class Entry(NamedTuple):
    """An item that fits into a row."""

    item: Json
    month: str
    changed: datetime | None


def entry_of(line: bytes) -> Entry:
    """The item on a line of the archive.

    Raises:
        NoRow: it cannot be a row.
    """
    if len(line) > LONGEST_LINE:
        raise NoRow(f"it is larger than {LONGEST_LINE:,} bytes")
    try:
        item: Json = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NoRow(f"its JSON cannot be read: {error}") from None
    properties = item.get("properties") or {}
    if not isinstance(item.get("id"), str) or not isinstance(properties, dict):
        raise NoRow("it has no id, or properties that are no object")
    if (bbox := item.get("bbox")) is not None and not is_bbox(bbox):
        raise NoRow("its bbox is not four or six numbers")
    unreadable = [name for name in MOMENTS if properties.get(name) is not None and instant(properties[name]) is None]
    if unreadable:
        raise NoRow(f"its {' and '.join(unreadable)} cannot be read")
    versions = (instant(properties.get(name)) for name in ("updated", "_msft:ts"))
    return Entry(item, month_of(properties), max(filter(None, versions), default=None))


def is_bbox(value: object) -> bool:
    """Whether it is a list of four or six numbers."""
    return isinstance(value, list) and len(value) in (4, 6) and all(type(number) in (int, float) for number in value)


def month_of(properties: Json) -> str:
    """The file that holds an item: by its start if start and end are both there, otherwise by its datetime."""
    ranged = properties.get("start_datetime") is not None and properties.get("end_datetime") is not None
    moment = instant(properties.get("start_datetime" if ranged else "datetime"))
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
            return f"{self.element.type(f'{path}[]', converted) if self.element else 'VARCHAR'}[]"
        if self.kinds == {bool}:
            return "BOOLEAN"
        if self.kinds == {int}:
            return "BIGINT"
        return "DOUBLE" if float in self.kinds else "VARCHAR"

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
        return "members whose names differ in case only" if doubled(self.members) else ""


def struct(types: Mapping[str, str]) -> str:
    """The type of an object with these members."""
    return f"STRUCT({', '.join(f'{quoted(name)} {kind}' for name, kind in types.items())})"


def doubled(names: Iterable[str]) -> set[str]:
    """Those of the names that DuckDB takes for an earlier one, since they differ in case only."""
    seen: set[str] = set()
    return {name for name in names if name.lower() in seen or seen.add(name.lower())}  # type: ignore[func-returns-value]  # `add` as the filter's memory


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"{}"'.format(name.replace('"', '""'))


def literal(text: str) -> str:
    """An SQL string."""
    return "'{}'".format(text.replace("'", "''"))
