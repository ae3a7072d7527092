"""What the stand-in remembers: tables of JSON documents in one SQLite file."""

import json
import sqlite3
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class Table(MutableMapping[str, Document]):
    """A dict of JSON documents that outlives the process.

    A document is written when it is assigned, so a change made in place must be followed by
    `table[key] = document`. Keys are kept in the order of their first assignment.
    """

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        rows = connection.execute("SELECT key, body FROM documents WHERE tbl = ? ORDER BY rowid", (name,))
        self._documents: dict[str, Document] = {key: json.loads(body) for key, body in rows}

    def __getitem__(self, key: str) -> Document:
        return self._documents[key]

    def __setitem__(self, key: str, document: Document) -> None:
        self._connection.execute(
            "INSERT INTO documents (tbl, key, body) VALUES (?, ?, ?) "
            "ON CONFLICT (tbl, key) DO UPDATE SET body = excluded.body",
            (self._name, key, json.dumps(document)),
        )
        self._documents[key] = document

    def __delitem__(self, key: str) -> None:
        del self._documents[key]
        self._connection.execute("DELETE FROM documents WHERE tbl = ? AND key = ?", (self._name, key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)

    def below(self, prefix: str) -> list[Document]:
        """The documents whose key starts with `prefix`, oldest first."""
        return [document for key, document in self._documents.items() if key.startswith(prefix)]


class Store:
    """The state folder: `folder` for files, `table(name)` for documents."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._connection = sqlite3.connect(folder / "state.sqlite", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents (tbl TEXT, key TEXT, body TEXT, UNIQUE (tbl, key))"
        )
        self._tables: dict[str, Table] = {}

    def table(self, name: str) -> Table:
        """The table of that name, the same object at every call."""
        if name not in self._tables:
            self._tables[name] = Table(self._connection, name)
        return self._tables[name]

    def close(self) -> None:
        """Write what is left and let go of the file."""
        self._connection.close()
