"""Jobs and tasks, and their states."""

from local_azure.cloud import Cloud


class Jobs:
    """Jobs and tasks of every account."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
