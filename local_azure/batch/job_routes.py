"""Handlers of `/jobs`: https://learn.microsoft.com/rest/api/batchservice/job."""

from functools import partial

from starlette.responses import Response

from local_azure.batch.definitions import JOB_PROPERTIES, check_job_values, job_constraints, known_properties, pool_info
from local_azure.batch.lifecycle import job_key, refuse_ended
from local_azure.batch.protocol import Call
from local_azure.batch.refusals import invalid_property, missing_property
from local_azure.batch.tasks import COUNTED
from local_azure.errors import ApiError
from local_azure.store import Document

_PATCHABLE = frozenset({
    "priority", "maxParallelTasks", "allowTaskPreemption", "onAllTasksComplete", "constraints", "poolInfo", "metadata",
    "networkConfiguration",
})  # fmt: skip
_REPLACEMENT_DEFAULTS = {
    "priority": 0,
    "maxParallelTasks": -1,
    "allowTaskPreemption": False,
    "onAllTasksComplete": "noaction",
    "metadata": [],
}
_DISABLE_TASKS = ("requeue", "terminate", "wait")


def find_job(call: Call) -> Document:
    """The job that the path names.

    Raises:
        ApiError: 404 `JobNotFound`, or a condition that is not met.
    """
    job = call.cloud.jobs.find(call.name, call.path["job"])
    call.check_conditions(job)
    return job


def answered(call: Call, job: Document) -> Document:
    """The job as it is answered."""
    own = {name: value for name, value in job.items() if not name.startswith("_") and (name != "metadata" or value)}
    return {"id": own.pop("id"), "url": call.url("jobs", job["id"]), **own}


async def create_job(call: Call) -> Response:
    """POST /jobs."""
    job = call.cloud.jobs.create(call.account, await call.body())
    return call.done(201, job, location=call.url("jobs", job["id"]))


async def list_jobs(call: Call) -> Response:
    """GET /jobs."""
    return call.many("jobs", call.cloud.jobs.of_account(call.name), partial(answered, call))


async def get_job(call: Call) -> Response:
    """GET /jobs/{job}."""
    job = find_job(call)
    return call.one("jobs", answered(call, job), tagged=job)


async def patch_job(call: Call) -> Response:
    """PATCH /jobs/{job}: only what is given changes."""
    return await _update(call, known_properties(await call.body(), _PATCHABLE))


async def replace_job(call: Call) -> Response:
    """PUT /jobs/{job}: what is left out goes back to its default; what can't change is passed over."""
    given = known_properties(await call.body(), JOB_PROPERTIES)
    given = {name: value for name, value in given.items() if name in _PATCHABLE}
    return await _update(call, _REPLACEMENT_DEFAULTS | {"constraints": {}} | given)


async def _update(call: Call, given: Document) -> Response:
    job = find_job(call)
    refuse_ended(job)
    if "constraints" in given:
        given["constraints"] = job_constraints(given["constraints"])
    if "poolInfo" in given:
        given["poolInfo"] = pool_info(given)
        if given["poolInfo"] != job["poolInfo"] and job["state"] != "disabled":
            raise ApiError(
                409, "OperationInvalidForCurrentState", "The pool of a job can be changed only while it is disabled."
            )
        given["executionInfo"] = job["executionInfo"] | given["poolInfo"]
    if job["onAllTasksComplete"] == "terminatejob" and given.get("onAllTasksComplete") == "noaction":
        raise invalid_property("onAllTasksComplete", "noaction", "The value can't be changed back from terminatejob.")
    check_job_values(job | given)
    call.cloud.jobs.change(job, given)
    return call.done(200, job)


async def delete_job(call: Call) -> Response:
    """DELETE /jobs/{job}."""
    call.cloud.jobs.delete(find_job(call))
    return call.done(202)


async def terminate_job(call: Call) -> Response:
    """POST /jobs/{job}/terminate."""
    body = await call.body() if await call.request.body() else {}
    job = find_job(call)
    call.cloud.jobs.terminate(job, body.get("terminateReason") or "UserTerminate")
    return call.done(202, job)


async def disable_job(call: Call) -> Response:
    """POST /jobs/{job}/disable."""
    running_tasks = (await call.body()).get("disableTasks")
    if running_tasks is None:
        raise missing_property("disableTasks")
    if running_tasks not in _DISABLE_TASKS:
        raise invalid_property("disableTasks", running_tasks, f"The value must be one of {', '.join(_DISABLE_TASKS)}.")
    job = find_job(call)
    call.cloud.jobs.disable(job, running_tasks)
    return call.done(202, job)


async def enable_job(call: Call) -> Response:
    """POST /jobs/{job}/enable."""
    job = find_job(call)
    call.cloud.jobs.enable(job)
    return call.done(202, job)


async def task_counts(call: Call) -> Response:
    """GET /jobs/{job}/taskcounts."""
    job = call.cloud.jobs.find(call.name, call.path["job"])
    tasks = call.cloud.jobs.tasks.of(job_key(call.name, job["id"]))
    return call.result(
        "taskcountsresult/@Element",
        {
            "taskCounts": {name: tasks.counts[name] for name in COUNTED},
            "taskSlotCounts": {name: tasks.slots[name] for name in COUNTED},
        },
    )
