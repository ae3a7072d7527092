"""A Batch job: opened, filled, waited for, closed."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from azure.batch import BatchClient
from azure.batch.models import (
    BatchJob,
    BatchJobConstraints,
    BatchJobCreateOptions,
    BatchMetadataItem,
    BatchPoolInfo,
    BatchTask,
    BatchTaskCounts,
    BatchTaskCreateOptions,
    BatchTaskCreateResult,
    BatchTaskGroup,
)
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from prefect.logging import get_run_logger

from spatiobatch.errors import HarvestError, JobEndedError
from spatiobatch.interruptions import pause
from spatiobatch.names import MANAGED_BY, job_id
from tasks.clients import AzureClients, attempted, azure_task, code_of, found
from tasks.environment import Environment
from tasks.job_quota import QUOTA_REACHED, JobQuota
from tasks.node_watch import NodeWatch

_MOST_PER_CALL = 100
_MOST_BYTES_PER_CALL = 900_000
"""Batch takes 100 tasks and 1 MB per call (https://learn.microsoft.com/rest/api/batchservice/task/add-collection)."""
_CALLS_AT_ONCE = 4
"""Of those; one after the other, most of the time would be spent waiting for Batch."""
_SUBMIT_SECONDS = 600
_ENDED_STATES = ("terminating", "completed", "deleting")
_ENDED_CODES = {
    "JobNotFound": "gone",
    "JobCompleted": "completed",
    "JobTerminating": "terminating",
    "JobBeingDeleted": "deleting",
}


@contextmanager
def batch_job(
    azure: AzureClients, environment: Environment, purpose: str, is_ours: Callable[[], bool]
) -> Iterator[str]:
    """A job for the time of a `with`.

    It is closed whatever happens inside, unless somebody else goes on with it; where it cannot be closed, that is a
    warning, and what happened inside counts.
    """
    job = open_job(azure, environment, purpose)
    try:
        yield job
    finally:
        if is_ours():
            _close(azure, environment, job)


def _close(azure: AzureClients, environment: Environment, job: str) -> None:
    closed = attempted(close_job, azure, environment, job)
    if not closed.is_completed():
        minutes = azure.settings.job_wall_clock_minutes
        get_run_logger().warning(
            "job %s could not be closed and ends by itself within %s minutes: %s", job, minutes, closed.message
        )


@azure_task("open job")
def open_job(azure: AzureClients, environment: Environment, purpose: str) -> str:
    """Create the job of a harvest or probe, or attach to it while it is active.

    A job that has ended takes no more tasks and never comes back: the next attempt follows it. One that the account's
    quota leaves no room for is tried again for `job_quota_wait_minutes`.

    Raises:
        JobQuotaReachedError: others kept using the quota up.
    """
    batch = azure.batch(environment.batch_endpoint)
    attempt, quota = 1, JobQuota(azure, batch)
    while True:
        name = job_id(purpose, attempt)
        try:
            batch.create_job(_job(azure, name, purpose))
            return name
        except ResourceExistsError as error:
            problem = code_of(error)
            if problem not in (QUOTA_REACHED, "JobExists", "JobBeingDeleted", ""):
                raise
        there = found(batch.get_job, name)
        if there and there.state == "active":
            return name
        if there:
            attempt += 1
        elif problem == QUOTA_REACHED:
            quota.wait()


def _job(azure: AzureClients, name: str, purpose: str) -> BatchJobCreateOptions:
    return BatchJobCreateOptions(
        id=name,
        pool_info=BatchPoolInfo(pool_id=azure.settings.pool),
        constraints=BatchJobConstraints(
            max_wall_clock_time=timedelta(minutes=azure.settings.job_wall_clock_minutes), max_task_retry_count=0
        ),
        all_tasks_complete_mode="noaction",
        metadata=[
            BatchMetadataItem(name="managed-by", value=MANAGED_BY),
            BatchMetadataItem(name="purpose", value=purpose),
        ],
    )


@azure_task("submit tasks")
def submit_tasks(
    azure: AzureClients, environment: Environment, job: str, tasks: Sequence[BatchTaskCreateOptions]
) -> None:
    """Submit all tasks of a job; one that is there already counts if it is the same.

    With a deadline, and a look at every task's own answer: the SDK's `create_tasks` asks a failing service for ever.

    Raises:
        HarvestError: Batch refuses a task, or does not take all of them within ten minutes.
    """
    batch = azure.batch(environment.batch_endpoint)
    deadline = time.monotonic() + _SUBMIT_SECONDS
    waiting = list(tasks)
    while waiting:
        with ThreadPoolExecutor(_CALLS_AT_ONCE) as callers:
            again = [task for left in callers.map(partial(_add, batch, job), _chunks(waiting)) for task in left]
        if again and time.monotonic() > deadline:
            raise HarvestError(f"Batch took all but {len(again)} tasks of job {job} within {_SUBMIT_SECONDS} seconds.")
        if again:
            time.sleep(1)
        waiting = again


def _chunks(tasks: Sequence[BatchTaskCreateOptions]) -> Iterator[list[BatchTaskCreateOptions]]:
    chunk: list[BatchTaskCreateOptions] = []
    size = 0
    for task in tasks:
        weight = len(json.dumps(task.as_dict()))
        if chunk and (len(chunk) == _MOST_PER_CALL or size + weight > _MOST_BYTES_PER_CALL):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += weight
    if chunk:
        yield chunk


def _add(batch: BatchClient, job: str, chunk: list[BatchTaskCreateOptions]) -> list[BatchTaskCreateOptions]:
    """Submit one chunk; the tasks that Batch may take at another try come back."""
    try:
        results = batch.create_task_collection(job, BatchTaskGroup(task_values=chunk)).result_values
    except HttpResponseError as error:
        if error.status_code != 413 or len(chunk) == 1:
            raise
        half = len(chunk) // 2
        return _add(batch, job, chunk[:half]) + _add(batch, job, chunk[half:])
    by_id = {task.id: task for task in chunk}
    return [by_id[result.task_id] for result in results if result.error and _again(batch, job, by_id, result)]


def _again(
    batch: BatchClient, job: str, by_id: dict[str, BatchTaskCreateOptions], result: BatchTaskCreateResult
) -> bool:
    """Whether a task that was not added may be at another try; it may not if it is there already.

    Raises:
        HarvestError: Batch refuses it, or another one has its id.
    """
    task, error = by_id[result.task_id], result.error
    if error.code == "TaskExists":
        if _asked(batch.get_task(job, task.id)) != _asked(task):
            raise HarvestError(f"Job {job} has another task {task.id}: end that job, then harvest again.")
        return False
    if str(getattr(result.status, "value", result.status)).lower() == "servererror":
        return True
    message = error.message.value.splitlines()[0] if error.message else ""
    raise HarvestError(f"Batch refused task {task.id} of job {job}: {error.code} {message}")


def _asked(task: BatchTask | BatchTaskCreateOptions) -> tuple[str, dict[str, str]]:
    """What a task is to do; the address of its script differs from SAS to SAS."""
    return task.command_line, {setting.name: setting.value for setting in task.environment_settings or []}


@azure_task("wait for tasks")
def wait_for_tasks(azure: AzureClients, environment: Environment, job: str, expected: int) -> list[BatchTask]:
    """Wait until all tasks of a job are completed, at two calls per look however many they are.

    Raises:
        JobEndedError: the job ended first; its queued tasks would stay active for ever.
    """
    logger = get_run_logger()
    batch = azure.batch(environment.batch_endpoint)
    watch = NodeWatch(batch, azure.settings.pool)
    last = ""
    while True:
        state, counts = _look(batch, job, expected)
        now = f"{counts.completed} of {expected} tasks are done, {counts.running} running, {counts.active} waiting"
        if now != last:
            logger.info(now)
            last = now
        if counts.completed >= expected:
            return list(batch.list_tasks(job))
        if state.state in _ENDED_STATES:
            reason = state.execution_info.termination_reason if state.execution_info else None
            raise JobEndedError(job, getattr(state.state, "value", state.state), reason, expected - counts.completed)
        watch.look(counts)
        pause(azure.settings.poll_seconds)


def _look(batch: BatchClient, job: str, expected: int) -> tuple[BatchJob, BatchTaskCounts]:
    """The job, then its counts: it may end right after its last task."""
    with needing(job, expected):
        return batch.get_job(job), batch.get_job_task_counts(job).task_counts


@contextmanager
def needing(job: str, unfinished: int) -> Iterator[None]:
    """Calls that only an active job answers; it may end before any of them.

    Codes: https://learn.microsoft.com/rest/api/batchservice/batch-status-and-error-codes

    Raises:
        JobEndedError: it has.
    """
    try:
        yield
    except HttpResponseError as error:
        state = _ENDED_CODES.get(code_of(error))
        if state is None:
            raise
        raise JobEndedError(job, state, None, unfinished) from error


@azure_task("close job")
def close_job(azure: AzureClients, environment: Environment, job: str) -> None:
    """End the job, and delete it if the settings say so: an active job that nobody needs uses up the quota.

    One that is gone or has ended is fine.
    """
    batch = azure.batch(environment.batch_endpoint)
    try:
        if azure.settings.job_end == "delete":
            batch.begin_delete_job(job, polling_interval=azure.settings.poll_seconds)
        else:
            batch.begin_terminate_job(
                job, options={"terminateReason": "HarvestEnded"}, polling_interval=azure.settings.poll_seconds
            )
    except ResourceNotFoundError:
        return
    except HttpResponseError as error:
        if code_of(error) not in _ENDED_CODES:
            raise
