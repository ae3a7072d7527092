"""A real Prefect server, and command lines and workers beside it, each a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from flow_runs import QUICK, Site
from local_pools import until

CHECKOUT = Path(__file__).parent.parent
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class Prefect:
    """A server, and the variables that point its clients at it."""

    api: httpx.Client
    variables: dict[str, str] = field(default_factory=dict)


@contextmanager
def running_prefect(folder: Path, **settings: str) -> Iterator[Prefect]:
    """A Prefect server with a database of its own, for the time of a `with`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    variables = {**QUIET, **settings, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": url}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port, "--no-ui"]
    with (
        subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"{url}/", timeout=30) as api,
    ):
        try:
            until(lambda: _healthy(api), bool, seconds=120)
            yield Prefect(api, variables)
        finally:
            process.terminate()


def _healthy(api: httpx.Client) -> bool:
    try:
        return api.get("health").is_success
    except httpx.TransportError:
        return False


def command_line(site: Site, prefect: Prefect, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """`python flows/run.py …` before a stand-in that runs already, in a process group of its own."""
    chosen = {**QUICK, **site.settings, **settings}
    variables = {f"SPATIOBATCH_{name.upper()}": value for name, value in chosen.items()}
    return subprocess.Popen(
        [sys.executable, "flows/run.py", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **site.variables, **prefect.variables, **variables},
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What a command line printed that ended well."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), err
    return out
