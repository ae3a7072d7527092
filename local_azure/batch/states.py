"""States of jobs and tasks as data, and the marks that every change leaves on a document.

https://learn.microsoft.com/azure/batch/jobs-and-tasks and the state enumerations of
https://learn.microsoft.com/rest/api/batchservice/job/get and `…/task/get`.
"""

from datetime import UTC, datetime, timedelta

from local_azure.clock import parse_time, ticks
from local_azure.store import Document

JOB_TRANSITIONS: dict[str, frozenset[str]] = {
    "active": frozenset({"disabling", "terminating", "deleting"}),
    "disabling": frozenset({"disabled", "terminating", "deleting"}),
    "disabled": frozenset({"enabling", "disabling", "terminating", "deleting"}),
    "enabling": frozenset({"active", "terminating", "deleting"}),
    "terminating": frozenset({"completed", "deleting"}),
    "completed": frozenset({"deleting"}),
    "deleting": frozenset(),
}

TASK_TRANSITIONS: dict[str, frozenset[str]] = {
    "active": frozenset({"preparing", "completed"}),
    "preparing": frozenset({"running", "active", "completed"}),
    "running": frozenset({"active", "completed"}),
    "completed": frozenset({"active"}),
}

ON_A_NODE = frozenset({"preparing", "running"})
"""Task states that take slots of a node."""

JOB_REFUSALS = {
    "terminating": ("JobBeingTerminated", "The specified job is being terminated."),
    "completed": ("JobCompleted", "The specified job is already in a completed state."),
    "deleting": ("JobBeingDeleted", "The specified job has been marked for deletion and is being garbage collected."),
}
"""409 code and message of a job that takes no more work, by its state."""

_ERA = datetime(1, 1, 1, tzinfo=UTC)


def new_tag(moment: datetime) -> str:
    """The ETag of something that changed at that moment: its .NET ticks, as recorded answers show."""
    return f"0x{(moment - _ERA) // timedelta(microseconds=1) * 10:X}"


def touch(document: Document) -> str:
    """Mark a change in `lastModified` and `eTag`; returns the time."""
    moment = datetime.now(UTC)
    document["lastModified"] = ticks(moment)
    document["eTag"] = new_tag(moment)
    return str(document["lastModified"])


def move(document: Document, state: str, transitions: dict[str, frozenset[str]]) -> str:
    """Put a job or task into its next state; returns the time of it.

    Raises:
        ValueError: the table holds no such transition, which is a fault of this package.
    """
    before = document["state"]
    if state not in transitions[before]:
        raise ValueError(f"{document['id']} can't go from {before} to {state}")
    document["previousState"] = before
    document["previousStateTransitionTime"] = document["stateTransitionTime"]
    document["state"] = state
    document["stateTransitionTime"] = touch(document)
    return str(document["stateTransitionTime"])


def modified(document: Document) -> datetime:
    """When the document last changed."""
    return parse_time(document["lastModified"])
