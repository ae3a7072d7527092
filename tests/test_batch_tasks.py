"""Life of jobs and tasks as Batch documents it: states with their times, exit conditions, managers, files by SAS."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import (
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    generate_container_sas,
)
from conftest import running_azure
from local_pools import Batch, batch_account, until
from storage_accounts import create_account

TERMINATE = {"jobAction": "terminate"}
NONE = {"jobAction": "none"}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batch]:
    """A Batch account whose nodes boot at once."""
    folder = tmp_path_factory.mktemp("azure")
    with pytest.MonkeyPatch.context() as environment, running_azure(folder, "--clock", "instant") as settings:
        for name, value in settings.items():
            environment.setenv(name, value)
        with batch_account(settings) as batch:
            yield batch


@pytest.fixture(scope="module")
def pool(account: Batch) -> str:
    """A pool of one node with two slots."""
    return account.pool(taskSlotsPerNode=2)


@pytest.fixture
def batch(account: Batch, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """The account, with the clients pointed at its cloud."""
    for name, value in account.settings.items():
        monkeypatch.setenv(name, value)
    return account


@pytest.fixture(scope="module")
def storage(account: Batch) -> str:
    """Address of a storage account on which the operator is Blob Data Contributor."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in account.settings.items():
            environment.setenv(name, value)
        return create_account(account.settings, f"sas{os.urandom(4).hex()}")


@pytest.fixture
def container(batch: Batch, storage: str) -> Iterator[ContainerClient]:
    """A fresh container."""
    with ManagedIdentityCredential() as credential:
        name = f"files{os.urandom(4).hex()}"
        with ContainerClient(storage, name, credential) as client:
            client.create_container()
            yield client


def signed(container: ContainerClient, permission: str, *, minutes: float = 5) -> str:
    """A user-delegation SAS of a container."""
    start, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(minutes=minutes)
    with (
        ManagedIdentityCredential() as credential,
        BlobServiceClient(container.url.rsplit("/", 1)[0], credential) as service,
    ):
        key = service.get_user_delegation_key(start, datetime.now(UTC) + timedelta(hours=1))
    return generate_container_sas(
        str(container.account_name),
        container.container_name,
        user_delegation_key=key,
        permission=ContainerSasPermissions.from_string(permission),
        start=start,
        expiry=end,
    )


def ended(batch: Batch, job: str) -> str:
    """Why a job has ended, as soon as it has."""
    found = until(lambda: batch.client.get_job(job), lambda found: found.state == "completed")
    return str(found.execution_info.termination_reason)


def test_life_of_a_task_is_stamped_state_by_state(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    task = batch.start(job, "sleep 0.5")
    running = batch.running(job, task)
    assert (running.previous_state, running.execution_info.end_time) == ("preparing", None)
    assert running.state_transition_time == running.execution_info.start_time
    done = batch.ended(job, task)
    assert (done.previous_state, done.previous_state_transition_time) == ("running", running.state_transition_time)
    assert done.state_transition_time == done.execution_info.end_time
    assert done.creation_time <= done.execution_info.start_time <= done.execution_info.end_time
    assert done.last_modified == done.state_transition_time
    assert done.etag != running.etag


def test_life_of_a_job_is_stamped_state_by_state(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    made = batch.client.get_job(job)
    assert made.creation_time == made.state_transition_time == made.execution_info.start_time
    batch.client.begin_disable_job(job, {"disableTasks": "requeue"}, polling_interval=0.1).result()
    paused = batch.client.get_job(job)
    assert (paused.state, paused.previous_state) == ("disabled", "disabling")
    batch.client.begin_terminate_job(job, options={"terminateReason": "over"}, polling_interval=0.1).result()
    assert ended(batch, job) == "over"
    done = batch.client.get_job(job)
    assert (done.state, done.previous_state) == ("completed", "terminating")
    assert done.execution_info.end_time == done.state_transition_time > paused.state_transition_time


@pytest.mark.parametrize(("option", "failure"), [("terminate", "TaskEnded"), ("wait", "")])
def test_disabled_job_does_with_its_running_task_what_was_asked(
    batch: Batch, pool: str, option: str, failure: str
) -> None:
    job = batch.job(pool)
    task = batch.start(job, "sleep 1")
    batch.running(job, task)
    batch.client.begin_disable_job(job, {"disableTasks": option}, polling_interval=0.1).result()
    found = batch.client.get_task(job, task)
    assert (batch.client.get_job(job).state, found.state) == ("disabled", "completed")
    assert (found.execution_info.failure_info.code if found.execution_info.failure_info else "") == failure


def test_task_is_counted_in_the_state_in_which_it_is(batch: Batch, pool: str) -> None:
    job = batch.job(pool, maxParallelTasks=1)
    tasks = [batch.start(job, "sleep 0.5", requiredSlots=2) for _ in range(2)]
    batch.running(job, tasks[0])
    counted = batch.client.get_job_task_counts(job)
    assert (counted.task_counts.active, counted.task_counts.running, counted.task_counts.completed) == (1, 1, 0)
    assert (counted.task_slot_counts.active, counted.task_slot_counts.running) == (2, 2)
    batch.ended(job, tasks[1])
    assert batch.client.get_job_task_counts(job).task_counts.succeeded == 2


def test_task_may_be_tried_again_without_limit(batch: Batch, pool: str) -> None:
    line = "echo x >> tries; [ $(wc -l < tries) = 6 ]"
    info = batch.run(batch.job(pool), line, constraints={"maxTaskRetryCount": -1}).execution_info
    assert (info.retry_count, info.exit_code) == (5, 0)


def test_reactivated_task_runs_again_with_all_its_retries(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    tries = f"$AZ_BATCH_NODE_SHARED_DIR/{job}"
    line = f"echo x >> {tries}; [ $(wc -l < {tries}) = 4 ]"
    task = str(batch.run(job, line, constraints={"maxTaskRetryCount": 1}).id)
    batch.client.reactivate_task(job, task)
    info = until(lambda: batch.client.get_task(job, task).execution_info, lambda info: info.exit_code == 0)
    assert (info.retry_count, info.result, info.failure_info) == (1, "success", None)


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"default": NONE}, "AllTasksComplete"),
        ({"exitCodes": [{"code": 3, "exitOptions": NONE}], "default": TERMINATE}, "AllTasksComplete"),
        ({"exitCodes": [{"code": 4, "exitOptions": NONE}], "default": TERMINATE}, "TaskFailed"),
    ],
    ids=["default", "code before default", "another code"],
)
def test_default_exit_options_are_those_of_the_codes_that_are_not_named(
    batch: Batch, pool: str, conditions: dict[str, Any], reason: str
) -> None:
    job = batch.job(pool, onTaskFailure="performexitoptionsjobaction")
    batch.start(job, "sleep 0.2; exit 3", exitConditions=conditions)
    batch.client.update_job(job, {"onAllTasksComplete": "terminatejob"})
    assert ended(batch, job) == reason


