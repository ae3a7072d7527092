"""A Prefect server for the runs of one command line, where none is configured."""

import atexit
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from flows.children import child
from spatiobatch.errors import SpatiobatchError

_START_SECONDS = 120


class PrefectServerError(SpatiobatchError):
    """Prefect's server did not start."""

    def __init__(self, address: str) -> None:
        super().__init__(f"Prefect's server did not start at {address}: is the port free? What it said is above.")


@contextmanager
def some_server() -> Iterator[None]:
    """The server that is configured, or else one for a while.

    Prefect would start one by itself, in this process's group: a flow that loses its server to Ctrl-C or `timeout`
    cannot end its Batch job any more, and tries for minutes to say that it crashed.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415  # it takes seconds to import

    if PREFECT_API_URL.value():
        yield
    else:
        with temporary_settings({PREFECT_API_URL: f"{_own_server()}/api"}):
            yield


@cache
def _own_server() -> str:
    """The address of a server that ends with this process, since until then Prefect's threads tell it of events."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    until_exit = ExitStack()
    atexit.register(until_exit.close)
    address, _ = until_exit.enter_context(server(port, "--no-ui"))
    return address


@contextmanager
def server(port: int, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server that answers; its address, and its process.

    Raises:
        PrefectServerError: it does not answer within two minutes.
    """
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), *options]
    address = f"http://127.0.0.1:{port}"
    with child(command, Path.cwd(), output=subprocess.DEVNULL) as process:
        _wait_for(address, process)
        yield address, process


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/api/health", timeout=5):  # noqa: S310  # our own address
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    raise PrefectServerError(address)
