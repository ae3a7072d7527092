"""What a task said: the uploaded log first, the node second."""

import json
import signal
from dataclasses import dataclass

from azure.batch.models import BatchTask, BatchTaskExecutionInfo
from azure.core.exceptions import HttpResponseError

from spatiobatch.errors import HarvestError, TaskFailedError
from spatiobatch.settings import Settings
from tasks import storage
from tasks.clients import AzureClients, azure_task, found
from tasks.environment import Environment, results

_LAST_LINES = 20
_KILLED = 128 + signal.SIGKILL
"""As the kernel kills when memory runs out: https://www.kernel.org/doc/html/latest/admin-guide/mm/concepts.html."""


@dataclass(frozen=True)
class TaskLogs:
    """What a task wrote, and where that is kept."""

    folder: str
    stdout: bytes
    stderr: bytes

    @property
    def files(self) -> dict[str, bytes]:
        """Content by path."""
        return {f"{self.folder}/stdout.txt": self.stdout, f"{self.folder}/stderr.txt": self.stderr}


@azure_task("read task logs")
def read_logs(azure: AzureClients, environment: Environment, job: str, task: BatchTask, folder: str) -> TaskLogs:
    """The logs of a task that ended well, whole.

    Raises:
        TaskFailedError: the task failed.
        HarvestError: there is no output to be had.
    """
    check_succeeded(azure, environment, job, task, folder)
    stdout, stderr = (
        read_log(azure, environment, job, task.id, f"{folder}/{name}.txt") for name in ("stdout", "stderr")
    )
    if stdout is None:
        raise HarvestError(
            f"Task {task.id} of job {job} succeeded, but its stdout.txt is neither uploaded nor on its node."
        )
    return TaskLogs(folder, stdout, stderr or b"")


def check_succeeded(azure: AzureClients, environment: Environment, job: str, task: BatchTask, logs: str) -> None:
    """Pass a task that ended well.

    Raises:
        TaskFailedError: with the exit code, the node and the last lines of stderr, or why there are none.
    """
    info = task.execution_info
    if info is not None and info.result == "success":
        return
    node = task.node_info.node_id if task.node_info else None
    if outlived_its_sas(task):
        outcome = "waited longer for a node than the SAS of its script lasts"
        raise TaskFailedError(job, task.id, outcome, node, "set script_access to identity, or have more nodes")
    if info is None or info.start_time is None:
        outcome = f"failed before it ran: {_reason(info)}"
        raise TaskFailedError(job, task.id, outcome, node, "so there is no stderr")
    stderr = read_log(azure, environment, job, task.id, f"{logs}/stderr.txt")
    advice = _on_being_killed(azure.settings, task) if info.exit_code == _KILLED else ""
    remark, lines = _tail(stderr)
    raise TaskFailedError(job, task.id, _outcome(info), node, f"{advice}{remark}", lines)


def outlived_its_sas(task: BatchTask) -> bool:
    """Whether a task never ran since its node came too late to download the script by its SAS."""
    failure = task.execution_info.failure_info if task.execution_info else None
    signed = any("sig=" in (file.http_url or "") for file in task.resource_files or [])
    if not (signed and failure and failure.code == "BlobAccessDenied" and task.state_transition_time):
        return False
    return bool(task.state_transition_time - task.creation_time >= storage.SAS_LIFE)


def _on_being_killed(settings: Settings, task: BatchTask) -> str:
    collection = _collection_of(task)
    with_what = f" with collection {collection}" if collection else ""
    fewer = f"fewer pool_task_slots ({settings.pool_task_slots} now) or " if settings.pool_task_slots > 1 else ""
    return (
        f"it was killed, most often since the node ran out of memory{with_what}: set {fewer}a larger pool_vm_size "
        f"({settings.pool_vm_size} now), then run provision with --replace-pool; "
    )


def _collection_of(task: BatchTask) -> str | None:
    """The collection that a task was to harvest or to compact, if it was for one."""
    asked = {setting.name: setting.value for setting in task.environment_settings or []}
    shard, collection = asked.get("SHARD"), asked.get("COLLECTION")
    if shard:
        return str(json.loads(shard)["collection"])
    return str(json.loads(collection)) if collection else None


def _outcome(info: BatchTaskExecutionInfo) -> str:
    failure = info.failure_info
    if info.exit_code is None:
        return f"failed: {_reason(info)}"
    if failure is None or failure.code == "FailureExitCode":
        return f"failed with exit code {info.exit_code}"
    return f"ended with exit code {info.exit_code} but failed: {_reason(info)}"


def _reason(info: BatchTaskExecutionInfo | None) -> str:
    failure = info.failure_info if info else None
    if failure is None:
        return "Batch gives no reason"
    details = [f"{detail.name}: {detail.value}" for detail in failure.details or []]
    return "; ".join([f"{failure.code}: {failure.message}", *details])


def _tail(stderr: bytes | None) -> tuple[str, str]:
    if stderr is None:
        return "its stderr is neither uploaded nor on its node", ""
    lines = stderr.decode(errors="replace").rstrip().split("\n")[-_LAST_LINES:]
    return ("its stderr ends:", "\n".join(lines)) if any(lines) else ("its stderr is empty", "")


def read_log(azure: AzureClients, environment: Environment, job: str, task: str, blob: str) -> bytes | None:
    """An uploaded log, or else the node's own file; None when neither is there."""
    container = results(azure, environment)
    uploaded = found(container.download_blob, blob)
    if uploaded is not None:
        return bytes(uploaded.readall())
    return read_node_log(azure, environment, job, task, blob.rsplit("/", 1)[-1])


def read_node_log(azure: AzureClients, environment: Environment, job: str, task: str, name: str) -> bytes | None:
    """The file on the task's node; None when it is not there."""
    try:
        batch = azure.batch(environment.batch_endpoint)
        return b"".join(batch.download_task_file(job, task, name))
    except HttpResponseError as error:
        if error.status_code in (404, 409):
            return None
        raise
