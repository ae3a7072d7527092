"""local_azure's compute nodes: real processes, met through the Batch and ARM clients."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import ContainerClient
from conftest import read_env_file, running_azure
from local_pools import GROUP, Batch, batch_account, fixed, until, user_identity
from storage_accounts import DATA_CONTRIBUTOR, create_account

ADMIN = {"autoUser": {"scope": "Pool", "elevationLevel": "Admin"}}
READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"

Start = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def account(shared_azure: dict[str, str]) -> Iterator[Batch]:
    """The Batch account of this module."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in shared_azure.items():
            environment.setenv(name, value)
        with batch_account(shared_azure) as batch:
            yield batch


@pytest.fixture(scope="module")
def shared_job(account: Batch) -> str:
    """A job on a pool of one node with four slots, for tasks that do not disturb each other."""
    return account.job(account.pool(taskSlotsPerNode=4))


@pytest.fixture
def batch(account: Batch, azure: dict[str, str]) -> Batch:
    """The account, with the clients pointed at its cloud."""
    return account


@pytest.fixture
def container(azure: dict[str, str]) -> Iterator[ContainerClient]:
    """A fresh container in which the operator may do everything."""
    url = create_account(azure, f"files{os.urandom(4).hex()}")
    with ManagedIdentityCredential() as credential, ContainerClient(url, "files", credential) as client:
        client.create_container()
        yield client


@pytest.fixture
def own_batch(start_azure: Start) -> Iterator[Callable[..., Batch]]:
    """Start a stand-in with flags; its Batch account."""
    with ExitStack() as stack:
        yield lambda *flags: stack.enter_context(batch_account(start_azure(*flags)))


def reference(identity: str) -> dict[str, Any]:
    return {"identityReference": {"resourceId": identity}}


def scope_of(azure: dict[str, str], container: ContainerClient) -> str:
    """ARM id of the container's account."""
    subscription = f"/subscriptions/{azure['LOCAL_AZURE_SUBSCRIPTION_ID']}"
    name = container.url.rsplit("/", 2)[1]
    return f"{subscription}/resourceGroups/blobs/providers/Microsoft.Storage/storageAccounts/{name}"


def output_file(container: ContainerClient, identity: str, condition: str, pattern: str, path: str) -> dict[str, Any]:
    return {
        "filePattern": pattern,
        "destination": {"container": {"containerUrl": container.url, "path": path, **reference(identity)}},
        "uploadOptions": {"uploadCondition": condition},
    }


def test_task_prints_to_its_files_and_ends_with_its_exit_code(batch: Batch, shared_job: str) -> None:
    task = batch.run(shared_job, "echo out; echo err >&2; exit 3")
    assert task.execution_info is not None
    assert task.execution_info.exit_code == 3
    assert task.execution_info.failure_info is not None
    assert task.execution_info.failure_info.code == "FailureExitCode"
    assert batch.output(shared_job, str(task.id)) == "out\n"
    assert batch.output(shared_job, str(task.id), "stderr.txt") == "err\n"


def test_command_line_runs_without_a_shell(batch: Batch, shared_job: str) -> None:
    batch.client.create_task(shared_job, {"id": "plain", "commandLine": "echo $HOME 'a b' ; ls"})
    batch.ended(shared_job, "plain")
    assert batch.output(shared_job, "plain") == "$HOME a b ; ls\n"


def test_missing_program_is_a_user_error(batch: Batch, shared_job: str) -> None:
    batch.client.create_task(
        shared_job, {"id": "missing", "commandLine": "nosuchprogram", "constraints": {"maxTaskRetryCount": 3}}
    )
    info = batch.ended(shared_job, "missing").execution_info
    assert info is not None
    assert info.failure_info is not None
    assert (info.failure_info.code, info.failure_info.category) == ("CommandProgramNotFound", "usererror")
    assert info.retry_count == 0


