"""Starts every service on a port of its own, writes the env file, and serves until it is told to end."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from local_azure import arm, batch, blob, geocatalog
from local_azure.batch.jobs import Jobs
from local_azure.cloud import Addresses, Cloud, Options
from local_azure.directions import directions
from local_azure.faults import FaultMiddleware
from local_azure.identity import login
from local_azure.identity.imds import Imds
from local_azure.nodes import Nodes
from local_azure.recording import RecordingMiddleware

logger = logging.getLogger("local_azure")

_LISTENERS = ("arm", "identity", "batch", "blob", "geocatalog", "imds")
_LOCK_SECONDS = 10


class StateInUseError(Exception):
    """Another process serves from the same state folder."""


class _Connection(HttpToolsProtocol):
    """Lets the application reach its connection, so that a fault can drop it, and ends when the server does."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)

    def shutdown(self) -> None:
        """End at once where nothing is being answered: over TLS, a client that is idle would be waited for."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()


class _Server(uvicorn.Server):
    """Leaves signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Catch nothing."""
        yield


async def serve(options: Options, env_file: Path) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        StateInUseError: another local_azure runs on the same state.
    """
    with _only_one(options.state):
        sockets = _listen(options.state / "ports.json")
        cloud = Cloud(options, _addresses(sockets))
        cloud.imds, cloud.jobs, cloud.nodes = Imds(cloud), Jobs(cloud), Nodes(cloud)
        apps = {
            "arm": arm.app(cloud),
            "identity": login.app(cloud),
            "batch": batch.app(cloud),
            "blob": blob.app(cloud),
            "geocatalog": geocatalog.app(cloud),
            "imds": cloud.imds.app(),
        }
        servers = [_server(cloud, name, app) for name, app in apps.items()]
        running = [
            asyncio.create_task(server.serve([sockets[name]])) for name, server in zip(apps, servers, strict=True)
        ]
        while not all(server.started for server in servers):
            await asyncio.sleep(0.01)
        await cloud.nodes.start()
        _write_env_file(cloud, env_file)
        logger.info("serving; settings are in %s", env_file)
        print(directions(cloud, env_file), end="", file=sys.stderr, flush=True)
        await _asked_to_end()
        await cloud.nodes.stop()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*running)
        cloud.store.close()


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a+") as lock:
        try:
            _locked(lock)
        except BlockingIOError as error:
            lock.seek(0)
            raise StateInUseError(
                f"process {lock.read() or 'unknown'} serves from {state} already: wait for it or end it, "
                "or name another folder with --state"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _locked(lock: TextIO) -> None:
    """Lock a file; whoever has it may be about to end."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _listen(ports_file: Path) -> dict[str, socket.socket]:
    """A socket for each service: the ports of the last time if they are free, else what the system gives."""
    remembered = json.loads(ports_file.read_text()) if ports_file.exists() else {}
    sockets = {name: _bound(remembered.get(name, 0)) for name in _LISTENERS}
    ports_file.write_text(json.dumps({name: sock.getsockname()[1] for name, sock in sockets.items()}))
    return sockets


def _bound(port: int) -> socket.socket:
    sock = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only where the protocol is named
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.bind(("127.0.0.1", 0))
    return sock


def _addresses(sockets: dict[str, socket.socket]) -> Addresses:
    return Addresses(
        **{
            name: f"{'http' if name == 'imds' else 'https'}://127.0.0.1:{sock.getsockname()[1]}"
            for name, sock in sockets.items()
        }
    )


def _server(cloud: Cloud, name: str, app: ASGIApp) -> uvicorn.Server:
    service = "identity" if name == "imds" else name
    app = FaultMiddleware(app, service, cloud.faults)
    if cloud.options.record:
        app = RecordingMiddleware(app, service, getattr(cloud.addresses, name), cloud.options.record)
    certificate = None if name == "imds" else cloud.certificates.server_file
    return _Server(
        uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            ssl_certfile=certificate,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=2,
            server_header=False,
        )
    )


def _write_env_file(cloud: Cloud, env_file: Path) -> None:
    """`KEY=VALUE` lines for `set -a; . FILE`, in place only when whole."""
    addresses, bundle = cloud.addresses, cloud.certificates.bundle_file.resolve()
    geocatalog_id = geocatalog.resource_id(cloud)
    values = {
        "LOCAL_AZURE_ARM_URL": addresses.arm,
        "LOCAL_AZURE_BATCH_URL": addresses.batch,
        "LOCAL_AZURE_BLOB_URL": addresses.blob,
        "LOCAL_AZURE_LOGIN_URL": addresses.identity,
        "LOCAL_AZURE_GEOCATALOG_URL": addresses.geocatalog,
        "LOCAL_AZURE_GEOCATALOG_ID": geocatalog_id,
        "LOCAL_AZURE_SUBSCRIPTION_ID": cloud.subscription_id,
        "LOCAL_AZURE_TENANT_ID": cloud.tenant_id,
        "REQUESTS_CA_BUNDLE": bundle,
        "CURL_CA_BUNDLE": bundle,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": cloud.imds.open([cloud.operator]),
        "SPATIOBATCH_SUBSCRIPTION_ID": cloud.subscription_id,
        "SPATIOBATCH_ARM_URL": addresses.arm,
        "SPATIOBATCH_LOGIN_URL": addresses.identity,
        "SPATIOBATCH_CA_FILE": bundle,
        "SPATIOBATCH_GEOCATALOG_ID": geocatalog_id,
    }
    partial = env_file.with_name(env_file.name + ".part")
    partial.touch(mode=0o600)
    partial.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    partial.replace(env_file)


async def _asked_to_end() -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
