"""Compute nodes that run start tasks and tasks as real processes."""

from local_azure.cloud import Cloud


class Nodes:
    """The nodes of every pool."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """End."""
