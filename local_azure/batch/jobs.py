"""Jobs as nodes see them: which task comes next, and what became of it.

Differences from Batch: tasks of one job start in the order of their creation; a `runExclusive` job
manager starts on an idle node only, but does not keep others from joining it there.
"""

from local_azure.batch.exits import FAILURE_EXIT_CODE
from local_azure.batch.lifecycle import JobLifecycle, job_key
from local_azure.batch.states import ON_A_NODE
from local_azure.clock import parse_time
from local_azure.store import Document


class Jobs(JobLifecycle):
    """Jobs and tasks of every account."""

    def next_task(self, account: str, pool: str, free_slots: int) -> Document | None:
        """The task that a node of this pool should run next, still `active`; None if none fits.

        Jobs of higher priority come first, then older tasks.
        """
        jobs = [job for job in self._jobs_on(account, pool) if job["state"] == "active"]
        candidates = [(job, task) for job in jobs if (task := self._candidate(job, free_slots))]
        first = min(
            candidates, key=lambda pair: (-pair[0]["priority"], parse_time(pair[1]["creationTime"])), default=None
        )
        return first[1] if first else None

    def demand(self, account: str, pool: str) -> tuple[int, int]:
        """Task slots that wait, and that are taken, on this pool."""
        jobs = self._jobs_on(account, pool)
        known = {job_key(account, job["id"]): job["state"] for job in jobs}
        waiting = sum(self.tasks.of(key).slots["active"] for key, state in known.items() if state == "active")
        return waiting, sum(self.tasks.of(key).slots["running"] for key in known)

    def task_preparing(self, task: Document, node_info: Document) -> None:
        """A node took the task."""
        self.tasks.move(task, "preparing", {"nodeInfo": node_info})

    def task_running(self, task: Document) -> None:
        """The task's process starts."""
        self.tasks.move(task, "running", stamp="startTime")

    def task_ended(self, task: Document, *, exit_code: int | None = None, failure: Document | None = None) -> None:
        """The task's process ended, or could not be started; it may be tried again."""
        if not self.tasks.holds(task) or task["state"] not in ON_A_NODE:
            return  # A user's terminate or delete was faster than the end of the process.
        job = self.find(task["_account"], task["_job"])
        if exit_code and failure is None and job["state"] == "active" and _may_retry(task):
            self._try_again(task, "retryCount", "lastRetryTime")
        else:
            self.complete(task, exit_code, failure or (FAILURE_EXIT_CODE if exit_code else None))
        self._cloud.nodes.wake()

    def task_requeued(self, task: Document) -> None:
        """The node was lost, or the job was disabled: the task waits for a node again."""
        task.pop("nodeInfo", None)
        self._try_again(task, "requeueCount", "lastRequeueTime")
        self._cloud.nodes.wake()

    def _candidate(self, job: Document, free_slots: int) -> Document | None:
        key = job_key(job["_account"], job["id"])
        if 0 <= job["maxParallelTasks"] <= len(self.tasks.of(key).on_nodes):
            return None
        task = self.tasks.first_waiting(key, free_slots)
        if task and task.get("_manager", {}).get("runExclusive") and free_slots < self._slots_per_node(job):
            return None
        return task

    def _slots_per_node(self, job: Document) -> int:
        pool = self._cloud.store.table("pools")[job_key(job["_account"], job["poolInfo"]["poolId"])]
        return int(pool["properties"].get("taskSlotsPerNode", 1))

    def _try_again(self, task: Document, counter: str, stamp: str) -> None:
        info = {"retryCount": 0, "requeueCount": 0} | {
            name: value
            for name, value in task["executionInfo"].items()
            if name.startswith(("retry", "requeue", "last"))
        }
        info[counter] += 1
        self.tasks.move(task, "active", {"executionInfo": info}, stamp=stamp)


def _may_retry(task: Document) -> bool:
    limit = int(task["constraints"]["maxTaskRetryCount"])
    return limit == -1 or int(task["executionInfo"]["retryCount"]) < limit
