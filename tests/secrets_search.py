"""Where a run may leave something, as text; and the search for secrets in it."""

import base64
import json
import logging
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import duckdb
import zstandard
from flow_runs import Site
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    temporary_settings,
)

from tasks.environment import read_environment

SHAPES = {
    "token": re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}"),
    "signature": re.compile(r"(?i)\bsig=[\w%+/=-]{20,}"),
    "account key": re.compile(r"(?i)\bAccountKey=[\w+/=]{20,}"),
    "bearer": re.compile(r"Bearer (?!authorization_uri)[\w.-]{20,}"),
}
"""What a secret looks like whose value nobody told us, as the tokens of nodes."""


@dataclass
class Secrets:
    """Secrets by what they are, and what their shapes are."""

    values: dict[str, str] = field(default_factory=dict)

    def found_in(self, texts: Iterable[tuple[str, str]]) -> list[str]:
        """`kind in place`, without the secret itself."""
        return [f"{kind} in {place}" for place, text in texts for kind in self._kinds(text)]

    def _kinds(self, text: str) -> Iterator[str]:
        for kind, value in self.values.items():
            if any(form in text for form in {value, quote(value, safe=""), base64.b64encode(value.encode()).decode()}):
                yield kind
        for kind, shape in SHAPES.items():
            if shape.search(text):
                yield f"a {kind}"


def texts_below(folder: Path, pattern: str = "**/*") -> list[tuple[str, str]]:
    """All files as text, what is packed unpacked."""
    return [(str(file.relative_to(folder)), _text(file)) for file in sorted(folder.glob(pattern)) if file.is_file()]


def _text(file: Path) -> str:
    if file.suffix == ".parquet":
        with duckdb.connect() as connection:
            return str(connection.execute("SELECT * FROM read_parquet(?)", [str(file)]).fetchall())
    content = file.read_bytes()
    if file.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(content).read()
    return content.decode("utf-8", errors="replace")


def rows_of(database: Path) -> list[tuple[str, str]]:
    """Every row of an SQLite database, by its table."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [(name, repr(row)) for name in names for row in connection.execute(f'SELECT * FROM "{name}"')]  # noqa: S608


def batch_documents(site: Site) -> list[tuple[str, str]]:
    """Pools, nodes, jobs and tasks as Batch answers them."""
    with site.environment():
        batch = site.azure.batch(read_environment.fn(site.azure).batch_endpoint)
        jobs = list(batch.list_jobs())
        pools = list(batch.list_pools())
        nodes = [node for pool in pools for node in batch.list_nodes(pool.id)]
        tasks = [task for job in jobs for task in batch.list_tasks(job.id)]
    return [
        (f"{type(each).__name__} {each.id}", json.dumps(each.as_dict())) for each in (*pools, *nodes, *jobs, *tasks)
    ]


@contextmanager
def logged_in_full(file: Path) -> Iterator[None]:
    """Everything that anybody logs, down to DEBUG, goes to Prefect's database and into a file."""
    root, handlers = logging.getLogger(), [APILogHandler(), logging.FileHandler(file)]
    handlers[1].setFormatter(logging.Formatter("%(name)s: %(message)s"))
    level = root.level
    root.setLevel(logging.DEBUG)
    for handler in handlers:
        root.addHandler(handler)
    try:
        with temporary_settings(
            {PREFECT_LOGGING_TO_API_ENABLED: True, PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}
        ):
            yield
            handlers[0].flush()
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
