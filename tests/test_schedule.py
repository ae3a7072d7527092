"""A schedule runs harvests one after the other: none overlaps, none is left out, nothing is left behind."""

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from serving import Served, until

PERIOD = timedelta(seconds=20)


@pytest.fixture(scope="module")
def scheduled(served: Served) -> list[dict[str, Any]]:
    """The first three runs of a schedule that is tighter than any that people set."""
    assert served.run("provision/provision")["state"]["name"] == "Completed"
    deployment = served.deployments()["harvest/collections-nightly"]["id"]
    schedule = [{"schedule": {"interval": PERIOD.total_seconds()}, "active": True}]
    created = served.api.post(f"deployments/{deployment}/schedules", json=schedule).raise_for_status().json()
    asked = {
        "flow_runs": {"deployment_id": {"any_": [deployment]}, "start_time": {"is_null_": False}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    look = lambda: served.api.post("flow_runs/filter", json=asked).raise_for_status().json()  # noqa: E731
    runs = until(look, lambda found: len([run for run in found if run["end_time"]]) >= 3, seconds=180)
    served.api.delete(f"deployments/{deployment}/schedules/{created[0]['id']}").raise_for_status()
    return runs[:3]


def moment(run: dict[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(run[name])


def test_three_runs_of_a_schedule_all_complete(scheduled: list[dict[str, Any]]) -> None:
    assert [run["state"]["name"] for run in scheduled] == ["Completed"] * 3


def test_no_run_begins_before_the_one_before_has_ended(scheduled: list[dict[str, Any]]) -> None:
    for earlier, later in itertools.pairwise(scheduled):
        assert moment(earlier, "end_time") <= moment(later, "start_time")


def test_no_period_is_left_out(scheduled: list[dict[str, Any]]) -> None:
    due = [moment(run, "expected_start_time") for run in scheduled]
    assert [later - earlier for earlier, later in itertools.pairwise(due)] == [PERIOD] * 2


def test_the_runs_leave_no_job_behind(served: Served, scheduled: list[dict[str, Any]]) -> None:
    assert served.status()["Active jobs"] == "none"
