"""Handlers of `/jobs/{job}/tasks`: https://learn.microsoft.com/rest/api/batchservice/task.

Differences from Batch: no subtasks; the results of a collection come in the order of its tasks. A task that was
added is a `Success`, as recorded answers show; one that was refused has a status as documented, in small letters.
"""

from functools import partial
from typing import Any

from starlette.responses import Response

from local_azure.batch.definitions import TASK_PROPERTIES, known_properties, new_task, task_constraints
from local_azure.batch.lifecycle import job_key, refuse_ended
from local_azure.batch.protocol import Call
from local_azure.batch.refusals import DetailedError, invalid_body, invalid_property
from local_azure.errors import ApiError
from local_azure.store import Document

LARGEST_COLLECTION = 100


def find_task(call: Call) -> Document:
    """The task that the path names.

    Raises:
        ApiError: 404 `JobNotFound` or `TaskNotFound`.
    """
    call.cloud.jobs.find(call.name, call.path["job"])
    return call.cloud.jobs.tasks.find(call.name, call.path["job"], call.path["task"])


def answered(call: Call, task: Document) -> Document:
    """The task as it is answered."""
    own = {name: value for name, value in task.items() if not name.startswith("_")}
    return {"id": own.pop("id"), "url": call.url("jobs", task["_job"], "tasks", task["id"]), **own}


def _open_job(call: Call) -> Document:
    job = call.cloud.jobs.find(call.name, call.path["job"])
    refuse_ended(job)
    return job


async def create_task(call: Call) -> Response:
    """POST /jobs/{job}/tasks."""
    body = await call.body()
    job = _open_job(call)
    task = new_task(job, body)
    call.cloud.jobs.tasks.add(task)
    call.cloud.nodes.wake()
    return call.done(201, task, location=call.url("jobs", job["id"], "tasks", task["id"]))


async def create_task_collection(call: Call) -> Response:
    """POST /jobs/{job}/addtaskcollection: each task is added or refused by itself."""
    body = await call.body()
    items = body.get("value") if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise invalid_body("An array named value is expected.")
    if len(items) > LARGEST_COLLECTION:
        raise invalid_property("value", len(items), f"At most {LARGEST_COLLECTION} tasks can be added at once.")
    job = _open_job(call)
    results = [_added(call, job, item) for item in items]
    call.cloud.nodes.wake()
    return call.result("taskaddresult", {"value": results})


def _added(call: Call, job: Document, item: Any) -> Document:
    name = item.get("id", "") if isinstance(item, dict) else ""
    try:
        fault = call.cloud.faults.strike("task", "POST", f"{job['id']}/{name}")
        if fault:
            raise ApiError(fault.status, "InternalError", "injected fault")
        task = new_task(job, item)
        call.cloud.jobs.tasks.add(task)
    except ApiError as error:
        values = {"values": error.values} if isinstance(error, DetailedError) else {}
        told = {"code": error.code, "message": {"lang": "en-US", "value": error.message}, **values}
        return {"status": "clienterror" if error.status < 500 else "servererror", "taskId": name, "error": told}
    location = call.url("jobs", job["id"], "tasks", task["id"])
    told = {"eTag": task["eTag"], "lastModified": task["lastModified"], "location": location}
    return {"status": "Success", "taskId": task["id"], **told}


async def list_tasks(call: Call) -> Response:
    """GET /jobs/{job}/tasks."""
    job = call.cloud.jobs.find(call.name, call.path["job"])
    tasks = call.cloud.jobs.tasks.of_job(job_key(call.name, job["id"]))
    return call.many("tasks", tasks, partial(answered, call))


async def get_task(call: Call) -> Response:
    """GET /jobs/{job}/tasks/{task}."""
    task = find_task(call)
    call.check_conditions(task)
    return call.one("tasks", answered(call, task), tagged=task)


async def replace_task(call: Call) -> Response:
    """PUT /jobs/{job}/tasks/{task}: only the constraints can change."""
    given = known_properties(await call.body(), TASK_PROPERTIES)
    job, task = _open_job(call), find_task(call)
    call.check_conditions(task)
    call.cloud.jobs.tasks.change(task, {"constraints": task_constraints(given.get("constraints"), job)})
    if task["state"] == "completed":
        call.cloud.nodes.task_completed(task)
    return call.done(200, task)


async def delete_task(call: Call) -> Response:
    """DELETE /jobs/{job}/tasks/{task}."""
    task = find_task(call)
    call.check_conditions(task)
    await call.cloud.jobs.delete_task(task)
    return call.done(200)


async def terminate_task(call: Call) -> Response:
    """POST /jobs/{job}/tasks/{task}/terminate."""
    _open_job(call)
    task = find_task(call)
    call.check_conditions(task)
    if task["state"] == "completed":
        raise ApiError(409, "TaskCompleted", "The specified task is already in a completed state.")
    await call.cloud.jobs.end_task(task)
    return call.done(204, task)


async def reactivate_task(call: Call) -> Response:
    """POST /jobs/{job}/tasks/{task}/reactivate: a failed task runs again, with all its retries."""
    _open_job(call)
    task = find_task(call)
    call.check_conditions(task)
    if task["state"] != "completed":
        raise ApiError(
            409,
            "TaskNotCompleted",
            "The specified task is not in a completed state, and the requested operation can be performed only on "
            "completed tasks.",
        )
    if task["executionInfo"].get("exitCode") == 0:
        raise ApiError(
            409,
            "TaskSucceeded",
            "The specified task has already completed successfully, and the requested operation cannot be performed "
            "on successful tasks.",
        )
    requeues = task["executionInfo"]["requeueCount"]
    call.cloud.jobs.tasks.move(task, "active", {"executionInfo": {"retryCount": 0, "requeueCount": requeues}})
    call.cloud.nodes.wake()
    return call.done(204, task)
