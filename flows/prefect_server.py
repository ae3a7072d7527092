"""A Prefect server for the runs of one command line, where none is configured; no run outlives its server."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from flows.children import child
from spatiobatch.errors import SpatiobatchError
from spatiobatch.output import check_folder

if TYPE_CHECKING:
    from prefect.settings import Settings  # it takes seconds to import

_START_SECONDS = 120
_ANSWER_SECONDS = 10
_LOOK_SECONDS = 5
_MOST_MISSED = 6
"""Looks, in whose time somebody's server may start again; not seconds, since this process may be stopped."""
_MOST_LINES = 50
_SAYING_SECONDS = 2

_lost = threading.Event()


class PrefectServerError(SpatiobatchError):
    """Prefect's server did not start, or does not answer."""


class PrefectServerLostError(PrefectServerError):
    """Prefect's server is gone in the middle of a run."""

    def __init__(self, address: str, kept: str) -> None:
        going_on = "what it has brought so far is kept, and the same command goes on with it"
        super().__init__(f"Prefect's server at {address} is gone, and the run ended with it; {kept or going_on}.")


class ServerWatch:
    """Ends the run of this process, which could not end well any more, when its Prefect server is gone."""

    def __init__(self, api_url: str, is_missing: Callable[[], bool], most_missed: int = 1) -> None:
        self.api_url = api_url
        self.is_missing = is_missing
        self._most_missed = most_missed

    @property
    def address(self) -> str:
        """Where the server is, without whoever signs in there."""
        return urlsplit(self.api_url).netloc.rpartition("@")[2]

    def ended_run(self) -> bool:
        """Whether the signal that came is the watch's own."""
        return _lost.is_set()

    def is_lost(self) -> bool:
        """Whether the server is gone, so that it may be behind any error."""
        if self.is_missing():
            _lost.set()
        return _lost.is_set()

    @contextmanager
    def watching(self, settings: "Settings") -> Iterator[None]:
        """Watch for the time of a `with`, whose Prefect settings are these."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=[over, settings], daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event, settings: "Settings") -> None:
        missed = 0
        while missed < self._most_missed:
            if over.wait(_LOOK_SECONDS):
                return
            missed = missed + 1 if self.is_missing() else 0
        settings.client.max_retries = 0  # each client would go on asking for a minute, one after the other
        _lost.set()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


@contextmanager
def some_server() -> Iterator[ServerWatch]:
    """The server that is configured, or else one for a while; it is watched.

    Prefect would start one by itself, in this process's group: a flow that loses its server to Ctrl-C or `timeout`
    cannot end its Batch job any more, and tries for minutes to say that it crashed.

    Raises:
        PrefectServerError: it does not start, or the one that is configured does not answer.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415  # it takes seconds to import

    configured = PREFECT_API_URL.value()
    watch = _configured_server(configured) if configured else _own_server()
    with temporary_settings({PREFECT_API_URL: watch.api_url}) as settings, watch.watching(settings):
        yield watch


def leave(code: int) -> NoReturn:
    """End this process; at once if its Prefect server is gone, which Prefect's threads would try for minutes to tell.

    They are waited for before anything that `atexit` knows, and cannot be told to end.
    """
    if _lost.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _configured_server(api_url: str) -> ServerWatch:
    watch = ServerWatch(api_url, lambda: bool(_silence(api_url)), _MOST_MISSED)
    if problem := _silence(api_url):
        raise PrefectServerError(
            f"Prefect's server at {watch.address}, which PREFECT_API_URL names, does not answer ({problem}): start it, "
            "or unset PREFECT_API_URL (prefect config unset PREFECT_API_URL) for the run to have one of its own."
        )
    return watch


def _silence(api_url: str) -> str:
    """Why a server does not answer; nothing for one that does, whatever its answer."""
    import httpx  # noqa: PLC0415
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.settings import (  # noqa: PLC0415
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    once = {
        PREFECT_API_URL: api_url,
        PREFECT_API_REQUEST_TIMEOUT: _ANSWER_SECONDS,
        PREFECT_CLIENT_MAX_RETRIES: 0,
    }
    with temporary_settings(once), get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    return str(problem) or type(problem).__name__ if isinstance(problem, httpx.TransportError) else ""


@cache
def _own_server() -> ServerWatch:
    """A server that ends with this process, since until then Prefect's threads tell it of events."""
    check_folder(prefect_home())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    until_exit = ExitStack()
    atexit.register(until_exit.close)
    address, process = until_exit.enter_context(server(port, "--no-ui", errors=subprocess.PIPE))
    return ServerWatch(f"{address}/api", lambda: process.poll() is not None)


def prefect_home() -> Path:
    """The folder of Prefect's database (https://docs.prefect.io/v3/api-ref/settings-ref#home)."""
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")


@contextmanager
def server(
    port: int, *options: str, errors: IO[bytes] | int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server that answers; its address, and its process.

    Args:
        port: on loopback.
        options: of `prefect server start`.
        errors: as of `Popen`; what comes through a pipe is told only if the server does not start.

    Raises:
        PrefectServerError: it does not answer within two minutes.
    """
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), *options]
    address = f"http://127.0.0.1:{port}"
    said: deque[bytes] = deque(maxlen=_MOST_LINES)
    with child(command, Path.cwd(), output=subprocess.DEVNULL, errors=errors) as process:
        reader = threading.Thread(target=partial(said.extend, process.stderr or ()), daemon=True)
        reader.start()
        if not _answers(address, process):
            reader.join(_SAYING_SECONDS)
            raise PrefectServerError(f"Prefect's server did not start at {address}: {_reason(said)}")
        yield address, process


def _answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/api/health", timeout=5):  # noqa: S310  # our own address
                return True
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    return False


def _reason(said: Iterable[bytes]) -> str:
    """The last error that a server named, or else its last words."""
    lines = [line.decode(errors="replace").strip() for line in list(said)]
    named = [line for line in lines if "Error" in line.partition(" ")[0]] or [line for line in lines if line]
    return f"{named[-1]}." if named else "is the port free? What it said is above."
