"""`make serve`: a server with every deployment of prefect.yaml, and a worker that runs them."""

import os
import signal

from processes import left_over
from serving import Served, until

SCHEDULES = {
    "harvest/collections-nightly": "15 2 * * *",
    "harvest/items-hourly": "20 * * * *",
    "harvest/items-weekly": "45 3 * * 0",
}
NAMES = {"provision/provision", "harvest/harvest", "sweep/sweep", "teardown/teardown", *SCHEDULES}


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
    served.python("-m", "prefect", "--no-prompt", "deploy", "--all")
    after = served.deployments()
    kept = ("id", "entrypoint", "parameters", "description", "tags", "pull_steps", "concurrency_options")
    assert {name: [each[key] for key in kept] for name, each in after.items()} == {
        name: [each[key] for key in kept] for name, each in before.items()
    }


def test_the_automation_for_zombies_is_there_once_however_often_it_is_set_up(served: Served) -> None:
    served.python("deployments/automate.py")
    (automation,) = served.api.post("automations/filter", json={}).raise_for_status().json()
    assert (automation["name"], automation["enabled"]) == ("spatiobatch-zombies", True)
    beats = {
        each["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] for each in served.deployments().values()
    }
    assert [3 * int(beat) < automation["trigger"]["within"] for beat in beats] == [True]


def test_worker_provisions_and_harvests(served: Served) -> None:
    assert served.run("provision/provision")["state"]["name"] == "Completed"
    assert served.run("harvest/harvest")["state"]["name"] == "Completed"
    keys = {artifact["key"] for artifact in served.api.post("artifacts/filter", json={}).json()}
    assert len([key for key in keys if key and key.startswith("harvest-")]) == 2


def test_ctrl_c_ends_all_of_it(served: Served) -> None:
    os.killpg(served.process.pid, signal.SIGINT)
    assert served.process.wait(60) == 130
    assert left_over(served.checkout) == []