def test_failed_download_has_exit_options_of_its_own(batch: Batch, pool: str, storage: str) -> None:
    job = batch.job(pool, onTaskFailure="performexitoptionsjobaction")
    files = [{"httpUrl": f"{storage}/nothing/here", "filePath": "here"}]
    conditions = {"preProcessingError": NONE, "default": TERMINATE}
    batch.start(job, "true", resourceFiles=files, exitConditions=conditions)
    batch.client.update_job(job, {"onAllTasksComplete": "terminatejob"})
    assert ended(batch, job) == "AllTasksComplete"


def test_failed_upload_has_exit_options_of_its_own(batch: Batch, pool: str, storage: str) -> None:
    job = batch.job(pool, onTaskFailure="performexitoptionsjobaction")
    target = {"container": {"containerUrl": f"{storage}/nothing", "path": "out"}}
    upload = {"uploadCondition": "taskcompletion"}
    files = [{"filePattern": "../stdout.txt", "destination": target, "uploadOptions": upload}]
    conditions = {"fileUploadError": NONE, "default": TERMINATE}
    batch.start(job, "true", outputFiles=files, exitConditions=conditions)
    batch.client.update_job(job, {"onAllTasksComplete": "terminatejob"})
    assert ended(batch, job) == "AllTasksComplete"


def test_failure_can_disable_its_job(batch: Batch, pool: str) -> None:
    job = batch.job(pool, onTaskFailure="performexitoptionsjobaction")
    batch.start(job, "exit 3", exitConditions={"default": {"jobAction": "disable"}})
    until(lambda: batch.client.get_job(job).state, lambda state: state == "disabled")


def test_exit_options_of_a_job_that_does_not_perform_them_are_refused(batch: Batch) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        batch.start(batch.job("nowhere"), "true", exitConditions={"default": TERMINATE})
    assert refusal.value.error.code == "InvalidPropertyValue"


def test_failed_task_satisfies_its_dependents_where_its_exit_options_say_so(batch: Batch, pool: str) -> None:
    job = batch.job(pool, usesTaskDependencies=True)
    satisfy = {"exitCodes": [{"code": 3, "exitOptions": {"dependencyAction": "satisfy"}}]}
    for number in (1, 2):
        batch.client.create_task(
            job, {"id": str(number), "commandLine": "/bin/bash -c 'exit 3'", "exitConditions": satisfy}
        )
    dependent = batch.start(job, "true", dependsOn={"taskIdRanges": [{"start": 1, "end": 2}]})
    assert batch.ended(job, dependent).execution_info.result == "success"


def test_job_outlives_a_manager_that_does_not_kill_it(batch: Batch, pool: str) -> None:
    manager = {"id": "manager", "commandLine": "/bin/true", "killJobOnCompletion": False}
    job = batch.job(pool, jobManagerTask=manager)
    batch.ended(job, "manager")
    assert batch.client.get_job(job).state == "active"
    assert batch.run(job, "true").execution_info.result == "success"


