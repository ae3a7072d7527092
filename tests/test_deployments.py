"""`make serve`: a server with every deployment of prefect.yaml, and a worker that runs them."""

import os
import shutil
import signal
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
from processes import left_over

CHECKOUT = Path(__file__).parent.parent
ROOMS = ("flows", "tasks", "spatiobatch", "task_scripts", "local_azure")
SCHEDULES = {
    "harvest/collections-nightly": "15 2 * * *",
    "harvest/items-hourly": "20 * * * *",
    "harvest/items-weekly": "45 3 * * 0",
}
NAMES = {"provision/provision", "harvest/harvest", "sweep/sweep", "teardown/teardown", *SCHEDULES}


@dataclass(frozen=True)
class Served:
    """A `make serve` that is up."""

    process: subprocess.Popen[str]
    checkout: Path
    api: httpx.Client

    def deployments(self) -> dict[str, dict[str, Any]]:
        """The server's deployments by flow and name."""
        found = self.api.post("deployments/filter", json={}).raise_for_status().json()
        flows = {flow["id"]: flow["name"] for flow in self.api.post("flows/filter", json={}).json()}
        return {f"{flows[each['flow_id']]}/{each['name']}": each for each in found}

    def run(self, *arguments: str) -> None:
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

    def ran(self, name: str) -> str:
        """Run a deployment as the UI does with no change to its form; the name of the state it ends in."""
        deployment = self.deployments()[name]["id"]
        run = self.api.post(f"deployments/{deployment}/create_flow_run", json={"state": {"type": "SCHEDULED"}})
        path = f"flow_runs/{run.raise_for_status().json()['id']}"
        return until(lambda: self.api.get(path).json()["state"], lambda state: state["type"] in ENDED)["name"]


ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


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


def test_every_deployment_says_what_it_does(served: Served) -> None:
    deployments = served.deployments()
    assert set(deployments) == NAMES
    assert all(len(each["description"]) > 40 for each in deployments.values())
    assert all("spatiobatch" in each["tags"] for each in deployments.values())


def test_only_the_recurring_harvests_are_scheduled(served: Served) -> None:
    schedules = [(name, schedule) for name, each in served.deployments().items() for schedule in each["schedules"]]
    assert {name: schedule["schedule"]["cron"] for name, schedule in schedules} == SCHEDULES
    assert {schedule["schedule"]["timezone"] for _, schedule in schedules} == {"Etc/UTC"}
    assert all(schedule["active"] for _, schedule in schedules)


def test_the_server_plans_runs_of_every_schedule(served: Served) -> None:
    wanted = {each["id"] for name, each in served.deployments().items() if name in SCHEDULES}
    body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    until(
        lambda: {run["deployment_id"] for run in served.api.post("flow_runs/filter", json=body).json()}, wanted.issubset
    )


def test_runs_of_a_deployment_do_not_overlap(served: Served) -> None:
    limits = {
        name: (each["global_concurrency_limit"]["limit"], each["concurrency_options"]["collision_strategy"])
        for name, each in served.deployments().items()
    }
    assert limits == dict.fromkeys(NAMES, (1, "ENQUEUE")) | dict.fromkeys(SCHEDULES, (1, "CANCEL_NEW"))


def test_every_parameter_of_every_form_is_described(served: Served) -> None:
    for name, deployment in served.deployments().items():
        schema = deployment["parameter_openapi_schema"]
        forms = [schema["properties"], schema.get("definitions", {}).get("Query", {}).get("properties", {})]
        for form in forms:
            assert [field for field, about in form.items() if not about.get("description")] == [], name


def test_deploying_again_changes_nothing(served: Served) -> None:
    before = served.deployments()
    served.run("-m", "prefect", "--no-prompt", "deploy", "--all")
    after = served.deployments()
    kept = ("id", "entrypoint", "parameters", "description", "tags", "pull_steps", "concurrency_options")
    assert {name: [each[key] for key in kept] for name, each in after.items()} == {
        name: [each[key] for key in kept] for name, each in before.items()
    }


def test_the_automation_for_zombies_is_there_once_however_often_it_is_set_up(served: Served) -> None:
    served.run("deployments/automate.py")
    (automation,) = served.api.post("automations/filter", json={}).raise_for_status().json()
    assert (automation["name"], automation["enabled"]) == ("spatiobatch-zombies", True)
    beats = {
        each["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] for each in served.deployments().values()
    }
    assert [3 * int(beat) < automation["trigger"]["within"] for beat in beats] == [True]


def test_worker_provisions_and_harvests(served: Served) -> None:
    assert served.ran("provision/provision") == "Completed"
    assert served.ran("harvest/harvest") == "Completed"
    keys = {artifact["key"] for artifact in served.api.post("artifacts/filter", json={}).json()}
    assert len([key for key in keys if key and key.startswith("harvest-")]) == 2


def test_ctrl_c_ends_all_of_it(served: Served) -> None:
    os.killpg(served.process.pid, signal.SIGINT)
    assert served.process.wait(60) == 130
    assert left_over(served.checkout) == []
