"""Pages of the local GeoCatalog beside the same bytes from a plain HTTP server."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from benchmarks.results import Result
from tasks.clients import AzureClients
from tasks.roles import Grant, ensure_role

_PAGE = 1000
_REPEATS = 3
_TIMEOUT_SECONDS = 60


def measure(azure: AzureClients, catalog_url: str, folder: Path) -> list[Result]:
    """Items per second over all items of the catalog, the best of three passes."""
    session = signed_in(azure)
    first = f"{catalog_url}/stac/search?limit={_PAGE}&api-version={azure.settings.geocatalog_api_version}"

    bodies = list(_pages(session, first))
    items = sum(len(json.loads(body)["features"]) for body in bodies)
    paging = _best(lambda: list(_pages(session, first)))
    for number, body in enumerate(bodies):
        (folder / f"{number}.json").write_bytes(body)
    with _plain_server(folder) as root:
        plain = _best(lambda: [json.loads(_get(session, f"{root}/{number}.json")) for number in range(len(bodies))])
    return [
        Result(f"GeoCatalog pages of {_PAGE:,}", items / paging, "their bytes, plain HTTP", items / plain, "items/s"),
    ]


def signed_in(azure: AzureClients) -> requests.Session:
    """A client of the GeoCatalog that reads it as the operator."""
    ensure_role.fn(azure, Grant("GeoCatalog Reader", *azure.operator, azure.settings.geocatalog_id))
    session = requests.Session()
    session.trust_env = False  # a CA bundle of the environment's would go before this cloud's
    session.verify = str(azure.cloud.ca_file) if azure.cloud.ca_file else True
    token = azure.credential.get_token(azure.cloud.required_geocatalog_scope()).token
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def _pages(session: requests.Session, url: str | None) -> Iterator[bytes]:
    while url:
        body = _get(session, url)
        yield body
        url = next((link["href"] for link in json.loads(body)["links"] if link["rel"] == "next"), None)


def _get(session: requests.Session, url: str) -> bytes:
    answer = session.get(url, timeout=_TIMEOUT_SECONDS)
    answer.raise_for_status()
    return answer.content


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of three passes: others' work on the machine only ever adds."""
    times = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


@contextmanager
def _plain_server(folder: Path) -> Iterator[str]:
    """Python's own file server, with the connection kept open as the GeoCatalog keeps it."""
    command = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]
    with subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            yield said.rpartition("(")[2].split("/)")[0]
        finally:
            process.terminate()
