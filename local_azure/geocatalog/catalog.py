"""The catalog: collections and items in one read-only SQLite file, and the searches over it.

Follows pgstac 0.8 (https://github.com/stac-utils/pgstac), the generation that answers as recorded GeoCatalogs do: an
item's range is its start and end if both are there, otherwise its `datetime`; the `datetime` parameter matches closed
intervals that overlap; pages are sorted by `datetime` downwards unless told otherwise, and by id downwards where the
sort does not name `id`. A page continues after the item that the token names, where that item is by then; but by id in
the direction of the first key (`get_token_filter`), whichever way the page was sorted (`sort_sqlorderby`). So an
ascending sort that does not name `id` skips and repeats ties at the ends of its pages; and items of one id and moment
in two collections pass for one there, whatever the sort.

Differences: items without a range are kept (they match no interval, and sort as null does in
PostgreSQL); a range that ends before it starts is taken for its start; text sorts by code point, numbers by
value, which pgstac sorts as text unless a queryable declares them; items without a value are not repeated on each page
of a sort upwards by a second key.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from local_azure.geocatalog.envelope import no_collection
from local_azure.geocatalog.filters import Condition, all_of, column
from local_azure.geocatalog.geometry import relates
from local_azure.geocatalog.times import instant

_NEVER_NULL = {"id", "collection"}


class TokenGoneError(Exception):
    """The item that a token names is not in the catalog; pgstac answers this with status 500 too."""


class SortKey(NamedTuple):
    """One field to sort by."""

    field: str
    descending: bool


@dataclass(frozen=True)
class Page:
    """Items, and the token of the page that follows."""

    bodies: list[bytes]
    next_token: str | None


@dataclass(frozen=True)
class Search:
    """Which items, in which order."""

    conditions: tuple[Condition, ...] = ()
    sort_keys: tuple[SortKey, ...] = ()
    limit: int = 10
    token: str | None = None

    @property
    def order(self) -> list[SortKey]:
        """The sort keys, with `id` downwards where none names it."""
        return self._with_id(descending=True)

    @property
    def continuation(self) -> list[SortKey]:
        """The keys by which the next page continues, up to `id`; pgstac adds it in the direction of the first key."""
        keys = self._with_id(descending=self._keys[0].descending)
        return keys[: [key.field for key in keys].index("id") + 1]

    @property
    def _keys(self) -> list[SortKey]:
        return list(self.sort_keys) or [SortKey("datetime", descending=True)]

    def _with_id(self, *, descending: bool) -> list[SortKey]:
        named = any(key.field == "id" for key in self._keys)
        return self._keys if named else [*self._keys, SortKey("id", descending)]


class Catalog:
    """Reads one catalog file, from any thread."""

    def __init__(self, file: Path, served: Callable[[bytes], bytes] = bytes) -> None:
        """Open a catalog file.

        Args:
            file: what `catalog_file` has built.
            served: makes of an item as it is stored what is answered.
        """
        self._file = file
        self._served = served
        self._threads = threading.local()

    @property
    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._threads, "connection"):
            self._threads.connection = _open(self._file)
        connection: sqlite3.Connection = self._threads.connection
        return connection

    def collections(self) -> list[bytes]:
        """The collections as stored, in the order of the source."""
        return [body for (body,) in self._connection.execute("SELECT body FROM collections ORDER BY position")]

    def collection(self, collection_id: str) -> bytes:
        """One collection as stored.

        Raises:
            ApiError: 404, it is not there.
        """
        row = self._connection.execute("SELECT body FROM collections WHERE id = ?", (collection_id,)).fetchone()
        if row is None:
            raise no_collection(collection_id)
        body: bytes = row[0]
        return body

    def item(self, collection_id: str, item_id: str) -> bytes | None:
        """One item."""
        found = self._connection.execute(
            "SELECT body FROM items WHERE collection = ? AND id = ?", (collection_id, item_id)
        ).fetchone()
        return self._served(found[0]) if found else None

    def page(self, search: Search) -> Page:
        """The page of a search that its token names, the first without one.

        Raises:
            TokenGoneError: the token's item is not in the catalog.
        """
        where = all_of([*search.conditions, *self._after(search.token, search.continuation)])
        order = ", ".join([*map(_order, search.order), "collection"])
        rows = self._connection.execute(
            f"SELECT collection, id, body FROM items WHERE {where.sql} ORDER BY {order} LIMIT ?",  # noqa: S608  # built from placeholders and checked names
            (*where.values, search.limit + 1),
        ).fetchall()
        bodies = [self._served(body) for _, _, body in rows[: search.limit]]
        if len(rows) <= search.limit:
            return Page(bodies, None)
        collection_id, item_id, _ = rows[search.limit - 1]
        return Page(bodies, f"next:{collection_id.decode()}:{item_id.decode()}")

    def _after(self, token: str | None, keys: Sequence[SortKey]) -> Iterator[Condition]:
        """What is true of the items behind the one that a token names."""
        if token is None:
            return
        values = self._values(token, keys)
        bound = _index_bound(keys[0], values[0])
        if bound:
            yield bound
        alternatives = []
        for i, key in enumerate(keys):
            ties = [Condition(f"{column(tie.field)} IS ?", (values[n],)) for n, tie in enumerate(keys[:i])]
            alternatives.append(all_of([*ties, _beyond(key, values[i])]))
        yield Condition(
            " OR ".join(f"({alternative.sql})" for alternative in alternatives),
            tuple(value for alternative in alternatives for value in alternative.values),
        )

    def _values(self, token: str, keys: Sequence[SortKey]) -> list[Any]:
        """The sort values of the item `next:<collection>:<id>`; both names may hold colons."""
        names = token.removeprefix("next:")
        columns = ", ".join(column(key.field) for key in keys)
        for i, character in enumerate(names):
            if character == ":":
                row = self._connection.execute(
                    f"SELECT {columns} FROM items WHERE collection = ? AND id = ?",  # noqa: S608  # checked names
                    (names[:i], names[i + 1 :]),
                ).fetchone()
                if row:
                    return [value.decode() if isinstance(value, bytes) else value for value in row]
        raise TokenGoneError(f"The item of the token {token!r} does not exist.")


def _order(key: SortKey) -> str:
    name = column(key.field)
    if key.field in _NEVER_NULL:
        return f"{name} DESC" if key.descending else name
    return f"{name} DESC NULLS FIRST" if key.descending else f"{name} ASC NULLS LAST"


def _beyond(key: SortKey, value: Any) -> Condition:
    """What is true of a value behind `value`; null is greater than all, as in PostgreSQL."""
    name = column(key.field)
    if key.descending:
        return Condition(f"{name} IS NOT NULL") if value is None else Condition(f"{name} < ?", (value,))
    if value is None:
        return Condition("FALSE")
    return Condition(f"{name} > ? OR {name} IS NULL", (value,))


def _index_bound(key: SortKey, value: Any) -> Condition | None:
    """A bound that follows from the others, and that an index can serve."""
    if value is None or (not key.descending and key.field not in _NEVER_NULL):
        return None
    return Condition(f"{column(key.field)} {'<=' if key.descending else '>='} ?", (value,))


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    connection.text_factory = bytes
    connection.execute("PRAGMA mmap_size = 2147483648")
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.create_function("instant", 1, instant, deterministic=True)
    connection.create_function("relates", 3, relates, deterministic=True)
    return connection
