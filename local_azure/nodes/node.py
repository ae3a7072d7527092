"""One compute node: its states, its start task, the tasks on it.

https://learn.microsoft.com/azure/batch/nodes-and-pools

Differences from Azure: a node boots in about a second; a preempted node is replaced by one with another
id instead of coming back; everything runs as the user of the stand-in, whatever `userIdentity` says; no agent
runs on it, so its version is 0.0.0, and nothing can be reached from outside, so there is no `endpointConfiguration`.
"""

import asyncio
import shutil
from collections import deque
from collections.abc import Callable

from local_azure.batch.exits import TASK_ENDED
from local_azure.batch.states import ON_A_NODE
from local_azure.clock import ticks
from local_azure.nodes.execution import Execution
from local_azure.nodes.files import Transfers
from local_azure.nodes.host import Host
from local_azure.nodes.identities import PoolIdentities
from local_azure.nodes.place import Place, task_path
from local_azure.nodes.retention import Retention
from local_azure.nodes.start_task import StartTask
from local_azure.nodes.work import Preparation
from local_azure.store import Document

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "creating": ("starting",),
    "starting": ("waitingforstarttask", "idle"),
    "waitingforstarttask": ("starttaskfailed", "idle"),
    "starttaskfailed": (),
    "idle": ("running", "rebooting"),
    "running": ("idle", "rebooting"),
    "rebooting": ("starting",),
    "leavingpool": (),
    "preempted": (),
}
"""What may follow each state; any node can leave its pool, or be preempted, at any time."""
_LAST = ("leavingpool", "preempted")
_SCHEDULABLE = ("idle", "running")
_WAITING = ("taskcompletion", "retaineddata")
"""What to do with running tasks, where that is to let them end."""
_CREATION_SECONDS = 0.5
_BOOT_SECONDS = 0.5
_RECENT_TASKS = 10
_NO_AGENT = "0.0.0"


def task_key(task: Document) -> str:
    """Key of a task in its table."""
    return f"{task['_account']}/{task['_job']}/{task['id']}".lower()