@pytest.mark.parametrize("exclusive", [True, False])
def test_exclusive_manager_waits_for_an_idle_node(batch: Batch, pool: str, exclusive: bool) -> None:
    other = batch.job(pool)
    blocker = batch.start(other, "sleep 1")
    batch.running(other, blocker)
    manager = {"id": "manager", "commandLine": "/bin/true", "runExclusive": exclusive}
    job = batch.job(pool, jobManagerTask=manager)
    started = batch.ended(job, "manager").execution_info.start_time
    assert (started >= batch.ended(other, blocker).execution_info.end_time) is exclusive


def test_manager_with_a_property_that_is_no_managers_is_refused(batch: Batch) -> None:
    manager = {"id": "manager", "commandLine": "/bin/true", "dependsOn": {"taskIds": ["other"]}}
    with pytest.raises(HttpResponseError) as refusal:
        batch.job("nowhere", jobManagerTask=manager)
    assert refusal.value.error.code == "InvalidRequestBody"


@pytest.mark.parametrize("most", [0, -2])
def test_job_without_room_for_a_task_is_refused(batch: Batch, most: int) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        batch.job("nowhere", maxParallelTasks=most)
    assert refusal.value.error.code == "InvalidPropertyValue"


def test_what_a_failure_does_is_settled_when_the_job_is_made(batch: Batch) -> None:
    job = batch.job("nowhere")
    with pytest.raises(HttpResponseError) as refusal:
        batch.client.update_job(job, {"onTaskFailure": "performexitoptionsjobaction"})
    assert refusal.value.error.code == "InvalidRequestBody"


def test_files_come_and_go_by_sas(batch: Batch, pool: str, container: ContainerClient) -> None:
    container.upload_blob("in/a.txt", b"fetched")
    reading, writing = signed(container, "rl"), signed(container, "w")
    resources = [
        {"httpUrl": f"{container.url}/in/a.txt?{reading}", "filePath": "one.txt"},
        {"storageContainerUrl": f"{container.url}?{reading}", "blobPrefix": "in/", "filePath": "all"},
    ]
    output = {
        "filePattern": "../stdout.txt",
        "destination": {"container": {"containerUrl": f"{container.url}?{writing}", "path": "out.txt"}},
        "uploadOptions": {"uploadCondition": "tasksuccess"},
    }
    batch.run(batch.job(pool), "cat one.txt all/in/a.txt", resourceFiles=resources, outputFiles=[output])
    assert container.download_blob("out.txt").readall() == b"fetchedfetched"


@pytest.mark.parametrize(
    ("permission", "minutes", "code"),
    [("l", 5, "BlobAccessDenied"), ("r", -1, "BlobAccessDenied")],
    ids=["without the right to read", "expired"],
)
def test_file_by_a_sas_that_does_not_open_it_fails_the_task(
    batch: Batch, pool: str, container: ContainerClient, permission: str, minutes: float, code: str
) -> None:
    container.upload_blob("a.txt", b"x")
    sas = signed(container, permission, minutes=minutes)
    file = {"httpUrl": f"{container.url}/a.txt?{sas}", "filePath": "a.txt"}
    info = batch.run(batch.job(pool), "true", resourceFiles=[file]).execution_info
    assert (info.failure_info.code, info.exit_code) == (code, None)


def test_a_container_may_be_read_only_by_a_sas_that_lists_it(
    batch: Batch, pool: str, container: ContainerClient
) -> None:
    container.upload_blob("a.txt", b"x")
    file = {"storageContainerUrl": f"{container.url}?{signed(container, 'r')}"}
    info = batch.run(batch.job(pool), "true", resourceFiles=[file]).execution_info
    assert info.failure_info.code == "ResourceContainerAccessDenied"


def test_files_go_when_their_retention_time_is_over(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    short = str(batch.run(job, "echo short", constraints={"retentionTime": "PT1S"}).id)
    kept = str(batch.run(job, "echo kept").id)
    assert batch.output(job, short) == "short\n"
    assert unreadable(batch, job, short) == "TaskFilesUnavailable"
    assert batch.output(job, kept) == "kept\n"
    batch.client.replace_task(job, kept, {"commandLine": "true", "constraints": {"retentionTime": "PT0S"}})
    assert unreadable(batch, job, kept) == "TaskFilesUnavailable"
    assert batch.client.get_task(job, short).state == "completed"


def unreadable(batch: Batch, job: str, task: str) -> str:
    """The code with which a task's files can't be listed, as soon as they can't."""
    return until(lambda: code_of(batch, job, task), bool)


def code_of(batch: Batch, job: str, task: str) -> str:
    try:
        list(batch.client.list_task_files(job, task))
    except HttpResponseError as error:
        return str(error.error.code)
    return ""


@contextmanager
def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    """The Batch account of a stand-in with the state of this folder."""
    with running_azure(folder, "--clock", "instant") as settings:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with batch_account(settings) as batch:
            yield batch


def test_retention_goes_on_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path, monkeypatch) as batch:
        job = batch.job(batch.pool())
        task = str(batch.run(job, "true", constraints={"retentionTime": "PT3S"}).id)
        assert code_of(batch, job, task) == ""
    with started(tmp_path, monkeypatch) as batch:
        assert unreadable(batch, job, task) == "TaskFilesUnavailable"
