"""The STAC API that a GeoCatalog is built on, on loopback: stac-fastapi-pgstac before PostgreSQL with PostGIS."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from psycopg_pool import ConnectionPool
from pypgstac.db import PgstacDB
from pypgstac.load import Loader
from pypgstac.migrate import Migrate

from spatiobatch.errors import ProvisioningError

_START_SECONDS = 60
_UNPRIVILEGED = "nobody" if os.getuid() == 0 else None
"""PostgreSQL refuses to run as root."""
_DEBIAN = "is not installed; on Debian: apt-get install --no-install-recommends postgresql-postgis"
_OFF = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "unix_socket_directories=", "max_connections=30")


def missing() -> str:
    """Why it cannot run here, in a few words; nothing where it can."""
    bin_folder = _bin_folder()
    if bin_folder is None:
        return f"PostgreSQL {_DEBIAN}"
    share = Path(_run(bin_folder / "pg_config", "--sharedir").strip())
    return "" if (share / "extension" / "postgis.control").exists() else f"PostGIS {_DEBIAN}"


@contextmanager
def running_pgstac(collections: Iterable[bytes], items: Iterable[bytes]) -> Iterator[str]:
    """A STAC API of those collections and items; yields its address, which GeoCatalog's `/stac` stands before.

    Raises:
        ProvisioningError: it does not start.
    """
    with running_postgres() as port:
        server = f"host=127.0.0.1 port={port} user=pgstac dbname=postgres"
        with ConnectionPool(server, min_size=1) as pool, PgstacDB(pool=pool) as database:
            Migrate(database).run_migration()
            loader = Loader(database)
            loader.load_collections(iter(collections))
            loader.load_items(iter(items))
        with _api(port) as address:
            yield address


@contextmanager
def running_postgres() -> Iterator[int]:
    """An empty PostgreSQL, for the time of a `with`; yields its port.

    Raises:
        ProvisioningError: it does not start.
    """
    bin_folder, port = _bin_folder(), _free_port()
    if bin_folder is None:
        raise ProvisioningError(missing())
    with tempfile.TemporaryDirectory(prefix="pgstac-") as name:
        folder, data = Path(name), Path(name) / "data"
        if _UNPRIVILEGED:
            shutil.chown(folder, _UNPRIVILEGED)
        _run(bin_folder / "initdb", "-D", data, "-U", "pgstac", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = " ".join(f"-c {option}" for option in (f"port={port}", "listen_addresses=127.0.0.1", *_OFF))
        _run(bin_folder / "pg_ctl", "start", "-D", data, "-l", folder / "postgres.log", "-w", "-o", options)
        try:
            yield port
        finally:
            _run(bin_folder / "pg_ctl", "stop", "-D", data, "-m", "immediate", "-w")


@contextmanager
def _api(postgres_port: int) -> Iterator[str]:
    """Stac-fastapi-pgstac with all that its searches can do, for the time of a `with`; yields its address."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    connection = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres_port), "PGUSER": "pgstac", "PGDATABASE": "postgres"}
    environment = {**os.environ, **connection, "PGPASSWORD": "unused", "USE_API_HYDRATE": "true", "ROOT_PATH": "/stac"}
    command = [sys.executable, "-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--no-access-log"], env=environment, stdout=log, stderr=log)  # noqa: S603  # our own command
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _healthy(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise ProvisioningError(f"stac-fastapi-pgstac did not start: {log.read().decode()[-500:].strip()}")
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


def _healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/_mgmt/health").is_success
    except httpx.TransportError:
        return False


def _bin_folder() -> Path | None:
    """Where PostgreSQL's programs are: on the PATH, or where Debian keeps those of its newest version."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    initdb = shutil.which("initdb") or max(debian, key=lambda program: int(program.parts[-3]), default=None)
    return Path(initdb).resolve().parent if initdb else None


def _run(*command: str | Path) -> str:
    """What a program of PostgreSQL's prints, run as somebody who is not root.

    Raises:
        ProvisioningError: it fails.
    """
    ended = subprocess.run(  # noqa: S603  # our own command
        command, user=_UNPRIVILEGED, cwd="/", capture_output=True, text=True, check=False, timeout=_START_SECONDS
    )
    if ended.returncode:
        raise ProvisioningError(f"{command[0]} failed: {(ended.stderr or ended.stdout).strip()}")
    return ended.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
