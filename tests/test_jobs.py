"""Jobs: opened, attached to, filled in chunks, waited for and closed, against Batch's wire."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from azure.batch.models import BatchJobConstraints, BatchJobUpdateOptions, BatchTask, BatchTaskCreateOptions
from conftest import running_azure
from local_pools import Batch, batch_account, fixed, until
from prefect.logging import disable_run_logger

from spatiobatch.errors import HarvestError, JobEndedError
from spatiobatch.settings import load_settings
from tasks import job as jobs
from tasks import node_watch
from tasks.clients import AzureClients
from tasks.environment import Environment

FAULTS = (
    "service=task,path=/flaky$,status=503,times=2",
    "service=task,path=/never$,status=503,times=inf",
    "service=batch,path=/jobs/heavy-1/addtaskcollection,status=413,times=1",
)


@dataclass(frozen=True)
class Call:
    """A request that was recorded."""

    name: str
    """Last segment of its path."""
    body: Any


@dataclass(frozen=True)
class Shop:
    """A Batch account with one node, and our tasks that work with it."""

    batch: Batch
    azure: AzureClients
    environment: Environment
    record: Path

    def with_(self, **settings: Any) -> Self:
        """The same account with other settings."""
        return replace(self, azure=AzureClients(self.azure.settings.with_(**settings)))

    def open(self, purpose: str) -> str:
        """Open a job; its id."""
        return jobs.open_job.fn(self.azure, self.environment, purpose)

    def submit(self, job: str, *tasks: BatchTaskCreateOptions) -> None:
        """Submit tasks."""
        jobs.submit_tasks.fn(self.azure, self.environment, job, tasks)

    def wait(self, job: str, expected: int) -> list[BatchTask]:
        """Wait for so many tasks."""
        return jobs.wait_for_tasks.fn(self.azure, self.environment, job, expected)

    def close(self, job: str) -> None:
        """Close a job."""
        jobs.close_job.fn(self.azure, self.environment, job)

    def ids(self, job: str) -> set[str]:
        """The job's tasks."""
        return {task.id for task in self.batch.client.list_tasks(job)}

    def calls(self, job: str, last: str, count: int) -> list[Call]:
        """What was recorded of a job, when so many calls end in `last`: a line is written after its answer."""
        return until(lambda: self._calls(job), lambda calls: [call.name for call in calls].count(last) >= count)

    def _calls(self, job: str) -> list[Call]:
        lines = [json.loads(line) for line in self.record.read_text().splitlines(keepends=True) if line.endswith("\n")]
        paths = [(urlsplit(line["url"]).path, line["request_body"]) for line in lines if f"/jobs/{job}" in line["url"]]
        return [Call(path.rsplit("/", 1)[-1], body) for path, body in paths]

    def chunks(self, job: str, count: int) -> list[Any]:
        """The tasks of each call that added some, when there are so many; none where a fault struck."""
        calls = self.calls(job, "addtaskcollection", count)
        return [(call.body or {}).get("value", []) for call in calls if call.name == "addtaskcollection"]


