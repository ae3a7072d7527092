"""local_azure's Batch data plane where tasks run: order, outcomes and files."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.identity import ManagedIdentityCredential
from local_pools import Batch, batch_account, fixed, until


@pytest.fixture(scope="module")
def account(shared_azure: dict[str, str]) -> Iterator[Batch]:
    """The Batch account of this module."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in shared_azure.items():
            environment.setenv(name, value)
        with batch_account(shared_azure, "running") as batch:
            yield batch


@pytest.fixture(scope="module")
def pool(account: Batch) -> str:
    """A pool of one node that runs one task at a time."""
    return account.pool()


@pytest.fixture
def batch(account: Batch, azure: dict[str, str]) -> Batch:
    """The account, with the clients pointed at its cloud."""
    return account


def _ended(batch: Batch, job: str) -> str:
    """Why the job ended."""
    found = until(lambda: batch.client.get_job(job), lambda found: found.state == "completed")
    return str(found.execution_info.termination_reason)


def _file(batch: Batch, method: str, job: str, task: str, path: str, **headers: str) -> requests.Response:
    with ManagedIdentityCredential() as credential:
        token = credential.get_token("https://batch.core.windows.net//.default").token
    root = f"{batch.settings['LOCAL_AZURE_BATCH_URL']}/{batch.account}"
    url = f"{root}/jobs/{job}/tasks/{task}/files/{path}?api-version=2025-06-01"
    return requests.request(method, url, headers={"Authorization": f"Bearer {token}", **headers}, timeout=10)


def _state(batch: Batch, job: str, task: str) -> Any:
    return batch.client.get_task(job, task).state


