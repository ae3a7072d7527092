"""A real Prefect server, and command lines and workers beside it, each a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from flow_runs import QUICK, Site
from local_pools import until

CHECKOUT = Path(__file__).parent.parent
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


class _Patient(httpx.HTTPTransport):
    """Asks again where the server's database is busy, as Prefect's own client does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        ask = super().handle_request
        return until(lambda: ask(request), lambda answer: answer.status_code != 503, seconds=60)


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
        (folder / "prefect.log").open("wb") as log,
        subprocess.Popen(command, env={**os.environ, **variables}, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"{url}/", timeout=30, transport=_Patient()) as api,
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


@dataclass(frozen=True)
class Served:
    """The deployments of prefect.yaml on a Prefect server, for workers that reach a stand-in."""

    prefect: Prefect
    variables: dict[str, str]
    deployments: dict[str, str]
    """Their ids."""
    log: Path
    """What workers say."""

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker for the time of a `with`, in a session of its own with the runs that it starts."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "spatiobatch", "--type", "process"]
        with (
            self.log.open("ab") as log,
            subprocess.Popen(
                command, cwd=CHECKOUT, env=self.variables, stdout=log, stderr=log, start_new_session=True
            ) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()

    def plan(self, name: str, since: timedelta = timedelta(), **parameters: object) -> str:
        """Plan a run of a deployment, for a moment that may have passed, as the scheduler does; its id."""
        moment = (datetime.now(UTC) - since).isoformat()
        body = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": moment}}, "parameters": parameters}
        path = f"deployments/{self.deployments[name]}/create_flow_run"
        return str(self.prefect.api.post(path, json=body).raise_for_status().json()["id"])

    def state(self, run: str) -> str:
        """The name of a run's state."""
        return str(self.prefect.api.get(f"flow_runs/{run}").raise_for_status().json()["state"]["name"])

    def ended(self, run: str, seconds: float = 120) -> str:
        """The name of the state that a run ends in."""
        return until(lambda: self.state(run), ENDED.__contains__, seconds)

    def said(self, run: str) -> str:
        """What a run logged."""
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self.prefect.api.post("logs/filter", json=body).json())


ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}


def served(site: Site, prefect: Prefect, folder: Path) -> Served:
    """Have a server know every deployment, as `make serve` does."""
    settings = {f"SPATIOBATCH_{name.upper()}": value for name, value in {**QUICK, **site.settings}.items()}
    variables = {**os.environ, **site.variables, **prefect.variables, **settings, "PWD": str(CHECKOUT)}
    for arguments in (["work-pool", "create", "spatiobatch", "--type", "process"], ["--no-prompt", "deploy", "--all"]):
        command = [sys.executable, "-m", "prefect", *arguments]
        subprocess.run(command, cwd=CHECKOUT, env=variables, capture_output=True, timeout=120, check=True)
    found = prefect.api.post("deployments/filter", json={}).raise_for_status().json()
    for deployment in found:
        prefect.api.patch(f"deployments/{deployment['id']}", json={"paused": True})  # only what a test plans runs
    return Served(prefect, variables, {each["name"]: each["id"] for each in found}, folder / "worker.log")
