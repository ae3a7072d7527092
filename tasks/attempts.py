"""Tasks of a job that run again where they were cut off: killed, or left without their script."""

import copy
from collections.abc import Sequence
from itertools import count

from azure.batch.models import BatchTask, BatchTaskCreateOptions
from prefect.logging import get_run_logger

from spatiobatch.manifest import Layout
from tasks.clients import AzureClients, azure_task
from tasks.environment import Environment
from tasks.job import needing, submit_tasks, wait_for_tasks
from tasks.logs import check_succeeded

_ATTEMPTS = 3
_VERDICTS = range(2, 7)
"""Exit codes of the node scripts: such a task has itself tried until there was no point in going on."""


@azure_task("run tasks")
def run_tasks(
    azure: AzureClients,
    environment: Environment,
    job: str,
    harvest_id: str,
    tasks: Sequence[BatchTaskCreateOptions],
) -> list[BatchTask]:
    """Run tasks until each has ended well; those attempts, in the tasks' order. What was cut off runs again, twice.

    Attaches to what an earlier run of the same harvest submitted; a task of it that failed is followed by another.
    Batch itself runs the task of a lost node again, but not one whose process was killed or whose script was not to be
    had (https://learn.microsoft.com/azure/batch/batch-job-task-error-checking).

    Raises:
        TaskFailedError: the last attempt of a task failed.
    """
    batch = azure.batch(environment.batch_endpoint)
    with needing(job, len(tasks)):
        there = {task.id: task for task in batch.list_tasks(job, select=["id", "state", "executionInfo"])}
    for _ in range(_ATTEMPTS):
        chosen = [_attempt(harvest_id, task, there) for task in tasks]
        wanted = [task for task in chosen if task.id not in there]
        with needing(job, len(wanted)):
            submit_tasks.fn(azure, environment, job, wanted)
        there = {task.id: task for task in wait_for_tasks.fn(azure, environment, job, len(there) + len(wanted))}
        cut_off = [task.id for task in chosen if _cut_off(there[task.id])]
        if not cut_off:
            break
        get_run_logger().warning("tasks of job %s were cut off: %s", job, ", ".join(cut_off))
    for task in chosen:
        check_succeeded(azure, environment, job, there[task.id], Layout(harvest_id).logs(task.id))
    return [there[task.id] for task in chosen]


def _attempt(harvest_id: str, task: BatchTaskCreateOptions, there: dict[str, BatchTask]) -> BatchTaskCreateOptions:
    """The attempt that counts: the first that has not failed. A task that has ended never comes back."""
    names = (task.id if number == 1 else f"{task.id}-{number}" for number in count(1))
    attempt = copy.deepcopy(task)
    attempt.id = next(name for name in names if name not in there or not _failed(there[name]))
    attempt.output_files[0].destination.container.path = Layout(harvest_id).logs(attempt.id)
    return attempt


def _failed(task: BatchTask) -> bool:
    return task.state == "completed" and (task.execution_info is None or task.execution_info.result != "success")


def _cut_off(task: BatchTask) -> bool:
    return _failed(task) and (task.execution_info is None or task.execution_info.exit_code not in _VERDICTS)
