"""The STAC API that a GeoCatalog is built on, on loopback: stac-fastapi-pgstac before PostgreSQL with PostGIS.

There are two generations: the one that is installed with us, and the one that answers as recorded GeoCatalogs do. The
older one needs other versions of what we need too, hence an environment of its own, which `.ci/run` installs.
"""

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
from typing import NamedTuple

import httpx

from spatiobatch.errors import ProvisioningError


class Generation(NamedTuple):
    """One generation of pypgstac and stac-fastapi-pgstac."""

    python: Path
    """The interpreter of the environment that it is installed in."""
    application: tuple[str, ...]
    """What uvicorn is told to run."""


NEWEST = Generation(Path(sys.executable), ("stac_fastapi.pgstac.app:create_app", "--factory"))
ANCESTOR = Generation(
    Path(__file__).parent.parent / ".spatiobatch" / "pgstac-0.8" / "bin" / "python",
    ("below_stac:app", "--app-dir", str(Path(__file__).parent)),
)
"""pypgstac 0.8.6 and stac-fastapi-pgstac 3.0.0a4, the generation behind the service: its conformance classes, and the
order of its members and of its ties, are those of recorded GeoCatalogs."""
_START_SECONDS = 60
_UNPRIVILEGED = "nobody" if os.getuid() == 0 else None
"""PostgreSQL refuses to run as root."""
_DEBIAN = "is not installed; on Debian: apt-get install --no-install-recommends postgresql-postgis"
_OFF = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "unix_socket_directories=", "max_connections=30")


def missing(generation: Generation = NEWEST) -> str:
    """Why it cannot run here, in a few words; nothing where it can."""
    if not generation.python.exists():
        return f"there is no {generation.python}; .ci/run installs it"
    bin_folder = _bin_folder()
    if bin_folder is None:
        return f"PostgreSQL {_DEBIAN}"
    share = Path(_run(bin_folder / "pg_config", "--sharedir").strip())
    return "" if (share / "extension" / "postgis.control").exists() else f"PostGIS {_DEBIAN}"


@contextmanager
def running_pgstac(
    collections: Iterable[bytes], items: Iterable[bytes], generation: Generation = NEWEST
) -> Iterator[str]:
    """A STAC API of those collections and items; yields its address, which GeoCatalog's `/stac` stands before.

    Raises:
        ProvisioningError: it does not start.
    """
    with running_postgres() as port:
        connection = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "pgstac", "PGDATABASE": "postgres"}
        environment = {**os.environ, **connection, "PGPASSWORD": "unused"}
        with tempfile.TemporaryDirectory(prefix="pgstac-load-") as folder:
            (Path(folder) / "collections.ndjson").write_bytes(b"\n".join(collections))
            (Path(folder) / "items.ndjson").write_bytes(b"\n".join(items))
            _run(generation.python, Path(__file__).with_name("load_pgstac.py"), folder, environment=environment)
        with _api(environment, generation) as address:
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
        settings = ("-U", "pgstac", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        _run(bin_folder / "initdb", "-D", data, *settings, user=_UNPRIVILEGED)
        options = " ".join(f"-c {option}" for option in (f"port={port}", "listen_addresses=127.0.0.1", *_OFF))
        start = ("start", "-D", data, "-l", folder / "postgres.log", "-w", "-o", options)
        _run(bin_folder / "pg_ctl", *start, user=_UNPRIVILEGED)
        try:
            yield port
        finally:
            _run(bin_folder / "pg_ctl", "stop", "-D", data, "-m", "immediate", "-w", user=_UNPRIVILEGED)


@contextmanager
def _api(environment: dict[str, str], generation: Generation) -> Iterator[str]:
    """Stac-fastapi-pgstac with all that its searches can do, for the time of a `with`; yields its address."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    hosts = dict.fromkeys(("POSTGRES_HOST_READER", "POSTGRES_HOST_WRITER"), environment["PGHOST"])
    user = {"POSTGRES_USER": environment["PGUSER"], "POSTGRES_PASS": environment["PGPASSWORD"]}
    where = {"POSTGRES_PORT": environment["PGPORT"], "POSTGRES_DBNAME": environment["PGDATABASE"]}
    environment = {**environment, **hosts, **user, **where, "USE_API_HYDRATE": "true", "ROOT_PATH": "/stac"}
    command = [str(generation.python), "-m", "uvicorn", *generation.application, "--port", str(port)]
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
        return httpx.get(f"{address}/_mgmt/ping").is_success
    except httpx.TransportError:
        return False


def _bin_folder() -> Path | None:
    """Where PostgreSQL's programs are: on the PATH, or where Debian keeps those of its newest version."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    initdb = shutil.which("initdb") or max(debian, key=lambda program: int(program.parts[-3]), default=None)
    return Path(initdb).resolve().parent if initdb else None


def _run(*command: str | Path, environment: dict[str, str] | None = None, user: str | None = None) -> str:
    """What a program prints.

    Raises:
        ProvisioningError: it fails.
    """
    ended = subprocess.run(  # noqa: S603  # our own command
        command,
        user=user,
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=_START_SECONDS,
    )
    if ended.returncode:
        raise ProvisioningError(f"{command[0]} failed: {(ended.stderr or ended.stdout).strip()}")
    return ended.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
