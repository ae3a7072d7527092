"""From what a client sends to the job and task documents that are kept: checks and defaults.

https://learn.microsoft.com/rest/api/batchservice/job/add and `…/task/add`. Difference: an automatic
pool (`autoPoolSpecification`), job preparation and release tasks, multi-instance and container tasks, application
packages and authentication tokens are refused.
"""

import re
from typing import Any

from local_azure.batch.durations import UNLIMITED, normal_duration
from local_azure.batch.exits import exit_options
from local_azure.batch.refusals import invalid_body, invalid_property, missing_property
from local_azure.batch.states import touch
from local_azure.errors import ApiError
from local_azure.store import Document

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

JOB_PROPERTIES = frozenset({
    "id", "displayName", "priority", "maxParallelTasks", "allowTaskPreemption", "usesTaskDependencies", "constraints",
    "jobManagerTask", "jobPreparationTask", "jobReleaseTask", "commonEnvironmentSettings", "poolInfo",
    "onAllTasksComplete", "onTaskFailure", "networkConfiguration", "metadata",
})  # fmt: skip
TASK_PROPERTIES = frozenset({
    "id", "displayName", "commandLine", "containerSettings", "exitConditions", "resourceFiles", "outputFiles",
    "environmentSettings", "affinityInfo", "constraints", "requiredSlots", "userIdentity", "multiInstanceSettings",
    "dependsOn", "applicationPackageReferences", "authenticationTokenSettings",
})  # fmt: skip
MANAGER_PROPERTIES = TASK_PROPERTIES - {"affinityInfo", "dependsOn", "exitConditions", "multiInstanceSettings"} | {
    "allowLowPriorityNode", "killJobOnCompletion", "runExclusive",
}  # fmt: skip
_JOB_REFUSED = ("jobPreparationTask", "jobReleaseTask")
_TASK_REFUSED = (
    "multiInstanceSettings", "containerSettings", "applicationPackageReferences", "authenticationTokenSettings",
)  # fmt: skip

_LONGEST_DEPENDENCIES = 64_000
"""Characters of all ids that a task depends on.

https://learn.microsoft.com/dotnet/api/azure.compute.batch.batchtaskdependencies
"""
_SOURCES = ("autoStorageContainerName", "storageContainerUrl", "httpUrl")
_CONDITIONS = ("tasksuccess", "taskfailure", "taskcompletion")
_AUTO_USER = {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}
_CHOICES = {
    "onAllTasksComplete": ("noaction", "terminatejob"),
    "onTaskFailure": ("noaction", "performexitoptionsjobaction"),
}


def new_job(account: str, body: Document) -> Document:
    """A job in the order in which the service answers its properties."""
    body = known_properties(body, JOB_PROPERTIES, _JOB_REFUSED)
    check_id(body.get("id"))
    job: Document = {"_account": account, "id": body["id"], **_taken(body, "displayName")}
    job["eTag"] = ""
    moment = touch(job)
    job |= {
        "creationTime": moment,
        "state": "active",
        "stateTransitionTime": moment,
        "priority": body.get("priority", 0),
        "maxParallelTasks": body.get("maxParallelTasks", -1),
        "usesTaskDependencies": body.get("usesTaskDependencies", False),
        "allowTaskPreemption": body.get("allowTaskPreemption", False),
        "constraints": job_constraints(body.get("constraints")),
        **_taken(body, "commonEnvironmentSettings", "metadata", "networkConfiguration"),
        "poolInfo": pool_info(body),
        "executionInfo": {"startTime": moment, "poolId": body["poolInfo"]["poolId"]},
        "onAllTasksComplete": body.get("onAllTasksComplete", "noaction"),
        "onTaskFailure": body.get("onTaskFailure", "noaction"),
    }
    if "jobManagerTask" in body:
        job["jobManagerTask"] = _manager(body["jobManagerTask"], job)
    check_job_values(job)
    return job


def _manager(body: Document, job: Document) -> Document:
    body = known_properties(body, MANAGER_PROPERTIES, _TASK_REFUSED)
    check_id(body.get("id"))
    if not body.get("commandLine"):
        raise missing_property("commandLine")
    defaults = {"requiredSlots": 1, "userIdentity": _AUTO_USER, "runExclusive": True}
    defaults |= {"allowLowPriorityNode": True, "killJobOnCompletion": True}
    return defaults | body | {"constraints": task_constraints(body.get("constraints"), job)}


def new_task(job: Document, body: Document) -> Document:
    """A task that waits to be run; its job's settings fill in what it leaves out."""
    body = known_properties(body, TASK_PROPERTIES, _TASK_REFUSED)
    check_id(body.get("id"))
    if not body.get("commandLine"):
        raise missing_property("commandLine")
    _check_task_values(job, body)
    task: Document = {"_account": job["_account"], "_job": job["id"], "id": body["id"], **_taken(body, "displayName")}
    task["eTag"] = ""
    moment = touch(task)
    return task | {
        "creationTime": moment,
        "state": "active",
        "stateTransitionTime": moment,
        "commandLine": body["commandLine"],
        **_taken(body, "resourceFiles", "outputFiles", "environmentSettings", "affinityInfo", "exitConditions"),
        "userIdentity": body.get("userIdentity", _AUTO_USER),
        **_taken(body, "dependsOn"),
        "constraints": task_constraints(body.get("constraints"), job),
        "requiredSlots": body.get("requiredSlots", 1),
        "executionInfo": {"retryCount": 0, "requeueCount": 0},
    }


