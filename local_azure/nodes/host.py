"""What all nodes of this stand-in share."""

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from typing import Any

import httpx

from local_azure.cloud import Cloud
from local_azure.nodes import image
from local_azure.nodes.processes import Launcher

logger = logging.getLogger("local_azure")

_TIMEOUT_SECONDS = 60


class Host:
    """The machine under the nodes: its processes, its way to the blobs, its image."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.folder = cloud.options.state / "nodes"
        self.image = image.build(cloud.options.state / "image")
        self.launcher = Launcher()
        context = ssl.create_default_context(cafile=str(cloud.certificates.ca_file))
        self.http = httpx.AsyncClient(verify=context, trust_env=False, timeout=_TIMEOUT_SECONDS)
        self._background: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside everything else, and keep hold of it."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception():
            logger.error("nodes: something failed beside the services", exc_info=task.exception())

    async def close(self) -> None:
        """End all processes and all that runs beside."""
        self.launcher.kill_all()
        running = [task for task in self._background if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self.launcher.close()
        await self.http.aclose()
