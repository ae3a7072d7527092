"""The start task of one node: what it was when the node started, and how it went.

https://learn.microsoft.com/azure/batch/jobs-and-tasks#start-task
"""

import itertools

from local_azure.clock import ticks
from local_azure.cloud import Cloud
from local_azure.nodes.execution import Execution
from local_azure.nodes.work import Preparation, data_plane_start_task
from local_azure.store import Document


class StartTask:
    """Runs at each start of its node, as the pool has it by then."""

    def __init__(self, cloud: Cloud, preparation: Preparation, execution: Execution) -> None:
        self._cloud = cloud
        self._preparation = preparation
        self._execution = execution
        self.settings: Document | None = None
        """None where the pool has none."""
        self.info: Document | None = None
        """`startTaskInfo` of the node."""

    def read(self, pool: Document) -> None:
        """Take the pool's present start task."""
        self.settings = data_plane_start_task(pool["properties"].get("startTask"))

    @property
    def awaited(self) -> bool:
        """Whether the node takes tasks only when it has succeeded."""
        return self.settings is not None and bool(self.settings.get("waitForSuccess", True))

    async def run(self) -> bool:
        """Run it, with its retries; whether it succeeded, which none at all has."""
        if not self.settings:
            return True
        work = self._preparation.start_task(self.settings)
        for retry in itertools.count():
            self.info = {"state": "running", "startTime": ticks(self._cloud.clock.now()), "retryCount": retry}
            outcome = await self._execution.run(work, lambda: None)
            self.info |= {"state": "completed", "endTime": ticks(self._cloud.clock.now()), **outcome.result()}
            if outcome.failure or not outcome.exit_code or retry >= (self.settings.get("maxTaskRetryCount") or 0):
                break
        return outcome.succeeded
