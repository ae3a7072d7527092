"""The request budget of a running round."""

import json

from azure.batch.models import BatchTaskCounts
from azure.storage.blob import ContainerClient


class Budget:
    """The request budget of a harvest, shared by its running tasks, which read it every second or two."""

    def __init__(self, container: ContainerClient, root: str, requests_per_second: float) -> None:
        self._blob = container.get_blob_client(f"{root}/control/budget.json")
        self._requests_per_second = requests_per_second
        self._shared_by = self._seen = 0

    def share(self, running: int) -> None:
        """Divide the budget by so many tasks."""
        budget = {"requests_per_second": self._requests_per_second, "running": running}
        self._blob.upload_blob(json.dumps(budget), overwrite=True)
        self._shared_by = running

    def look(self, counts: BatchTaskCounts) -> None:
        """Follow the number of running tasks: up at once, and down when no task is just about to start.

        Tasks of a round start one after the other: if the first of them took the whole budget, the catalog would see
        several times that.
        """
        steady = counts.running == self._seen or not counts.active
        self._seen = counts.running
        if counts.running > self._shared_by or (steady and 0 < counts.running < self._shared_by):
            self.share(counts.running)
