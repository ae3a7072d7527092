"""`make serve` for a test module: Prefect's server, all deployments and a worker, before a local_azure of its own.

A pytest plugin (`conftest.py` loads it); it takes about half a minute once per module that asks for `served`.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import read_env_file

CHECKOUT = Path(__file__).parent.parent
ROOMS = ("flows", "tasks", "spatiobatch", "task_scripts", "local_azure")
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Served:
    """A `make serve` that is up."""

    process: subprocess.Popen[str]
    checkout: Path
    api: httpx.Client

    @property
    def root(self) -> str:
        """Address of the UI."""
        return str(self.api.base_url).removesuffix("/api/")

    def deployments(self) -> dict[str, dict[str, Any]]:
        """The server's deployments by flow and name."""
        found = self.api.post("deployments/filter", json={}).raise_for_status().json()
        flows = {flow["id"]: flow["name"] for flow in self.api.post("flows/filter", json={}).json()}
        return {f"{flows[each['flow_id']]}/{each['name']}": each for each in found}

    def python(self, *arguments: str) -> None:
        """Run Python in the checkout, as somebody who works with this server."""
        environment = {
            **os.environ,
            "PREFECT_HOME": str(self.checkout / "prefect"),
            "PREFECT_API_URL": str(self.api.base_url),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PWD": str(self.checkout),
        }
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, timeout=120, check=True)

    def run(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Run a deployment as the UI does, with these changes to its form; the flow run when it has ended."""
        deployment = self.deployments()[name]["id"]
        asked = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        path = f"deployments/{deployment}/create_flow_run"
        # While its SQLite is busy, the server asks for another try with a 503, as Prefect's own client makes.
        answer = until(lambda: self.api.post(path, json=asked), lambda answer: answer.status_code != 503)
        return self.ended(answer.raise_for_status().json()["id"])

    def status(self) -> dict[str, str]:
        """What `python flows/run.py status` says of the environment that is worked on."""
        variables = read_env_file(self.checkout / ".spatiobatch" / "local.env")
        variables["SPATIOBATCH_ENVIRONMENT"] = str(self.checkout / "deployments" / "local.toml")
        command = [sys.executable, "flows/run.py", "status"]
        said = subprocess.run(
            command, cwd=self.checkout, env={**os.environ, **variables}, capture_output=True, text=True, check=True
        ).stdout
        return {line[:16].rstrip(): line[16:] for line in said.splitlines()}

    def ended(self, flow_run: str) -> dict[str, Any]:
        """A flow run as soon as it has ended."""
        look = lambda: self.api.get(f"flow_runs/{flow_run}").raise_for_status().json()  # noqa: E731
        return until(look, lambda run: run["state"]["type"] in ENDED)


def until(look: Callable[[], Any], right: Callable[[Any], bool], seconds: float = 120) -> Any:
    """What `look` finds as soon as it is right."""
    deadline = time.monotonic() + seconds
    while not right(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`deployments/serve.py` in a checkout of its own, before a local_azure."""
    checkout = tmp_path_factory.mktemp("checkout")
    for room in ROOMS:
        (checkout / room).symlink_to(CHECKOUT / room)
    shutil.copytree(CHECKOUT / "deployments", checkout / "deployments")
    shutil.copy(CHECKOUT / "prefect.yaml", checkout)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "SPATIOBATCH"))}
    environment["PREFECT_HOME"] = str(checkout / "prefect")
    command = [sys.executable, "deployments/serve.py", "--port", str(port)]
    with (
        (checkout / "log").open("w") as log,
        subprocess.Popen(command, cwd=checkout, env=environment, stderr=log, start_new_session=True) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/", timeout=30) as api,
    ):
        try:
            until(lambda: process.poll() is not None or "Ctrl-C" in (checkout / "log").read_text(), bool)
            assert process.poll() is None, (checkout / "log").read_text()
            yield Served(process, checkout, api)
        finally:
            process.terminate()
            process.wait(60)
