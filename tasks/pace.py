"""What a running round is told and asked while it runs: its request budget, and how far it is."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from azure.batch.models import BatchTaskCounts
from azure.storage.blob import BlobProperties, ContainerClient
from prefect.logging import get_run_logger
from pydantic import BaseModel, ValidationError

_PROGRESS_SECONDS = 5
MOST_READERS = 10
"""Blobs that are read at once, over as many connections as the SDK's transport keeps."""


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


class Done(BaseModel):
    """How far a task is."""

    items: int = 0
    pages: int = 0


class Progress:
    """Tells every few seconds how far a harvest is, from what its tasks write."""

    def __init__(self, container: ContainerClient, root: str) -> None:
        self._container = container
        self._folder = f"{root}/control/progress/"
        self._read: dict[str, tuple[str, Done]] = {}
        self._next_look = 0.0

    def look(self, counts: BatchTaskCounts) -> None:
        """Say it if some seconds have passed."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _PROGRESS_SECONDS
        self._refresh()
        items, pages = (sum(getattr(done, name) for _, done in self._read.values()) for name in ("items", "pages"))
        tasks = f"{counts.completed} tasks are done, {counts.running} running, {counts.active} waiting"
        get_run_logger().info(f"{tasks}; {items:,} items on {pages:,} pages")

    def _refresh(self) -> None:
        """Read what has changed since the last look."""
        changed = [
            blob
            for blob in self._container.list_blobs(name_starts_with=self._folder)
            if blob.name not in self._read or self._read[blob.name][0] != blob.etag
        ]
        with ThreadPoolExecutor(MOST_READERS) as readers:
            for blob, done in zip(changed, readers.map(self._done, changed), strict=True):
                self._read[blob.name] = (blob.etag, done)

    def _done(self, blob: BlobProperties) -> Done:
        try:
            return Done.model_validate_json(self._container.download_blob(blob.name).readall())
        except ValidationError:
            return Done()  # it only tells people how far a harvest is
