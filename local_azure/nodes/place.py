"""Where a node's files are, and what its tasks find in their environment.

https://learn.microsoft.com/azure/batch/batch-compute-node-environment-variables and
https://learn.microsoft.com/azure/batch/files-and-directories

Differences from Azure: `HOME` is a folder of the task's own, with an `.azure` that knows this cloud; the
variables that name the identity endpoint and the CA file are set, where a VM has a link-local address and
trusts Microsoft's CAs by itself.
"""

import configparser
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from local_azure.cloud import Cloud
from local_azure.store import Document

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Place:
    """One node: whose it is, and its folder."""

    account: str
    pool: str
    node: str
    dedicated: bool
    root: Path

    @property
    def startup(self) -> Path:
        """Folder of the start task."""
        return self.root / "startup"

    def create(self) -> None:
        """Make the folders that every node has."""
        for name in ("shared", "startup/wd", "workitems", "fsmounts"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def variables(self, cloud: Cloud, path: str, identity_door: str, task_folder: Path) -> dict[str, str]:
        """The environment of a task that runs in `task_folder`, before the settings of its author.

        Its PATH begins with `path`.
        """
        home = task_folder / ".home"
        bundle = str(cloud.certificates.bundle_file.resolve())
        return {
            "AZ_BATCH_ACCOUNT_NAME": self.account,
            "AZ_BATCH_ACCOUNT_URL": f"{cloud.addresses.batch}/{self.account}",
            "AZ_BATCH_POOL_ID": self.pool,
            "AZ_BATCH_NODE_ID": self.node,
            "AZ_BATCH_NODE_IS_DEDICATED": str(self.dedicated).lower(),
            "AZ_BATCH_NODE_ROOT_DIR": str(self.root),
            "AZ_BATCH_NODE_SHARED_DIR": str(self.root / "shared"),
            "AZ_BATCH_NODE_STARTUP_DIR": str(self.startup),
            "AZ_BATCH_NODE_MOUNTS_DIR": str(self.root / "fsmounts"),
            "AZ_BATCH_TASK_DIR": str(task_folder),
            "AZ_BATCH_TASK_WORKING_DIR": str(task_folder / "wd"),
            "AZURE_CONFIG_DIR": str(home / ".azure"),
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": identity_door,
            "CURL_CA_BUNDLE": bundle,
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": f"{path}:{_SYSTEM_PATH}",
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
        }


def task_path(job: str, task: str) -> str:
    """A task's folder below the node's root; `job-1` is the first run of the job."""
    return f"workitems/{quote(job, safe='')}/job-1/{quote(task, safe='')}"


def settings(declared: Iterable[Document] | None) -> dict[str, str]:
    """`environmentSettings` as a mapping."""
    return {setting["name"]: setting.get("value") or "" for setting in declared or ()}


def write_home(folder: Path, cloud: Cloud) -> None:
    """A task's home, in which `az` works with this cloud from its first call."""
    azure = folder / ".home" / ".azure"
    azure.mkdir(parents=True, exist_ok=True)
    clouds = configparser.ConfigParser()
    clouds["LocalAzure"] = {
        "profile": "latest",
        "endpoint_active_directory": cloud.addresses.identity,
        "endpoint_active_directory_graph_resource_id": "https://graph.windows.net/",
        "endpoint_active_directory_resource_id": "https://management.core.windows.net/",
        "endpoint_batch_resource_id": "https://batch.core.windows.net/",
        "endpoint_management": "https://management.core.windows.net/",
        "endpoint_microsoft_graph_resource_id": "https://graph.microsoft.com/",
        "endpoint_resource_manager": cloud.addresses.arm,
        "suffix_storage_endpoint": "core.windows.net",
    }
    config = configparser.ConfigParser()
    config["cloud"] = {"name": "LocalAzure"}
    config["core"] = {"collect_telemetry": "false", "instance_discovery": "false"}
    for name, content in (("clouds.config", clouds), ("config", config)):
        with (azure / name).open("w") as file:
            content.write(file)
