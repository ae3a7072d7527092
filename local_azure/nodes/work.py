"""What a node has to run, put together from the documents of its pool, job and task."""

import shutil
from dataclasses import dataclass, field

from local_azure.batch.durations import parse_duration
from local_azure.nodes.host import Host
from local_azure.nodes.place import Place, settings, task_path, write_home
from local_azure.nodes.processes import Command
from local_azure.store import Document


@dataclass(frozen=True)
class Work:
    """A command with its files."""

    name: str
    """`job/task`, or `start/<node>`: what the path of a fault is matched with."""
    command: Command
    resource_files: list[Document] = field(default_factory=list)
    output_files: list[Document] = field(default_factory=list)
    limit_seconds: float | None = None


class Preparation:
    """Prepares work for one node: its command, environment and folder."""

    def __init__(self, host: Host, place: Place, identity_door: str) -> None:
        self._host = host
        self._place = place
        self._door = identity_door

    def start_task(self, start_task: Document) -> Work:
        """The node's start task."""
        command = self._command("startup", start_task, {})
        return Work(f"start/{self._place.node}", command, start_task.get("resourceFiles") or [])

    def task(self, task: Document) -> Work:
        """A task on the node; its folder is new unless it is tried again."""
        path = task_path(task["_job"], task["id"])
        info = task["executionInfo"]
        if not info["retryCount"] and not info["requeueCount"]:
            shutil.rmtree(self._place.root / path, ignore_errors=True)  # Of an earlier task with the same id.
        job = self._host.cloud.store.table("jobs")[f"{task['_account']}/{task['_job']}".lower()]
        variables = {
            "AZ_BATCH_JOB_ID": job["id"],
            "AZ_BATCH_TASK_ID": task["id"],
            **settings(job.get("commonEnvironmentSettings")),
        }
        return Work(
            f"{job['id']}/{task['id']}",
            self._command(path, task, variables),
            task.get("resourceFiles") or [],
            task.get("outputFiles") or [],
            parse_duration(task["constraints"]["maxWallClockTime"]).total_seconds(),
        )

    def _command(self, path: str, task: Document, variables: dict[str, str]) -> Command:
        folder = self._place.root / path
        (folder / "wd").mkdir(parents=True, exist_ok=True)
        write_home(folder, self._host.cloud)
        programs = self._host.image.path(elevated=self._elevated(task))
        common = self._place.variables(self._host.cloud, programs, self._door, folder)
        return Command(task["commandLine"], folder, common | variables | settings(task.get("environmentSettings")))

    def _elevated(self, task: Document) -> bool:
        """Whether the task's user, automatic or named in the pool, is an administrator."""
        user = task.get("userIdentity") or {}
        name = user.get("username") or user.get("userName")
        pool = self._host.cloud.store.table("pools")[f"{self._place.account}/{self._place.pool}".lower()]
        named = [each for each in pool["properties"].get("userAccounts") or () if each["name"] == name]
        level = (named[0] if named else user.get("autoUser") or {}).get("elevationLevel") or "nonadmin"
        return bool(level.lower() == "admin")


def data_plane_start_task(start_task: Document | None) -> Document | None:
    """A start task as ARM keeps it, in the letter case of the data plane; None where there is none."""
    if not start_task:
        return None
    user = (start_task.get("userIdentity") or {}).get("autoUser")
    if not user:
        return start_task
    lower = {name: value.lower() for name, value in user.items() if value}
    return {**start_task, "userIdentity": {"autoUser": lower}}
