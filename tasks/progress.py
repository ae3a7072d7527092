"""How far a running harvest is: a bar in Prefect's UI, and now and then a line in its log."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
from azure.batch.models import BatchTaskCounts
from azure.storage.blob import BlobProperties, ContainerClient
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel, ValidationError

from tasks.archive import MOST_READERS

_LOOK_SECONDS = 5
_LONGEST_SILENCE_SECONDS = 60


class Done(BaseModel):
    """How far a task is."""

    items: int = 0
    pages: int = 0


class Progress:
    """Tells every few seconds how far a harvest is, from what its tasks write; in the log ever less often."""

    def __init__(self, container: ContainerClient, root: str) -> None:
        self._container = container
        self._folder = f"{root}/control/progress/"
        self._key = f"harvest-{root.rpartition('-')[2]}-progress"
        self._bar: UUID | None = None
        self._read: dict[str, tuple[str, Done]] = {}
        self._next_look = self._next_word = 0.0
        self._silence_seconds = _LOOK_SECONDS

    def look(self, counts: BatchTaskCounts) -> None:
        """Say it if some seconds have passed."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        self._refresh()
        items, pages = (sum(getattr(done, name) for _, done in self._read.values()) for name in ("items", "pages"))
        tasks = f"{counts.completed} tasks are done, {counts.running} running, {counts.active} waiting"
        sentence = f"{tasks}; {items:,} items on {pages:,} pages"
        self._show(100 * counts.completed / max(1, counts.completed + counts.running + counts.active), sentence)
        if now >= self._next_word and counts.running + counts.active:
            get_run_logger().info(sentence)
            self._next_word = now + self._silence_seconds
            self._silence_seconds = min(2 * self._silence_seconds, _LONGEST_SILENCE_SECONDS)

    def end(self, sentence: str) -> None:
        """Fill the bar."""
        self._show(100, sentence)

    def _show(self, percent: float, sentence: str) -> None:
        """Move the bar of this run, if there is one; a server that does not take it now may take the next one."""
        if not flow_run.id:
            return
        try:
            if self._bar:
                update_progress_artifact(self._bar, percent, sentence)
            else:
                self._bar = create_progress_artifact(percent, self._key, sentence)  # type: ignore[assignment]  # awaited
        except httpx.HTTPError as error:
            get_run_logger().debug("the progress bar stays where it is: %s", error)

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
