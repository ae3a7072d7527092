"""How long a node keeps the folders of its tasks.

https://learn.microsoft.com/rest/api/batchservice/task/add#taskconstraints: `retentionTime` counts from a task's
end, and after it the service may delete the task's folder. Here it does, within about a second. The time
is real with an instant clock, too, since 7 days are the default.
"""

import heapq
import shutil

from local_azure.batch.durations import parse_duration
from local_azure.batch.tasks import key_of
from local_azure.clock import parse_time
from local_azure.cloud import Cloud
from local_azure.nodes.place import Place, task_path
from local_azure.store import Document


class Retention:
    """The folders that one node keeps."""

    def __init__(self, cloud: Cloud, place: Place) -> None:
        self._cloud = cloud
        self._place = place
        self._ends: list[tuple[float, str]] = []

    def keep(self, task: Document) -> None:
        """Note when a completed task's folder may go; anew where its constraints changed."""
        heapq.heappush(self._ends, (_end(task), key_of(task)))

    def sweep(self) -> None:
        """Remove the folders whose time is over."""
        now = self._cloud.clock.now().timestamp()
        while self._ends and self._ends[0][0] <= now:
            task = self._cloud.store.table("tasks").get(heapq.heappop(self._ends)[1])
            if task and self._is_over(task, now):
                shutil.rmtree(self._place.root / task_path(task["_job"], task["id"]), ignore_errors=True)

    def _is_over(self, task: Document, now: float) -> bool:
        """Whether a task, which may run again by now, or elsewhere, has no more right to its folder."""
        return task["state"] == "completed" and task["nodeInfo"]["nodeId"] == self._place.node and _end(task) <= now


def _end(task: Document) -> float:
    """In seconds, because a date can't hold the longest of durations."""
    length = parse_duration(task["constraints"]["retentionTime"]).total_seconds()
    return parse_time(task["executionInfo"]["endTime"]).timestamp() + length