class Node:
    """A node, from its creation until it has left its pool.

    Args:
        host: what it runs on.
        place: whose it is and where its folder is.
        facts: when it was allocated, and its number in the pool.
        changed: called after every change of state, and when a task has ended.
        gone: called when it has left.
    """

    def __init__(
        self, host: Host, place: Place, facts: Document, *, changed: Callable[[], None], gone: Callable[["Node"], None]
    ) -> None:
        self._host = host
        self._cloud = host.cloud
        self._changed = changed
        self._gone = gone
        self.place = place
        self.number = int(facts["number"])
        self.state = "creating"
        self._allocated = str(facts["allocationTime"])
        self._since = ticks(self._cloud.clock.now())
        self._booted = ""
        self._running: dict[str, tuple[Document, asyncio.Task[None]]] = {}
        self._recent: deque[str] = deque(maxlen=_RECENT_TASKS)
        self._total = self._succeeded = 0
        identities = PoolIdentities(self._cloud, place.account, self._pool)
        self._door = self._cloud.imds.open(identities.principals())
        self.retention = Retention(self._cloud, place)
        self._preparation = Preparation(host, place, self._door)
        self._execution = Execution(host, Transfers(host.http, identities), self.preempt)
        self._start_task = StartTask(self._cloud, self._preparation, self._execution)
        place.create()
        self._vanishing = False
        self._booting = host.spawn(self._boot(_CREATION_SECONDS))

    @property
    def _pool(self) -> Document:
        return self._cloud.store.table("pools")[f"{self.place.account}/{self.place.pool}".lower()]

    @property
    def leaving(self) -> bool:
        """Whether it takes no more tasks and will be gone."""
        return self.state in _LAST

    @property
    def busy(self) -> bool:
        """Whether a task is on it."""
        return bool(self._running)

    @property
    def free_slots(self) -> int:
        """Task slots that a task can have now."""
        if self.state not in _SCHEDULABLE:
            return 0
        return int(self._pool["properties"].get("taskSlotsPerNode") or 1) - self._taken_slots

    @property
    def _taken_slots(self) -> int:
        return sum(int(task["requiredSlots"]) for task, _ in self._running.values())

    def take(self, task: Document) -> None:
        """Start a task that is `active`."""
        path = task_path(task["_job"], task["id"])
        info = {
            "affinityId": f"TVM:{self.place.node}",
            "nodeUrl": self.url,
            "poolId": self.place.pool,
            "nodeId": self.place.node,
            "taskRootDirectory": path,
            "taskRootDirectoryUrl": f"{self.url}/files/{path}",
        }
        self._cloud.jobs.task_preparing(task, info)
        handle = self._host.spawn(self._carry_out(task))
        handle.add_done_callback(lambda done: self._release(task_key(task), done))
        self._running[task_key(task)] = task, handle
        self._recent.append(task_key(task))
        if self.state == "idle":
            self._move("running")

    async def stop_task(self, task: Document) -> bool:
        """End a task's processes; whether it was on this node."""
        _, handle = self._running.get(task_key(task), (task, None))
        if handle is None:
            return False
        handle.cancel()
        await asyncio.gather(handle, return_exceptions=True)
        return True

    def reboot(self, option: str) -> None:
        """Stop everything and start again with the start task; `nodeRebootOption` says what becomes of tasks."""
        self._move("rebooting")
        self._host.spawn(self._restart(option))

    async def _restart(self, option: str) -> None:
        if option in _WAITING:
            await self._finished()
        self._part_with(await self._stop(), option)
        if self.state == "rebooting":  # Not if it was taken away meanwhile.
            self._booting = self._host.spawn(self._boot(0))

    def preempt(self) -> None:
        """Lose the VM, with its tasks and files."""
        if not self.leaving:
            self._booting.cancel()
            self._move("preempted")
            self._host.spawn(self._vanish("requeue"))

    def leave(self, option: str) -> None:
        """Leave the pool; `nodeDeallocationOption` says what becomes of running tasks."""
        self._booting.cancel()
        self._move("leavingpool")
        self._host.spawn(self._vanish(option.lower()))

    async def _finished(self) -> None:
        """Wait for the tasks that are here."""
        await asyncio.gather(*(handle for _, handle in self._running.values()), return_exceptions=True)

    async def _vanish(self, option: str) -> None:
        if option in _WAITING:
            await self._finished()
        if self._vanishing:
            return
        self._vanishing = True
        tasks = await self._stop()
        self._cloud.imds.close(self._door)
        shutil.rmtree(self.place.root, ignore_errors=True)
        self._gone(self)
        self._part_with(tasks, option)

    async def _stop(self) -> list[Document]:
        """End all processes; the tasks that they belonged to."""
        stopped = list(self._running.values())
        handles = [self._booting, *(handle for _, handle in stopped)]
        for handle in handles:
            handle.cancel()
        await asyncio.gather(*handles, return_exceptions=True)
        return [task for task, _ in stopped]

    def _part_with(self, tasks: list[Document], option: str) -> None:
        """End or requeue tasks that were stopped."""
        for task in self._still_ours(tasks):
            if option == "terminate":
                self._cloud.jobs.task_ended(task, failure=TASK_ENDED)
            else:
                self._cloud.jobs.task_requeued(task)

    def _still_ours(self, tasks: list[Document]) -> list[Document]:
        """Without those that the user ended while they were being stopped."""
        known = self._cloud.store.table("tasks")
        return [task for task in tasks if known.get(task_key(task)) is task and task["state"] in ON_A_NODE]

    async def _boot(self, creation_seconds: float) -> None:
        await self._cloud.clock.sleep(creation_seconds)
        self._move("starting")
        await self._cloud.clock.sleep(_BOOT_SECONDS)
        self._booted = ticks(self._cloud.clock.now())
        self._start_task.read(self._pool)
        if self._start_task.awaited:
            self._move("waitingforstarttask")
            self._move("idle" if await self._start_task.run() else "starttaskfailed")
        else:
            self._move("idle")
            await self._start_task.run()

    async def _carry_out(self, task: Document) -> None:
        work = self._preparation.task(task)
        outcome = await self._execution.run(work, lambda: self._cloud.jobs.task_running(task))
        self._total += 1
        self._succeeded += outcome.succeeded
        del self._running[task_key(task)]
        self._cloud.jobs.task_ended(task, exit_code=outcome.exit_code, failure=outcome.failure)
        if task["state"] == "active" and self.state in _SCHEDULABLE:
            self.take(task)  # It is tried again where its files are, before others can have its slots.

    def _release(self, key: str, handle: asyncio.Task[None]) -> None:
        if key in self._running and self._running[key][1] is handle:  # Not if it is being tried again already.
            del self._running[key]
        if self.state == "running" and not self._running:
            self._move("idle")
        self._changed()

    def _move(self, state: str) -> None:
        if state not in (*TRANSITIONS[self.state], *_LAST):
            raise ValueError(f"a node that is {self.state} cannot be {state}")
        self.state = state
        self._since = ticks(self._cloud.clock.now())
        self._changed()

    @property
    def url(self) -> str:
        """Address of the node in the data plane."""
        place = self.place
        return f"{self._cloud.addresses.batch}/{place.account}/pools/{place.pool}/nodes/{place.node}"

    def document(self) -> Document:
        """The node as the data plane answers it."""
        place, properties = self.place, self._pool["properties"]
        optional = {
            "lastBootTime": self._booted,
            "recentTasks": [recent for key in self._recent if (recent := self._recent_task(key))],
            "startTask": self._start_task.settings,
            "startTaskInfo": self._start_task.info,
            "nodeAgentInfo": self._booted and {"version": _NO_AGENT, "lastUpdateTime": self._booted},
        }
        image = properties["deploymentConfiguration"]["virtualMachineConfiguration"]["imageReference"]
        return {
            "id": place.node,
            "url": self.url,
            "state": self.state,
            "schedulingState": "enabled",
            "stateTransitionTime": self._since,
            "allocationTime": self._allocated,
            "ipAddress": f"10.0.0.{self.number + 3}",
            "affinityId": f"TVM:{place.node}",
            "vmSize": properties["vmSize"].lower(),
            "totalTasksRun": self._total,
            "runningTasksCount": len(self._running),
            "runningTaskSlotsCount": self._taken_slots,
            "totalTasksSucceeded": self._succeeded,
            "isDedicated": place.dedicated,
            "virtualMachineInfo": {"imageReference": {**image, "exactVersion": image.get("version", "latest")}},
            **{name: value for name, value in optional.items() if value},
        }

    def _recent_task(self, key: str) -> Document | None:
        task = self._cloud.store.table("tasks").get(key)
        if task is None:
            return None
        return {
            "taskUrl": f"{self._cloud.addresses.batch}/{self.place.account}/jobs/{task['_job']}/tasks/{task['id']}",
            "jobId": task["_job"],
            "taskId": task["id"],
            "taskState": task["state"],
            "executionInfo": task["executionInfo"],
        }