def manager_as_task(job: Document) -> Document:
    """The task that a job's `jobManagerTask` becomes."""
    manager = job["jobManagerTask"]
    task = new_task(job, {name: value for name, value in manager.items() if name in TASK_PROPERTIES})
    return task | {"_manager": {"runExclusive": manager["runExclusive"], "kills": manager["killJobOnCompletion"]}}


def job_constraints(given: Document | None) -> Document:
    """A job's constraints with what was left out."""
    given = given or {}
    return {
        "maxWallClockTime": _duration(given, "maxWallClockTime", UNLIMITED),
        "maxTaskRetryCount": _retries(given, 0),
    }


def task_constraints(given: Document | None, job: Document) -> Document:
    """A task's constraints with what was left out; retries come from the job."""
    given = given or {}
    return {
        "maxWallClockTime": _duration(given, "maxWallClockTime", UNLIMITED),
        "retentionTime": _duration(given, "retentionTime", "P7D"),
        "maxTaskRetryCount": _retries(given, job["constraints"]["maxTaskRetryCount"]),
    }


def pool_info(body: Document) -> Document:
    """The pool that a job names; it need not exist yet.

    Raises:
        ApiError: it names none, or asks for an automatic one.
    """
    info = body.get("poolInfo") or {}
    if "autoPoolSpecification" in info:
        raise ApiError(501, "NotImplemented", "local_azure has no automatic pools.")
    if not info.get("poolId"):
        raise missing_property("poolInfo")
    return {"poolId": info["poolId"]}


def check_job_values(job: Document) -> None:
    """Refuse values outside of what the service takes."""
    for name, choices in _CHOICES.items():
        if job[name] not in choices:
            raise invalid_property(name, job[name], f"The value must be one of {', '.join(choices)}.")
    most = job["maxParallelTasks"]
    if not isinstance(most, int) or (most != -1 and most < 1):
        raise invalid_property("maxParallelTasks", most, "The value must be -1 or greater than 0.")
    if not isinstance(job["priority"], int) or not -1000 <= job["priority"] <= 1000:
        raise invalid_property("priority", job["priority"], "The value must be between -1000 and 1000.")


def _check_task_values(job: Document, body: Document) -> None:
    slots = body.get("requiredSlots", 1)
    if not isinstance(slots, int) or slots < 1:
        raise invalid_property("requiredSlots", slots, "The value must be at least 1.")
    if body.get("dependsOn") and not job["usesTaskDependencies"]:
        raise ApiError(
            400,
            "TaskDependenciesNotSpecifiedOnJob",
            "The specified task has dependencies, but the job does not use task dependencies.",
        )
    if sum(map(len, (body.get("dependsOn") or {}).get("taskIds") or ())) > _LONGEST_DEPENDENCIES:
        raise ApiError(400, "TaskDependencyListTooLong", "The list of task ids that the task depends on is too long.")
    _check_files(body)
    for options in exit_options(body.get("exitConditions") or {}):
        if "jobAction" in options and job["onTaskFailure"] == "noaction":
            raise invalid_property("jobAction", options["jobAction"], "The job's onTaskFailure is noaction.")


def _check_files(body: Document) -> None:
    """Hold resource files and output files to what the service takes."""
    for file in body.get("resourceFiles") or ():
        sources = [name for name in _SOURCES if file.get(name)]
        if len(sources) != 1:
            raise invalid_property("resourceFiles", sources, f"Exactly one of {', '.join(_SOURCES)} must be given.")
        if sources == ["httpUrl"] and not file.get("filePath"):
            raise missing_property("filePath")
        if sources == ["httpUrl"] and file.get("blobPrefix"):
            raise invalid_property("blobPrefix", file["blobPrefix"], "It is for containers alone.")
    for file in body.get("outputFiles") or ():
        container = (file.get("destination") or {}).get("container") or {}
        condition = (file.get("uploadOptions") or {}).get("uploadCondition")
        if not file.get("filePattern") or not container.get("containerUrl"):
            raise missing_property("outputFiles")
        if condition not in _CONDITIONS:
            raise invalid_property("uploadCondition", condition, f"The value must be one of {', '.join(_CONDITIONS)}.")


def known_properties(body: Any, known: frozenset[str], refused: tuple[str, ...] = ()) -> Document:
    """The body without nulls; a property that the service does not know is an error, not ignored."""
    if not isinstance(body, dict):
        raise invalid_body("An object is expected.")
    # Clients send back the annotations of what they read, such as odata.metadata.
    given = {name: value for name, value in body.items() if value is not None and not name.startswith("odata.")}
    for name, value in given.items():
        if name in refused and value:
            raise ApiError(501, "NotImplemented", f"local_azure has no {name}.")
        if name not in known:
            raise invalid_body(f"The property '{name}' does not exist on this type.")
    return given


def check_id(value: Any) -> None:
    """Refuse an id that is missing or malformed."""
    if not value:
        raise missing_property("id")
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise invalid_property("id", value, "An id has 1 to 64 letters, digits, hyphens and underscores.")


def _taken(body: Document, *names: str) -> Document:
    return {name: body[name] for name in names if name in body}


def _duration(given: Document, name: str, default: str) -> str:
    text = given.get(name)
    if text is None:
        return default
    try:
        return normal_duration(text)
    except (TypeError, ValueError) as error:
        raise invalid_property(name, text, "The value is no ISO 8601 duration.") from error


def _retries(given: Document, default: int) -> int:
    count = given.get("maxTaskRetryCount")
    if count is None:
        return default
    if not isinstance(count, int) or count < -1:
        raise invalid_property("maxTaskRetryCount", count, "The value must be -1 or more.")
    return count