def test_task_finds_the_documented_environment(batch: Batch) -> None:
    pool = batch.pool()
    job = batch.job(
        pool, commonEnvironmentSettings=[{"name": "COMMON", "value": "1"}, {"name": "BOTH", "value": "job"}]
    )
    settings = [{"name": "BOTH", "value": "task"}]
    task = batch.run(job, "env; pwd", environmentSettings=settings)
    lines = batch.output(job, str(task.id)).splitlines()
    found = dict(line.split("=", 1) for line in lines[:-1])
    assert task.node_info is not None
    root = found["AZ_BATCH_NODE_ROOT_DIR"]
    folder = f"{root}/workitems/{job}/job-1/{task.id}"
    assert {name: value for name, value in found.items() if name.startswith("AZ_BATCH_")} == {
        "AZ_BATCH_ACCOUNT_NAME": batch.account,
        "AZ_BATCH_ACCOUNT_URL": f"{batch.settings['LOCAL_AZURE_BATCH_URL']}/{batch.account}",
        "AZ_BATCH_JOB_ID": job,
        "AZ_BATCH_NODE_ID": task.node_info.node_id,
        "AZ_BATCH_NODE_IS_DEDICATED": "true",
        "AZ_BATCH_NODE_MOUNTS_DIR": f"{root}/fsmounts",
        "AZ_BATCH_NODE_ROOT_DIR": root,
        "AZ_BATCH_NODE_SHARED_DIR": f"{root}/shared",
        "AZ_BATCH_NODE_STARTUP_DIR": f"{root}/startup",
        "AZ_BATCH_POOL_ID": pool,
        "AZ_BATCH_TASK_DIR": folder,
        "AZ_BATCH_TASK_ID": task.id,
        "AZ_BATCH_TASK_WORKING_DIR": f"{folder}/wd",
    }
    assert (found["COMMON"], found["BOTH"], lines[-1]) == ("1", "task", f"{folder}/wd")


