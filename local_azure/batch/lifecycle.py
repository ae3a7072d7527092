"""The life of jobs, and of tasks where users or their job decide about it.

https://learn.microsoft.com/rest/api/batchservice/job. A job that is ended, deleted, disabled or enabled
is in its passing state when the request is answered, and in the final one a little later; that, and the
wall clock, go on after a restart.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from local_azure.batch import exits
from local_azure.batch.definitions import manager_as_task, new_job
from local_azure.batch.durations import UNLIMITED, parse_duration
from local_azure.batch.states import JOB_REFUSALS, JOB_TRANSITIONS, ON_A_NODE, move, touch
from local_azure.batch.tasks import Tasks
from local_azure.clock import parse_time
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document

SETTLING_SECONDS = 0.3
"""How long a job stays in a passing state, beside what its tasks need; on Azure seconds to minutes."""

_QUOTA_REACHED = "Active job and schedule quota for the account has been reached."
_NOT_COUNTED = ("completed", "deleting")


def job_key(account: str, job: str) -> str:
    """Key of a job (or pool) in its table."""
    return f"{account}/{job}".lower()


def refuse_ended(job: Document) -> None:
    """Let only a job pass that has not begun to end.

    Raises:
        ApiError: 409 with the code of its state.
    """
    if job["state"] in JOB_REFUSALS:
        raise ApiError(409, *JOB_REFUSALS[job["state"]])


class JobLifecycle:
    """Keeps jobs, moves them from state to state, and does in the background what takes time."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._table = cloud.store.table("jobs")
        self.tasks = Tasks(cloud.store.table("tasks"))
        self._open = {key: None for key, job in self._table.items() if job["state"] not in _NOT_COUNTED}
        self._background: set[asyncio.Task[None]] = set()
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        asyncio.get_running_loop().call_soon(self._resume)

    def find(self, account: str, job: str) -> Document:
        """The job.

        Raises:
            ApiError: 404 `JobNotFound`.
        """
        found = self._table.get(job_key(account, job))
        if found is None:
            raise ApiError(404, "JobNotFound", "The specified job does not exist.")
        return found

    def of_account(self, account: str) -> list[Document]:
        """An account's jobs, oldest first."""
        return self._table.below(f"{account}/".lower())

    def forget_account(self, account: str) -> None:
        """Forget an account's jobs and tasks at once; its nodes are gone."""
        for job in self.of_account(account):
            self._forget(job_key(account, job["id"]))

    def create(self, account: Document, body: Document) -> Document:
        """Make a job, and its job manager task.

        Raises:
            ApiError: the job exists, or the account's quota of active jobs is used up.
        """
        job = new_job(account["name"], body)
        key = job_key(account["name"], job["id"])
        if key in self._table:
            raise ApiError(409, "JobExists", "The specified job already exists.")
        active = sum(other.startswith(job_key(account["name"], "")) for other in self._open)
        if active >= account["properties"]["activeJobAndJobScheduleQuota"]:
            raise ApiError(409, "ActiveJobAndScheduleQuotaReached", _QUOTA_REACHED)
        manager = manager_as_task(job) if "jobManagerTask" in job else None
        self._table[key] = job
        self._open[key] = None
        if manager:
            self.tasks.add(manager)
        self._act_on_settings(job)
        return job

    def change(self, job: Document, settings: Document) -> None:
        """Change a job's settings and act on them."""
        job.update(settings)
        touch(job)
        self._table[job_key(job["_account"], job["id"])] = job
        self._act_on_settings(job)

    def terminate(self, job: Document, reason: str) -> None:
        """Begin to end a job; its running tasks are ended, its waiting ones wait for ever."""
        refuse_ended(job)
        job["executionInfo"]["terminateReason"] = reason
        self._move(job, "terminating")
        self.in_background(self._finish_terminating(job))

    def delete(self, job: Document) -> None:
        """Begin to delete a job, its tasks and their files."""
        if job["state"] == "deleting":
            refuse_ended(job)
        self._move(job, "deleting")
        self.in_background(self._finish_deleting(job))

    def disable(self, job: Document, running_tasks: str) -> None:
        """Begin to pause a job; running tasks are to `requeue`, `terminate` or `wait`."""
        refuse_ended(job)
        if job["state"] == "enabling":
            raise ApiError(409, "JobNotActive", "The specified job is not in active state.")
        if job["state"] != "disabling":
            job["_running_tasks"] = running_tasks
            self._move(job, "disabling")
            self.in_background(self._finish_disabling(job))

    def enable(self, job: Document) -> None:
        """Begin to let a paused job go on."""
        refuse_ended(job)
        if job["state"] == "disabled":
            self._move(job, "enabling")
            self.in_background(self._finish_enabling(job))

    async def end_task(self, task: Document) -> None:
        """End a task that has not completed."""
        if task["state"] in ON_A_NODE:
            await self._cloud.nodes.stop_task(task)
        if self.tasks.holds(task) and task["state"] != "completed":
            self.complete(task, None, exits.TASK_ENDED)

    async def delete_task(self, task: Document) -> None:
        """Forget a task, after its end if it runs."""
        if task["state"] in ON_A_NODE:
            await self._cloud.nodes.stop_task(task)
        await self._remove_files([task])
        if self.tasks.holds(task):
            self.tasks.remove(task)
            self._end_if_done(self.find(task["_account"], task["_job"]))

    def complete(self, task: Document, exit_code: int | None, failure: Document | None) -> None:
        """Record the outcome of a task, and what it means for its job."""
        info = {**task["executionInfo"], "result": "failure" if failure else "success"}
        if exit_code is not None:
            info["exitCode"] = exit_code
        if failure:
            info["failureInfo"] = failure
        self.tasks.move(task, "completed", {"executionInfo": info}, stamp="endTime")
        self._cloud.nodes.task_completed(task)
        job = self.find(task["_account"], task["_job"])
        if job["state"] not in JOB_REFUSALS:
            self._consequences(job, task)

    def _consequences(self, job: Document, task: Document) -> None:
        action = exits.job_action(task) if job["onTaskFailure"] == "performexitoptionsjobaction" else "none"
        if task.get("_manager", {}).get("kills"):
            self.terminate(job, "JMComplete")
        elif action == "terminate":
            self.terminate(job, "TaskFailed")
        elif action == "disable" and job["state"] == "active":
            self.disable(job, "requeue")
        else:
            self._end_if_done(job)

    def _end_if_done(self, job: Document) -> None:
        counts = self.tasks.of(job_key(job["_account"], job["id"])).counts
        done = counts["active"] + counts["running"] == 0
        if job["state"] == "active" and job["onAllTasksComplete"] == "terminatejob" and done:
            self.terminate(job, "AllTasksComplete")

    def _jobs_on(self, account: str, pool: str) -> list[Document]:
        """Jobs of this pool that have not ended."""
        wanted = job_key(account, pool)
        return [
            job
            for job in map(self._table.__getitem__, self._open)
            if job_key(job["_account"], job["poolInfo"]["poolId"]) == wanted
        ]

    def _move(self, job: Document, state: str) -> None:
        moment = move(job, state, JOB_TRANSITIONS)
        key = job_key(job["_account"], job["id"])
        if state == "completed":
            job["executionInfo"]["endTime"] = moment
        if state in _NOT_COUNTED:
            self._open.pop(key, None)
        self._table[key] = job
        self._cloud.nodes.wake()

    async def _finish_terminating(self, job: Document) -> None:
        await self._settle(job, self.end_task)
        if self._still(job, "terminating"):
            self._move(job, "completed")

    async def _finish_deleting(self, job: Document) -> None:
        await self._settle(job, self._cloud.nodes.stop_task)
        key = job_key(job["_account"], job["id"])
        await self._remove_files(self.tasks.of_job(key))
        if self._still(job, "deleting"):
            self._forget(key)

    def _still(self, job: Document, state: str) -> bool:
        """Whether nobody changed a job's state, or removed it, while something took its time."""
        return self._table.get(job_key(job["_account"], job["id"])) is job and job["state"] == state

    def _forget(self, key: str) -> None:
        self.tasks.forget_job(key)
        self._silence(key)
        self._open.pop(key, None)
        del self._table[key]

    async def _remove_files(self, tasks: list[Document]) -> None:
        folders = [folder for task in tasks if "nodeInfo" in task and (folder := self._cloud.nodes.task_folder(task))]
        await asyncio.to_thread(_remove, folders)

    async def _finish_disabling(self, job: Document) -> None:
        if job["_running_tasks"] == "wait":
            while self._still(job, "disabling") and self.tasks.on_nodes(job_key(job["_account"], job["id"])):
                await asyncio.sleep(SETTLING_SECONDS)
        else:
            await self._settle(job, self._requeue if job["_running_tasks"] == "requeue" else self.end_task)
        if self._still(job, "disabling"):
            self._move(job, "disabled")

    async def _finish_enabling(self, job: Document) -> None:
        await self._cloud.clock.sleep(SETTLING_SECONDS)
        if self._still(job, "enabling"):
            self._move(job, "active")
            self._end_if_done(job)

    async def _requeue(self, task: Document) -> None:
        await self._cloud.nodes.stop_task(task)
        if task["state"] in ON_A_NODE:
            self._cloud.jobs.task_requeued(task)

    async def _settle(self, job: Document, end: Callable[[Document], Awaitable[None]]) -> None:
        running = self.tasks.on_nodes(job_key(job["_account"], job["id"]))
        await asyncio.gather(*(end(task) for task in running))
        await self._cloud.clock.sleep(SETTLING_SECONDS)

    def _act_on_settings(self, job: Document) -> None:
        self._set_alarm(job)
        self._end_if_done(job)
        self._cloud.nodes.wake()

    def _set_alarm(self, job: Document) -> None:
        """Arm the wall clock, which counts from the job's creation."""
        key = job_key(job["_account"], job["id"])
        self._silence(key)
        limit = job["constraints"]["maxWallClockTime"]
        if limit != UNLIMITED and job["state"] not in JOB_REFUSALS:
            passed = self._cloud.clock.now() - parse_time(job["creationTime"])
            left = max(parse_duration(limit) - passed, timedelta())
            self._alarms[key] = asyncio.get_running_loop().call_later(left.total_seconds(), self._expire, job)

    def _silence(self, key: str) -> None:
        alarm = self._alarms.pop(key, None)
        if alarm:
            alarm.cancel()

    def _expire(self, job: Document) -> None:
        if job["state"] not in JOB_REFUSALS:
            self.terminate(job, "MaxWallClockTimeExpiry")

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something take its time, while the request that began it is answered."""
        running = asyncio.get_running_loop().create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)

    def _resume(self) -> None:
        """Go on with what a restart interrupted."""
        finish = {
            "terminating": self._finish_terminating,
            "deleting": self._finish_deleting,
            "disabling": self._finish_disabling,
            "enabling": self._finish_enabling,
        }
        for job in list(self._table.values()):
            self._set_alarm(job)
            if job["state"] in finish:
                self.in_background(finish[job["state"]](job))


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
