"""What becomes of scheduled runs when workers, runs, or both are killed, cancelled or were never there."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import yaml
from azure.batch import BatchClient
from azure.storage.blob import ContainerClient
from flow_runs import Site, running_site
from local_pools import until
from prefect_processes import CHECKOUT, Served, command_line, ended, running_prefect, served
from processes import processes_with
from test_crashes import pass_a_minute

from spatiobatch.query import query_from

ITEMS = 3000
WINDOW_SECONDS = 45
"""Shorter than what is shipped, and longer than the heartbeat, which Prefect sends every 30 seconds at best."""
KEPT = re.compile("so far is kept")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Served]]:
    """A provisioned environment, and a server with our deployments and automations."""
    folder = tmp_path_factory.mktemp("site")
    flags = ("--clock", "instant", "--demo-items", str(ITEMS))
    with running_prefect(folder) as prefect, running_site(folder, *flags, requests_per_second="10") as site:
        ended(command_line(site, prefect, "provision"))
        yield site, served(site, prefect, folder)


@pytest.fixture
def provisioned(stand_in: tuple[Site, Served]) -> Site:
    return stand_in[0]


@pytest.fixture
def server(stand_in: tuple[Site, Served]) -> Served:
    return stand_in[1]


@pytest.fixture
def running(provisioned: Site, server: Served) -> Callable[..., str]:
    """Starts a harvest of items; its run's id when the first shard is done."""

    def start(**query: str) -> str:
        slow = {"query": {"content": "items", **query}, "requests_per_second": 1}  # not over before it is killed
        since, run = provisioned.now, server.plan("items-weekly", **slow)
        until(lambda: any(map(is_receipt, provisioned.requests(since))), bool, seconds=90)
        return run

    return start


def is_receipt(request: dict[str, Any]) -> bool:
    return request["method"] == "PUT" and ".receipt.json" in request["url"]


def note(**query: str) -> str:
    """Where the unfinished harvest of a query is told."""
    return f"open/{query_from(**{'content': 'items', **query}).hash}.json"


def unfinished(results: ContainerClient, **query: str) -> str:
    return str(json.loads(results.download_blob(note(**query)).readall())["harvest_id"])


def completed(results: ContainerClient, name: str) -> bool:
    manifest = json.loads(results.download_blob(f"harvests/{name}/manifest.json").readall())
    return manifest["complete"] and sum(found["items"] for found in manifest["collections"].values()) == ITEMS


def test_of_the_runs_that_a_worker_missed_exactly_one_goes(batch: BatchClient, server: Served) -> None:
    runs = [server.plan("collections-nightly", timedelta(days=days)) for days in (3, 2, 1)]
    with server.worker():
        states = [server.ended(run) for run in runs]
    assert sorted(states) == ["Cancelled", "Cancelled", "Completed"]


def test_a_run_that_is_cancelled_in_the_ui_ends_its_job_and_says_what_is_kept(
    batch: BatchClient, server: Served, running: Callable[..., str], results: ContainerClient
) -> None:
    query = {"content": "items", "datetime": "2010-01-01/.."}
    with server.worker():
        run = running(**query)
        server.prefect.api.post(f"flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}})
        assert server.ended(run) == "Cancelled"
    assert list(batch.list_jobs()) == []
    name = unfinished(results, **query)
    assert f"what harvest {name} has brought so far is kept" in until(lambda: server.said(run), KEPT.search)


def test_a_harvest_whose_worker_was_killed_is_completed_by_its_run_or_by_the_next(
    batch: BatchClient, server: Served, running: Callable[..., str], results: ContainerClient
) -> None:
    with server.worker() as worker:
        run = running()
        name = unfinished(results)
        worker.kill()
    assert server.ended(run) in {"Crashed", "Completed"}  # it may be done before it notices
    with server.worker():
        assert server.ended(server.plan("items-weekly")) == "Completed"
    assert completed(results, name)


def test_a_run_that_was_killed_with_its_worker_crashes_in_time_and_a_live_one_does_not(
    batch: BatchClient, server: Served, running: Callable[..., str], results: ContainerClient
) -> None:
    (automation,) = yaml.safe_load((CHECKOUT / "deployments" / "automations.yaml").read_text())["automations"]
    automation["trigger"]["within"] = WINDOW_SECONDS
    server.prefect.api.post("automations/", json=automation).raise_for_status()
    with server.worker() as worker:
        killed = running()
        (process,) = [each for each, command in processes_with(killed).items() if "prefect.engine" in command]
        for target, number in ((worker.pid, signal.SIGSTOP), (process, signal.SIGKILL), (worker.pid, signal.SIGKILL)):
            os.kill(target, number)  # stopped first, so that it tells nobody of the run
    name = unfinished(results)
    with server.worker():
        slow = {
            "query": {"content": "items", "datetime": "2000-01-01/.."},
            "max_items": ITEMS,
            "requests_per_second": 0.3,
        }
        live = server.plan("harvest", **slow)
        assert server.ended(killed, WINDOW_SECONDS + 30) == "Crashed"
        pass_a_minute(results, note())
        assert server.ended(server.plan("items-weekly")) == "Completed"
        assert completed(results, name)
        assert server.ended(live) == "Completed"
    took = server.prefect.api.get(f"flow_runs/{live}").json()["total_run_time"]
    assert took > WINDOW_SECONDS