def test_nothing_of_the_environment_of_the_stand_in_leaks(start_azure: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAK", "SPATIOBATCH_LEAK", "AZ_BATCH_LEAK"):
        monkeypatch.setenv(name, "leaked")
    with batch_account(start_azure()) as batch:
        job = batch.job(batch.pool())
        output = batch.output(job, str(batch.run(job, "env").id))
    assert "leaked" not in output
    assert {line.split("=")[0] for line in output.splitlines() if not line.startswith("AZ_BATCH_")} == {
        "AZURE_CONFIG_DIR",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "CURL_CA_BUNDLE",
        "HOME",
        "LANG",
        "PATH",
        "PWD",
        "REQUESTS_CA_BUNDLE",
        "SHLVL",
        "SSL_CERT_FILE",
        "_",
    }


def test_python_of_the_image_imports_what_task_scripts_need(batch: Batch, shared_job: str) -> None:
    task = batch.run(shared_job, 'python3 -I -c "import requests, azure.identity"')
    assert task.execution_info is not None
    assert task.execution_info.exit_code == 0


def test_start_task_installs_nothing_on_this_machine(batch: Batch) -> None:
    line = (
        'sudo -E apt-get install -y jq && python3 -m venv v && v/bin/pip install x && v/bin/python -c "import requests"'
    )
    pool = batch.pool(startTask={"commandLine": f"/bin/bash -ec '{line}'", "userIdentity": ADMIN})
    node = batch.nodes(pool, 1)[0]
    assert node.start_task_info is not None
    assert node.start_task_info.exit_code == 0


def test_failed_start_task_shows_in_the_node_with_its_stderr(batch: Batch) -> None:
    start_task = {"commandLine": "/bin/bash -c 'echo no disk >&2; exit 7'", "maxTaskRetryCount": 1}
    pool = batch.pool(startTask=start_task)
    node = batch.nodes(pool, 1, "starttaskfailed")[0]
    assert node.start_task_info is not None
    assert (node.start_task_info.exit_code, node.start_task_info.retry_count) == (7, 1)
    assert node.start_task_info.failure_info is not None
    assert node.start_task_info.failure_info.code == "FailureExitCode"
    assert batch.node_file(pool, str(node.id), "startup/stderr.txt") == "no disk\n"


def test_start_task_that_nobody_waits_for_may_fail(batch: Batch) -> None:
    pool = batch.pool(startTask={"commandLine": "/bin/false", "waitForSuccess": False})
    node = batch.nodes(pool, 1)[0]
    assert node.start_task is not None
    assert node.start_task.wait_for_success is False


def test_start_task_leaves_files_for_the_tasks_of_its_node(batch: Batch) -> None:
    line = '[ -z "$AZ_BATCH_JOB_ID$AZ_BATCH_TASK_ID" ] && echo tool > $AZ_BATCH_NODE_SHARED_DIR/tool'
    job = batch.job(batch.pool(startTask={"commandLine": f"/bin/bash -c '{line}'"}))
    task = batch.run(job, "cat $AZ_BATCH_NODE_SHARED_DIR/tool")
    assert batch.output(job, str(task.id)) == "tool\n"


def test_retries_share_the_working_directory(batch: Batch, shared_job: str) -> None:
    line = "echo x >> tries; cat tries; [ $(wc -l < tries) = 3 ]"
    task = batch.run(shared_job, line, constraints={"maxTaskRetryCount": 5})
    assert task.execution_info is not None
    assert (task.execution_info.retry_count, task.execution_info.exit_code) == (2, 0)
    assert batch.output(shared_job, str(task.id)) == "x\nx\nx\n"


def test_retries_stay_on_their_node(batch: Batch) -> None:
    pool = batch.pool(scaleSettings=fixed(2), taskSlotsPerNode=2)
    batch.nodes(pool, 2)
    job = batch.job(pool)
    line = "echo x >> tries; [ $(wc -l < tries) = 3 ]"
    tasks = [batch.start(job, line, constraints={"maxTaskRetryCount": 2}) for _ in range(12)]
    infos = [batch.ended(job, task).execution_info for task in tasks]
    assert [info.exit_code for info in infos if info] == [0] * 12


def test_task_beyond_its_wall_clock_time_is_ended(batch: Batch, shared_job: str) -> None:
    task = batch.run(shared_job, "echo began; sleep 60", constraints={"maxWallClockTime": "PT1S"})
    assert task.execution_info is not None
    assert task.execution_info.failure_info is not None
    assert task.execution_info.failure_info.code == "TaskEnded"
    assert batch.output(shared_job, str(task.id)) == "began\n"


def test_terminated_task_leaves_no_process(batch: Batch, shared_job: str) -> None:
    task = batch.start(shared_job, "sleep 61 & echo $! > part; mv part child; wait")
    child = child_of(batch, shared_job, task)
    batch.client.terminate_task(shared_job, task)
    assert gone(child)


def child_of(batch: Batch, job: str, task: str) -> int:
    """The process that a task has started and told of in the file `child`."""
    batch.running(job, task)
    until(
        lambda: [file.name for file in batch.client.list_task_files(job, task, recursive=True)],
        lambda names: "wd/child" in names,
    )
    return int(batch.output(job, task, "wd/child"))


def gone(process: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet has."""
    status = Path(f"/proc/{process}/stat")
    return until(lambda: not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z", bool, 10)


def test_slots_of_a_node_are_never_overbooked(batch: Batch) -> None:
    job = batch.job(batch.pool(taskSlotsPerNode=2))
    line = "cd $AZ_BATCH_NODE_SHARED_DIR; mkdir $$; ls; sleep 0.3; rmdir $$"
    tasks = [batch.start(job, line) for _ in range(6)]
    for task in tasks:
        batch.ended(job, task)
    assert max(len(batch.output(job, task).splitlines()) for task in tasks) == 2


def test_resource_file_comes_with_an_identity_of_the_pool(
    batch: Batch, azure: dict[str, str], container: ContainerClient
) -> None:
    container.upload_blob("in/a.sh", b"echo fetched")
    identity = user_identity(azure, scope_of(azure, container), READER)
    job = batch.job(batch.pool(identities=[identity]))
    single = {"httpUrl": f"{container.url}/in/a.sh", "filePath": "x/run.sh", "fileMode": "0755", **reference(identity)}
    prefix = {"storageContainerUrl": container.url, "blobPrefix": "in/", "filePath": "all", **reference(identity)}
    task = batch.run(
        job, "x/run.sh || bash x/run.sh; cat all/in/a.sh; stat -c %a x/run.sh", resourceFiles=[single, prefix]
    )
    assert batch.output(job, str(task.id)) == "fetched\necho fetched755\n"


def test_refused_resource_file_fails_the_task_and_is_not_retried(
    batch: Batch, azure: dict[str, str], container: ContainerClient
) -> None:
    container.upload_blob("a", b"secret")
    identity = user_identity(
        azure, f"/subscriptions/{azure['LOCAL_AZURE_SUBSCRIPTION_ID']}/resourceGroups/nodes", READER
    )
    job = batch.job(batch.pool(identities=[identity]))
    file = {"httpUrl": f"{container.url}/a", "filePath": "a", **reference(identity)}
    listed = {"storageContainerUrl": container.url, **reference(identity)}
    for files, code in ((file, "BlobAccessDenied"), (listed, "ResourceContainerAccessDenied")):
        info = batch.run(job, "true", resourceFiles=[files], constraints={"maxTaskRetryCount": 3}).execution_info
        assert info is not None
        assert info.failure_info is not None
        assert (info.failure_info.code, info.failure_info.category) == (code, "usererror")
        assert (info.retry_count, info.exit_code) == (0, None)


def test_identity_that_is_not_on_the_pool_is_refused(
    batch: Batch, azure: dict[str, str], container: ContainerClient
) -> None:
    container.upload_blob("a", b"x")
    identity = user_identity(azure, scope_of(azure, container), READER)
    file = {"httpUrl": f"{container.url}/a", "filePath": "a", **reference(identity)}
    job = batch.job(batch.pool())
    info = batch.run(job, "true", resourceFiles=[file]).execution_info
    assert info is not None
    assert info.failure_info is not None
    assert info.failure_info.code == "BlobAccessDenied"
    start_task = {"commandLine": "/bin/true", "resourceFiles": [file], "maxTaskRetryCount": 2}
    node = batch.nodes(batch.pool(startTask=start_task), 1, "starttaskfailed")[0]
    assert node.start_task_info is not None
    assert node.start_task_info.retry_count == 0


def test_task_gets_tokens_of_the_identity_of_its_pool_only(batch: Batch, azure: dict[str, str]) -> None:
    scope = f"/subscriptions/{azure['LOCAL_AZURE_SUBSCRIPTION_ID']}/resourceGroups/nodes"
    identity = user_identity(azure, scope, READER)
    line = (
        "curl -s -o answer -w %{http_code} -H Metadata:true "
        '"$AZURE_POD_IDENTITY_AUTHORITY_HOST/metadata/identity/oauth2/token?api-version=2018-02-01'
        '&resource=https://storage.azure.com"'
    )
    with_identity, without = batch.job(batch.pool(identities=[identity])), batch.job(batch.pool())
    assert batch.output(with_identity, str(batch.run(with_identity, line).id)) == "200"
    assert batch.output(without, str(batch.run(without, line).id)) == "400"


def test_output_files_go_up_by_condition(batch: Batch, azure: dict[str, str], container: ContainerClient) -> None:
    identity = user_identity(azure, scope_of(azure, container), DATA_CONTRIBUTOR)
    job = batch.job(batch.pool(identities=[identity]))
    for name, line in (("good", "echo hi; echo 1 > a.txt; mkdir d; echo 2 > d/b.txt"), ("bad", "exit 1")):
        files = [
            output_file(container, identity, "taskcompletion", "../std*.txt", f"logs/{name}"),
            output_file(container, identity, "tasksuccess", "**/*.txt", f"all/{name}"),
            output_file(container, identity, "tasksuccess", "d/b.txt", f"one/{name}"),
            output_file(container, identity, "taskfailure", "../stderr.txt", f"failed/{name}"),
        ]
        batch.run(job, line, outputFiles=files)
    assert [blob.name for blob in container.list_blobs()] == [
        "all/good/a.txt",
        "all/good/d/b.txt",
        "failed/bad",
        "logs/bad/stderr.txt",
        "logs/bad/stdout.txt",
        "logs/good/stderr.txt",
        "logs/good/stdout.txt",
        "one/good",
    ]
    assert container.download_blob("logs/good/stdout.txt").readall() == b"hi\n"


def test_failed_upload_fails_a_task_that_exited_with_zero(
    batch: Batch, azure: dict[str, str], container: ContainerClient
) -> None:
    reader = user_identity(azure, scope_of(azure, container), READER)
    writer = user_identity(azure, scope_of(azure, container), DATA_CONTRIBUTOR)
    job = batch.job(batch.pool(identities=[reader, writer]))
    missing = ContainerClient.from_container_url(f"{container.url}2")
    for identity, target, code in (
        (reader, container, "FileUploadAccessDenied"),
        (writer, missing, "FileUploadContainerNotFound"),
    ):
        file = output_file(target, identity, "taskcompletion", "../stdout.txt", "x")
        info = batch.run(job, "true", outputFiles=[file]).execution_info
        assert info is not None
        assert info.failure_info is not None
        assert (info.failure_info.code, info.exit_code, info.result) == (code, 0, "failure")


def test_pool_grows_and_shrinks_to_nothing(batch: Batch) -> None:
    pool = batch.pool(scaleSettings=fixed(0))
    assert list(batch.client.list_nodes(pool)) == []
    batch.scale(pool, **fixed(1, spot=1))
    nodes = batch.nodes(pool, 2)
    assert sorted(str(node.id)[-2:] for node in nodes) == ["_d", "_p"]
    assert sorted(bool(node.is_dedicated) for node in nodes) == [False, True]
    until(lambda: batch.client.get_pool(pool), lambda found: found.allocation_state == "steady")
    batch.scale(pool, **fixed(0))
    batch.nodes(pool, 0)
    shown = until(lambda: batch.client.get_pool(pool), lambda found: found.allocation_state == "steady")
    assert (shown.current_dedicated_nodes, shown.current_low_priority_nodes) == (0, 0)


def test_removed_node_lets_its_task_finish_when_asked_to(batch: Batch) -> None:
    pool = batch.pool()
    job = batch.job(pool)
    task = batch.start(job, "sleep 1; echo done")
    batch.running(job, task)
    resize = {"targetDedicatedNodes": 0, "nodeDeallocationOption": "taskcompletion"}
    poller = batch.client.begin_resize_pool(pool, resize, polling_interval=0.1)
    assert batch.nodes(pool, 1, "leavingpool")
    info = batch.ended(job, task).execution_info
    assert info is not None
    assert (info.exit_code, info.requeue_count) == (0, 0)
    poller.result()
    batch.nodes(pool, 0)


def test_quota_that_is_too_small_leaves_fewer_nodes_and_an_error(own_batch: Callable[..., Batch]) -> None:
    batch = own_batch("--core-quota", "4")
    pool = batch.pool(scaleSettings=fixed(3))
    batch.nodes(pool, 2)
    shown = until(lambda: batch.client.get_pool(pool), lambda found: found.allocation_state == "steady")
    assert [error.code for error in shown.resize_errors or []] == ["AccountCoreQuotaReached"]
    status = batch.management.pool.get(GROUP, batch.account, pool).resize_operation_status
    assert status is not None
    assert [error.code for error in status.errors or []] == ["AccountCoreQuotaReached"]


def test_machine_runs_no_more_nodes_than_it_is_allowed(own_batch: Callable[..., Batch]) -> None:
    batch = own_batch("--nodes", "1")
    pool = batch.pool(scaleSettings=fixed(3))
    batch.nodes(pool, 1)
    shown = until(lambda: batch.client.get_pool(pool), lambda found: found.allocation_state == "steady")
    assert (shown.target_dedicated_nodes, shown.current_dedicated_nodes) == (3, 1)


def test_killed_process_counts_as_a_try(own_batch: Callable[..., Batch]) -> None:
    batch = own_batch("--fault", "service=node,path=/victim$,action=kill,delay=0.2")
    job = batch.job(batch.pool())
    batch.client.create_task(
        job,
        {
            "id": "victim",
            "commandLine": "/bin/bash -c 'echo x >> tries; [ $(wc -l < tries) = 2 ] || sleep 60'",
            "constraints": {"maxTaskRetryCount": 1},
        },
    )
    info = batch.ended(job, "victim").execution_info
    assert info is not None
    assert (info.retry_count, info.exit_code) == (1, 0)


def test_preempted_node_takes_its_files_and_requeues_its_task(own_batch: Callable[..., Batch]) -> None:
    batch = own_batch("--fault", "service=node,path=/victim$,action=preempt,delay=0.2")
    pool = batch.pool(scaleSettings=fixed(0, spot=1))
    job = batch.job(pool)
    before = batch.nodes(pool, 1)[0]
    line = "/bin/bash -c 'echo x >> tries; cat tries; sleep 0.5'"
    batch.client.create_task(job, {"id": "victim", "commandLine": line})
    task = batch.ended(job, "victim")
    assert task.execution_info is not None
    assert (task.execution_info.requeue_count, task.execution_info.retry_count) == (1, 0)
    assert task.node_info is not None
    assert task.node_info.node_id != before.id
    assert batch.output(job, "victim") == "x\n"


def test_rebooted_node_runs_its_start_task_again_and_keeps_its_files(batch: Batch) -> None:
    pool = batch.pool(startTask={"commandLine": "/bin/bash -c 'echo x >> $AZ_BATCH_NODE_SHARED_DIR/boots'"})
    node = str(batch.nodes(pool, 1)[0].id)
    batch.client.begin_reboot_node(pool, node, options={"nodeRebootOption": "requeue"}, polling_interval=0.1).result()
    batch.nodes(pool, 1)
    assert batch.node_file(pool, node, "shared/boots") == "x\nx\n"


def test_deleted_pool_ends_its_processes_and_requeues(batch: Batch) -> None:
    pool = batch.pool()
    job = batch.job(pool)
    task = batch.start(job, "sleep 62")
    batch.running(job, task)
    batch.management.pool.begin_delete(GROUP, batch.account, pool, polling_interval=0.1).result()
    found = batch.client.get_task(job, task)
    assert found.state == "active"


def test_nodes_come_back_after_a_restart_and_requeue_what_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for last in (False, True):
        with running_azure(tmp_path) as settings:
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            with batch_account(settings) as batch:
                if not last:
                    pool = batch.pool()
                    node = batch.nodes(pool, 1)[0].id
                    job = batch.job(pool)
                    task = batch.start(job, "echo x >> starts; [ $(wc -l < starts) = 2 ] || sleep 63")
                    batch.running(job, task)
                else:
                    assert [found.id for found in batch.client.list_nodes(pool)] == [node]
                    info = batch.ended(job, task).execution_info
                    assert info is not None
                    assert (info.requeue_count, info.exit_code) == (1, 0)


def test_killed_stand_in_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file = tmp_path / "env"
    command = [sys.executable, "-m", "local_azure", "--env-file", env_file, "--state", tmp_path / "state"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until(env_file.exists, bool)
        settings = read_env_file(env_file)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        try:
            with batch_account(settings) as batch:
                job = batch.job(batch.pool())
                child = child_of(batch, job, batch.start(job, "sleep 64 & echo $! > part; mv part child; wait"))
        finally:
            process.kill()
    assert gone(child)
