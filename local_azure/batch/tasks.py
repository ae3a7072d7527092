"""The tasks of every job, with what must be known about them without reading them all.

Counts, queues and the set of running tasks are kept in memory and rebuilt from the table at start.
"""

from collections import Counter
from collections.abc import Iterator

from local_azure.batch.exits import satisfies_dependants, succeeded
from local_azure.batch.states import ON_A_NODE, TASK_TRANSITIONS, move, touch
from local_azure.clock import parse_time
from local_azure.errors import ApiError
from local_azure.store import Document, Table

COUNTED = ("active", "running", "completed", "succeeded", "failed")


def task_key(account: str, job: str, task: str) -> str:
    """Key of a task in its table."""
    return f"{account}/{job}/{task}".lower()


def key_of(task: Document) -> str:
    """Key of this task in its table."""
    return task_key(task["_account"], task["_job"], task["id"])


class JobTasks:
    """One job's tasks, in memory: all of them, those that wait by the slots they need, those on nodes."""

    def __init__(self) -> None:
        self.all: dict[str, None] = {}
        self.waiting: dict[int, dict[str, None]] = {}
        self.on_nodes: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.slots: Counter[str] = Counter()

    def count(self, task: Document, sign: int) -> None:
        """Add (or with -1, take away) a task in its present state."""
        key, slots = key_of(task), task["requiredSlots"]
        for name in _counted_as(task):
            self.counts[name] += sign
            self.slots[name] += sign * slots
        if task["state"] == "active":
            _set(self.waiting.setdefault(slots, {}), key, sign)
        elif task["state"] in ON_A_NODE:
            _set(self.on_nodes, key, sign)


def _counted_as(task: Document) -> tuple[str, ...]:
    if task["state"] in ON_A_NODE:
        return ("running",)
    if task["state"] == "completed":
        return ("completed", "succeeded" if succeeded(task) else "failed")
    return ("active",)


def _set(keys: dict[str, None], key: str, sign: int) -> None:
    if sign > 0:
        keys[key] = None
    else:
        keys.pop(key, None)


class Tasks:
    """Keeps tasks and their index in step."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._jobs: dict[str, JobTasks] = {}
        for key, task in table.items():
            self._enter(key, task)

    def of(self, job_key: str) -> JobTasks:
        """What is known of one job's tasks."""
        return self._jobs.setdefault(job_key, JobTasks())

    def find(self, account: str, job: str, task: str) -> Document:
        """The task.

        Raises:
            ApiError: 404 `TaskNotFound`.
        """
        found = self._table.get(task_key(account, job, task))
        if found is None:
            raise ApiError(404, "TaskNotFound", "The specified task does not exist.")
        return found

    def of_job(self, job_key: str) -> list[Document]:
        """A job's tasks, oldest first."""
        return [self._table[key] for key in self.of(job_key).all]

    def on_nodes(self, job_key: str) -> list[Document]:
        """A job's tasks that are preparing or running."""
        return [self._table[key] for key in self.of(job_key).on_nodes]

    def holds(self, task: Document) -> bool:
        """Whether this document is still kept: not deleted, nor another task of the same id."""
        return self._table.get(key_of(task)) is task

    def add(self, task: Document) -> None:
        """Keep a new task.

        Raises:
            ApiError: 409 `TaskExists`.
        """
        key = key_of(task)
        if key in self._table:
            raise ApiError(409, "TaskExists", "The specified task already exists.")
        self._table[key] = task
        self._enter(key, task)

    def remove(self, task: Document) -> None:
        """Forget a task."""
        key = key_of(task)
        known = self.of(_job_of(key))
        known.count(task, -1)
        known.all.pop(key)
        del self._table[key]

    def move(self, task: Document, state: str, changes: Document | None = None, *, stamp: str = "") -> None:
        """Put a task into its next state.

        Args:
            task: the task.
            state: the state.
            changes: properties to replace.
            stamp: the property of `executionInfo` that takes the time of this.
        """
        known = self.of(_job_of(key_of(task)))
        known.count(task, -1)
        moment = move(task, state, TASK_TRANSITIONS)
        task.update(changes or {})
        if stamp:
            task["executionInfo"][stamp] = moment
        known.count(task, 1)
        self._table[key_of(task)] = task

    def change(self, task: Document, changes: Document) -> None:
        """Change a task that stays in its state."""
        task.update(changes)
        touch(task)
        self._table[key_of(task)] = task

    def first_waiting(self, job_key: str, free_slots: int) -> Document | None:
        """The oldest waiting task of a job that fits and whose dependencies are met."""
        return min(self._heads(job_key, free_slots), key=lambda task: parse_time(task["creationTime"]), default=None)

    def _heads(self, job_key: str, free_slots: int) -> Iterator[Document]:
        for slots, keys in self.of(job_key).waiting.items():
            ready = (self._table[key] for key in keys if self._ready(self._table[key]))
            head = next(ready, None) if slots <= free_slots else None
            if head:
                yield head

    def _ready(self, task: Document) -> bool:
        depends = task.get("dependsOn") or {}
        ids = [*depends.get("taskIds", ())]
        for span in depends.get("taskIdRanges", ()):
            ids += [str(number) for number in range(span["start"], span["end"] + 1)]
        found = (self._table.get(task_key(task["_account"], task["_job"], name)) for name in ids)
        return all(other is not None and satisfies_dependants(other) for other in found)

    def _enter(self, key: str, task: Document) -> None:
        known = self.of(_job_of(key))
        known.all[key] = None
        known.count(task, 1)

    def forget_job(self, job_key: str) -> None:
        """Remove a job's tasks, all at once."""
        for key in self._jobs.pop(job_key, JobTasks()).all:
            del self._table[key]


def _job_of(key: str) -> str:
    return key.rpartition("/")[0]