def test_job_ends_when_all_its_tasks_have(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    task = batch.start(job, "true")
    batch.client.update_job(job, {"onAllTasksComplete": "terminatejob"})
    assert _ended(batch, job) == "AllTasksComplete"
    assert batch.client.get_task(job, task).execution_info.result == "success"


def test_outcomes_are_counted_apart(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    batch.run(job, "true")
    failed = batch.run(job, "exit 3")
    assert (failed.execution_info.exit_code, failed.execution_info.failure_info.code) == (3, "FailureExitCode")
    counts = batch.client.get_job_task_counts(job).task_counts
    assert (counts.completed, counts.succeeded, counts.failed, counts.active) == (2, 1, 1, 0)


def test_succeeded_task_can_not_be_reactivated(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    task = batch.run(job, "true")
    with pytest.raises(HttpResponseError) as refusal:
        batch.client.reactivate_task(job, task.id)
    assert refusal.value.error.code == "TaskSucceeded"


def test_jobs_of_higher_priority_run_first(batch: Batch, pool: str) -> None:
    low, high = batch.job(pool), batch.job(pool, priority=100)
    gate = batch.job(pool, priority=1000)
    blocker = batch.start(gate, "sleep 1")
    batch.running(gate, blocker)
    first, second = batch.start(low, "true"), batch.start(high, "true")
    started = [batch.ended(job, task).execution_info.start_time for job, task in ((high, second), (low, first))]
    assert started == sorted(started)


def test_terminated_job_ends_its_running_task_and_leaves_the_queued(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    running, queued = batch.start(job, "sleep 60"), batch.start(job, "true")
    batch.running(job, running)
    batch.client.begin_terminate_job(job, options={"terminateReason": "enough"}, polling_interval=0.1).result()
    ended = batch.client.get_task(job, running)
    assert (ended.state, ended.execution_info.failure_info.code) == ("completed", "TaskEnded")
    assert _state(batch, job, queued) == "active"


def test_task_waits_for_those_that_it_depends_on(batch: Batch, pool: str) -> None:
    job = batch.job(pool, usesTaskDependencies=True)
    dependent = batch.start(job, "true", dependsOn={"taskIds": ["later"]})
    batch.client.create_task(job, {"id": "later", "commandLine": "/bin/bash -c true"})
    before = batch.ended(job, "later").execution_info
    assert before.end_time <= batch.ended(job, dependent).execution_info.start_time


def test_task_that_depends_on_a_failed_one_never_runs(batch: Batch, pool: str) -> None:
    job = batch.job(pool, usesTaskDependencies=True)
    failed = batch.run(job, "false")
    dependent = batch.start(job, "true", dependsOn={"taskIds": [failed.id]})
    batch.run(job, "true")
    assert _state(batch, job, dependent) == "active"


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({}, "TaskFailed"),
        ({"exitCodes": [{"code": 3, "exitOptions": {"jobAction": "terminate"}}]}, "TaskFailed"),
        ({"exitCodeRanges": [{"start": 1, "end": 5, "exitOptions": {"jobAction": "none"}}]}, "AllTasksComplete"),
    ],
)
def test_failure_does_to_the_job_what_its_exit_options_say(
    batch: Batch, pool: str, conditions: dict[str, Any], reason: str
) -> None:
    job = batch.job(pool, onTaskFailure="performexitoptionsjobaction")
    batch.start(job, "sleep 1; exit 3", exitConditions=conditions)
    batch.client.update_job(job, {"onAllTasksComplete": "terminatejob"})
    assert _ended(batch, job) == reason


def test_job_ends_with_its_job_manager(batch: Batch, pool: str) -> None:
    job = batch.job(pool, jobManagerTask={"id": "manager", "commandLine": "/bin/bash -c true"})
    assert _ended(batch, job) == "JMComplete"


def test_disabled_job_requeues_its_running_task_and_runs_it_again_when_enabled(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    task = batch.start(job, "sleep 1")
    batch.running(job, task)
    batch.client.begin_disable_job(job, {"disableTasks": "requeue"}, polling_interval=0.1).result()
    assert _state(batch, job, task) == "active"
    batch.client.begin_enable_job(job, polling_interval=0.1).result()
    assert batch.ended(job, task).execution_info.requeue_count == 1


def test_no_more_tasks_run_at_once_than_the_job_allows(batch: Batch) -> None:
    job = batch.job(batch.pool(taskSlotsPerNode=4), maxParallelTasks=1)
    times = [batch.ended(job, task).execution_info for task in [batch.start(job, "sleep 0.3") for _ in range(3)]]
    spans = sorted((one.start_time, one.end_time) for one in times)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


def test_job_waits_for_a_pool_that_is_made_later(batch: Batch) -> None:
    job = batch.job("made-later")
    task = batch.start(job, "true")
    machine = {
        "imageReference": {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"},
        "nodeAgentSKUId": "batch.node.ubuntu 24.04",
    }
    body = {"id": "made-later", "vmSize": "standard_d2s_v3", "virtualMachineConfiguration": machine}
    batch.client.create_pool({**body, "targetDedicatedNodes": 1})
    assert batch.ended(job, task).execution_info.result == "success"


def test_files_of_a_task_are_listed_and_read(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    task = batch.run(job, "echo hello; mkdir deep; echo inside > deep/file.txt").id
    assert {"stdout.txt", "stderr.txt", "wd"} <= {file.name for file in batch.client.list_task_files(job, task)}
    names = {file.name: file for file in batch.client.list_task_files(job, task, recursive=True)}
    assert names["wd/deep"].is_directory
    assert names["wd/deep/file.txt"].properties.content_length == 7
    assert batch.output(job, task, "wd/deep/file.txt") == "inside\n"


def test_properties_and_a_range_of_a_file(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    task = batch.run(job, "echo 0123456789").id
    properties = batch.client.get_task_file_properties(job, task, "stdout.txt")
    assert (int(properties.content_length), properties.file_mode[:4]) == (11, "0o10")
    assert b"".join(batch.client.download_task_file(job, task, "stdout.txt", ocp_range="bytes=3-5")) == b"345"
    assert _file(batch, "GET", job, task, "stdout.txt", **{"ocp-range": "bytes=99-"}).status_code == 416


@pytest.mark.parametrize("path", ["nothing.txt", "..%2F..%2F..%2F..%2Fstartup", "wd%2Flink"])
def test_files_outside_of_the_task_can_not_be_read(batch: Batch, pool: str, path: str) -> None:
    job = batch.job(pool)
    task = batch.run(job, "ln -s /etc/hostname link").id
    answer = _file(batch, "GET", job, task, path)
    assert (answer.status_code, answer.json()["code"]) == (404, "FileNotFound")


def test_deleted_task_takes_its_files_with_it(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    task = batch.run(job, "echo hello")
    node = task.node_info
    batch.client.delete_task(job, task.id)
    with pytest.raises(HttpResponseError):
        batch.node_file(node.pool_id, node.node_id, f"{node.task_root_directory}/stdout.txt")


def test_files_go_with_their_node(batch: Batch) -> None:
    pool = batch.pool()
    job = batch.job(pool)
    task = batch.run(job, "echo hello").id
    batch.scale(pool, **fixed(0))
    batch.nodes(pool, 0)
    answer = _file(batch, "GET", job, task, "stdout.txt")
    assert (answer.status_code, answer.json()["code"]) == (404, "NodeNotFound")
