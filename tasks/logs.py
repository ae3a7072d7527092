"""What a task said: the uploaded log first, the node second."""

from azure.batch.models import BatchTask
from azure.core.exceptions import HttpResponseError

from spatiobatch.errors import HarvestError, TaskFailedError
from spatiobatch.manifest import Layout
from tasks.clients import AzureClients, azure_task, found
from tasks.environment import Environment

_LAST_LINES = 20


@azure_task("read task output")
def read_stdout(azure: AzureClients, environment: Environment, job: str, task: BatchTask, harvest_id: str) -> bytes:
    """The standard output of a harvest's task, whole.

    Raises:
        TaskFailedError: the task failed.
        HarvestError: there is no output to be had.
    """
    logs = Layout(harvest_id).logs(task.id)
    check_succeeded(azure, environment, job, task, logs)
    output = read_log(azure, environment, job, task.id, f"{logs}/stdout.txt")
    if output is None:
        raise HarvestError(
            f"Task {task.id} of job {job} succeeded, but its stdout.txt is neither uploaded nor on its node."
        )
    return output


def check_succeeded(azure: AzureClients, environment: Environment, job: str, task: BatchTask, logs: str) -> None:
    """Pass a task that ended well.

    Raises:
        TaskFailedError: with the exit code, the node and the last lines of stderr, or why there are none.
    """
    info = task.execution_info
    if info is not None and info.result == "success":
        return
    failure = info.failure_info if info else None
    reason = f"{failure.code}: {failure.message}" if failure else "Batch gives no reason"
    details = "; ".join(f"{detail.name}: {detail.value}" for detail in (failure.details or [])) if failure else ""
    code = info.exit_code if info else None
    outcome = (
        f"failed with exit code {code}"
        if code is not None
        else f"failed before it ran ({reason}{details and '; '}{details})"
    )
    stderr = read_log(azure, environment, job, task.id, f"{logs}/stderr.txt") if code is not None else None
    tail = "\n".join(stderr.decode(errors="replace").splitlines()[-_LAST_LINES:]) if stderr else None
    raise TaskFailedError(job, task.id, outcome, task.node_info.node_id if task.node_info else None, tail)


def read_log(azure: AzureClients, environment: Environment, job: str, task: str, blob: str) -> bytes | None:
    """An uploaded log, or else the node's own file; None when neither is there."""
    container = azure.blobs(environment.blob_endpoint).get_container_client(azure.settings.results_container)
    uploaded = found(container.download_blob, blob)
    if uploaded is not None:
        return bytes(uploaded.readall())
    try:
        batch = azure.batch(environment.batch_endpoint)
        return b"".join(batch.download_task_file(job, task, blob.rsplit("/", 1)[-1]))
    except HttpResponseError as error:
        if error.status_code in (404, 409):
            return None
        raise
