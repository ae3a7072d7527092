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


def start_task_work(host: Host, place: Place, door: str, start_task: Document) -> Work:
    """The start task of a node."""
    command = _command(host, place, door, "startup", start_task, {})
    return Work(f"start/{place.node}", command, start_task.get("resourceFiles") or [])


def task_work(host: Host, place: Place, door: str, task: Document) -> Work:
    """A task on a node; its folder is new unless it is tried again."""
    path = task_path(task["_job"], task["id"])
    info = task["executionInfo"]
    if not info["retryCount"] and not info["requeueCount"]:
        shutil.rmtree(place.root / path, ignore_errors=True)  # Of an earlier task with the same id.
    job = host.cloud.store.table("jobs")[f"{task['_account']}/{task['_job']}".lower()]
    variables = {
        "AZ_BATCH_JOB_ID": job["id"],
        "AZ_BATCH_TASK_ID": task["id"],
        **settings(job.get("commonEnvironmentSettings")),
    }
    return Work(
        f"{job['id']}/{task['id']}",
        _command(host, place, door, path, task, variables),
        task.get("resourceFiles") or [],
        task.get("outputFiles") or [],
        parse_duration(task["constraints"]["maxWallClockTime"]).total_seconds(),
    )


def data_plane_start_task(start_task: Document | None) -> Document | None:
    """A start task as ARM keeps it, in the letter case of the data plane; None where there is none."""
    if not start_task:
        return None
    user = (start_task.get("userIdentity") or {}).get("autoUser")
    if not user:
        return start_task
    lower = {name: value.lower() for name, value in user.items() if value}
    return {**start_task, "userIdentity": {"autoUser": lower}}


def _command(host: Host, place: Place, door: str, path: str, task: Document, variables: dict[str, str]) -> Command:
    folder = place.root / path
    (folder / "wd").mkdir(parents=True, exist_ok=True)
    write_home(folder, host.cloud)
    common = place.variables(host.cloud, host.programs, door, folder)
    return Command(task["commandLine"], folder, common | variables | settings(task.get("environmentSettings")))