@pytest.fixture(scope="module")
def shared_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("azure")
    record = folder / "record.ndjson"
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    with (
        running_azure(folder, "--clock", "instant", "--core-quota", "8", "--record", str(record), *faults) as variables,
        pytest.MonkeyPatch.context() as patch,
        disable_run_logger(),
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        with batch_account(variables) as batch:
            pool = batch.pool(scaleSettings=fixed(1))
            settings = load_settings().with_(pool=pool, poll_seconds=0.05)
            account = batch.management.batch_account.get("nodes", batch.account)
            environment = Environment(account.account_endpoint, "", "", "", "")
            yield Shop(batch, AzureClients(settings), environment, record)


@pytest.fixture
def shop(shared_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shared account, and this test signed in."""
    for name, value in shared_shop.batch.settings.items():
        monkeypatch.setenv(name, value)
    return shared_shop


def task(name: str, command: str = "true") -> BatchTaskCreateOptions:
    return BatchTaskCreateOptions(id=name, command_line=f"/bin/bash -c '{command}'")


def test_active_job_of_the_same_id_is_attached_to(shop: Shop) -> None:
    assert [shop.open("attach"), shop.open("attach")] == ["attach-1", "attach-1"]


@pytest.mark.parametrize("job_end", ["terminate", "delete"])
def test_next_attempt_follows_an_ended_job(shop: Shop, job_end: Any) -> None:
    first = shop.open(f"next-{job_end}")
    shop.submit(first, task("long", "sleep 60"))
    shop.with_(job_end=job_end).close(first)
    later = shop.open(f"next-{job_end}")
    assert later in {"terminate": ["next-terminate-2"], "delete": ["next-delete-1", "next-delete-2"]}[job_end]


def test_closing_a_job_that_has_ended_or_is_gone_is_fine(shop: Shop) -> None:
    shop.batch.client.create_job({"id": "ended-1", "poolInfo": {"poolId": shop.azure.settings.pool}})
    for job_end in ("terminate", "terminate", "delete", "delete"):
        shop.with_(job_end=job_end).close("ended-1")
    active = shop.batch.client.list_jobs(filter="state eq 'active'")
    assert "ended-1" not in {job.id for job in active}


def test_250_tasks_take_three_calls(shop: Shop) -> None:
    job = shop.open("many")
    shop.submit(job, *(task(f"t{number}") for number in range(250)))
    assert len(shop.ids(job)) == 250
    assert sorted(len(chunk) for chunk in shop.chunks(job, 3)) == [50, 100, 100]
    shop.close(job)


def test_chunks_stay_below_a_megabyte(shop: Shop) -> None:
    job = shop.open("wide")
    shop.submit(job, *(task(f"t{number}", "true " + "ä" * 2000) for number in range(100)))
    assert all(len(json.dumps(chunk)) < 2**20 for chunk in shop.chunks(job, 2))
    shop.close(job)


def test_chunk_that_batch_finds_too_large_is_halved(shop: Shop) -> None:
    job = shop.open("heavy")
    shop.submit(job, *(task(f"t{number}") for number in range(5)))
    assert [len(chunk) for chunk in shop.chunks(job, 3)] == [0, 2, 3]
    assert len(shop.ids(job)) == 5


def test_task_that_is_there_already_counts_if_it_is_the_same(shop: Shop) -> None:
    job = shop.open("again")
    shop.submit(job, task("one"))
    shop.submit(job, task("one"), task("two"))
    assert shop.ids(job) == {"one", "two"}


def test_another_task_of_the_same_id_is_an_error(shop: Shop) -> None:
    job = shop.open("other")
    shop.submit(job, task("one"))
    with pytest.raises(HarvestError, match="has another task one"):
        shop.submit(job, task("one", "false"))


def test_task_that_batch_refuses_is_named_with_the_reason(shop: Shop) -> None:
    job = shop.open("refused")
    with pytest.raises(HarvestError, match=r"refused task no good of job refused-1: Invalid"):
        shop.submit(job, task("fine"), task("no good"))


def test_task_that_meets_a_server_error_is_submitted_again(shop: Shop) -> None:
    job = shop.open("busy")
    shop.submit(job, task("steady"), task("flaky"))
    assert shop.ids(job) == {"steady", "flaky"}
    assert [len(chunk) for chunk in shop.chunks(job, 3)] == [2, 1, 1]


def test_submitting_ends_at_its_deadline(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_SUBMIT_SECONDS", 1)
    with pytest.raises(HarvestError, match="all but 1 tasks of job late-1"):
        shop.submit(shop.open("late"), task("never"))


def test_waiting_costs_two_calls_per_look(shop: Shop) -> None:
    job = shop.open("looks")
    shop.submit(job, task("t", "sleep 1"))
    shop.wait(job, 1)
    _, *looks, last = [call.name for call in shop.calls(job, "tasks", 1)]
    assert looks == ["looks-1", "taskcounts"] * (len(looks) // 2)
    assert last == "tasks"


def test_wait_ends_when_the_job_is_terminated_from_outside(shop: Shop) -> None:
    job = shop.open("stopped")
    shop.submit(job, task("t", "sleep 60"))
    stop = threading.Timer(
        0.5, lambda: shop.batch.client.begin_terminate_job(job, options={"terminateReason": "Enough"})
    )
    stop.start()
    with pytest.raises(
        JobEndedError, match=r"stopped-1 is (terminating|completed) \(Enough\) with [12] unfinished"
    ) as error:
        shop.wait(job, 2)
    assert "job_wall_clock_minutes" not in str(error.value)
    stop.join()


def test_wait_ends_when_the_job_is_deleted_from_outside(shop: Shop) -> None:
    job = shop.open("removed")
    threading.Timer(0.3, lambda: shop.batch.client.begin_delete_job(job, polling_interval=1)).start()
    with pytest.raises(JobEndedError, match=r"removed-1 is (gone|deleting)"):
        shop.wait(job, 1)


def test_wait_ends_when_the_wall_clock_is_over(shop: Shop) -> None:
    job = shop.open("slow")
    shop.submit(job, task("t", "sleep 60"), task("u", "sleep 60"))
    constraints = BatchJobConstraints(max_wall_clock_time=timedelta(seconds=1))
    shop.batch.client.update_job(job, BatchJobUpdateOptions(constraints=constraints))
    with pytest.raises(JobEndedError, match=r"MaxWallClockTimeExpiry.* a larger job_wall_clock_minutes"):
        shop.wait(job, 3)


def test_disabled_job_is_waited_for(shop: Shop) -> None:
    job = shop.open("paused")
    shop.batch.client.begin_disable_job(job, {"disableTasks": "requeue"}, polling_interval=1).wait()
    shop.submit(job, task("t"))
    enable = threading.Timer(0.5, lambda: shop.batch.client.begin_enable_job(job, polling_interval=1))
    enable.start()
    assert [ended.id for ended in shop.wait(job, 1)] == ["t"]
    enable.join()


@pytest.fixture
def warnings_of_a_wait(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What waiting on a pool with these properties warns of, in a second."""
    monkeypatch.setattr(node_watch, "_PAUSE_SECONDS", 0.1)

    def wait(**properties: Any) -> list[str]:
        said: list[str] = []
        monkeypatch.setattr(
            node_watch,
            "get_run_logger",
            lambda: SimpleNamespace(warning=lambda text, *values: said.append(text % values)),
        )
        there = shop.with_(pool=shop.batch.pool(**properties))
        job = there.open(there.azure.settings.pool)
        there.submit(job, task("t"))
        threading.Timer(1.5, lambda: there.close(job)).start()
        with pytest.raises(JobEndedError):
            there.wait(job, 1)
        return said

    return wait


def test_failed_start_task_is_warned_of_once_while_tasks_wait(warnings_of_a_wait: Callable[..., list[str]]) -> None:
    (said,) = warnings_of_a_wait(startTask={"commandLine": "/bin/false", "waitForSuccess": True})
    assert said.endswith("1 of its nodes is starttaskfailed")


def test_failed_resize_is_warned_of_once_while_tasks_wait(warnings_of_a_wait: Callable[..., list[str]]) -> None:
    (said,) = warnings_of_a_wait(vmSize="Standard_D16s_v3")
    assert "AccountCoreQuotaReached" in said


def test_failed_autoscale_run_is_warned_of_once_while_tasks_wait(warnings_of_a_wait: Callable[..., list[str]]) -> None:
    formula = "$TargetDedicatedNodes = val($PendingTasks.GetSample(1), 7);"
    (said,) = warnings_of_a_wait(scaleSettings={"autoScale": {"formula": formula}})
    assert "AutoScalingFormulaEvaluationError" in said
