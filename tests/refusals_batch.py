"""Refusals of the Batch data plane."""

import uuid
from collections.abc import Callable
from typing import Any

from azure.batch import BatchClient
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from refusals import Refusal
from world import ARM, BATCH, JOB_QUOTA, JOB_SUBMITTER, READER, Answer, World, refused_by, send, until

_CODES = "https://learn.microsoft.com/rest/api/batchservice/batch-status-and-error-codes"
_ENTRA = "https://learn.microsoft.com/rest/api/batchservice/authenticate-requests-to-the-azure-batch-service"
_ROLES = "https://learn.microsoft.com/azure/batch/batch-role-based-access-control"
_TOKENS = "https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens"
_LIMITS = "https://learn.microsoft.com/azure/batch/batch-quota-limit"
_TERMINATE = "https://learn.microsoft.com/rest/api/batchservice/job/update"
_DATA_CONTRIBUTOR = "6aaa78f1-f7de-44ca-8722-c64a23943cae"
_NOWHERE = {"poolId": "nowhere"}


def _new_job(client: BatchClient, **settings: Any) -> str:
    name = f"job-{uuid.uuid4().hex[:8]}"
    client.create_job({"id": name, "poolInfo": _NOWHERE, **settings})
    return name


def _with_job(act: Callable[[BatchClient, str], Any]) -> Callable[[World], Answer]:
    """What the SDK is refused about a job of its own, which is gone afterwards."""

    def call(world: World) -> Answer:
        with world.jobs() as client:
            job = _new_job(client)
            try:
                return refused_by(lambda: act(client, job))
            finally:
                refused_by(lambda: client.begin_delete_job(job, polling_interval=0.1).result())

    return call


def _sdk(act: Callable[[BatchClient], Any]) -> Callable[[World], Answer]:
    def call(world: World) -> Answer:
        with world.jobs() as client:
            return refused_by(lambda: act(client))

    return call


def _task(client: BatchClient, job: str, name: str = "t") -> None:
    client.create_task(job, {"id": name, "commandLine": "/bin/true"})


def _ended(client: BatchClient, job: str) -> None:
    client.begin_terminate_job(job, options={"terminateReason": "test"}, polling_interval=0.1).result()
    until(lambda: client.get_job(job).state == "completed")


def _twice(client: BatchClient, job: str) -> None:
    for _ in range(2):
        _task(client, job)


def _into_ended(client: BatchClient, job: str) -> None:
    _ended(client, job)
    _task(client, job)


def _end_twice(client: BatchClient, job: str) -> None:
    _task(client, job)
    for _ in range(2):
        client.terminate_task(job, "t")


def _reactivate(client: BatchClient, job: str) -> None:
    _task(client, job)
    client.reactivate_task(job, "t")


def _stale(client: BatchClient, job: str) -> None:
    old = client.get_job(job)["eTag"]
    client.update_job(job, {"priority": 1})
    client.update_job(job, {"priority": 2}, etag=old, match_condition=MatchConditions.IfNotModified)


def _take_back(client: BatchClient, job: str) -> None:
    _task(client, job)
    client.update_job(job, {"onAllTasksComplete": "terminatejob"})
    client.update_job(job, {"onAllTasksComplete": "noaction"})


def _huge(client: BatchClient, job: str) -> None:
    client.create_task(job, {"id": "huge", "commandLine": "x" * (2**20 + 1)})


def _unchanged(world: World) -> Answer:
    with world.jobs() as client:
        job = _new_job(client)
        tag = client.get_job(job)["eTag"]
        try:
            return world.batch("GET", f"/jobs/{job}", headers={"If-None-Match": tag})
        finally:
            client.begin_delete_job(job, polling_interval=0.1).result()


def _quota(world: World) -> Answer:
    with world.jobs() as client:
        made: list[str] = []
        try:
            for _ in range(JOB_QUOTA + 1):
                refused = refused_by(lambda: made.append(_new_job(client)))
            return refused
        finally:
            for job in made:
                client.begin_delete_job(job, polling_interval=0.1)
            until(lambda: not list(client.list_jobs()))


def _as(role: str, scope: Callable[[World], str], act: Callable[[BatchClient], Any]) -> Callable[[World], Answer]:
    def call(world: World) -> Answer:
        somebody = world.somebody(role, scope(world)) if role else world.somebody()
        with world.jobs(by=somebody) as client:
            return refused_by(lambda: act(client))

    return call


def _account(world: World) -> str:
    return world.batch_id


def _sibling(world: World) -> str:
    other = f"{world.batch_id}sibling"
    world.arm("PUT", other, "2025-06-01", json={"location": "westeurope"})
    return other


def _keyed(world: World) -> Answer:
    with BatchClient(world.batch_root, AzureNamedKeyCredential("doors", "d3Jvbmc=")) as client:
        return refused_by(lambda: list(client.list_jobs()))


def _resize(client: BatchClient) -> None:
    client.begin_resize_pool("nowhere", {"targetDedicatedNodes": 1})


ROWS = [
    Refusal(
        "Batch without a token",
        lambda w: send("GET", f"{w.batch_root}/jobs?api-version=2025-06-01"),
        401,
        "AuthenticationFailed",
        _ENTRA,
    ),
    Refusal(
        "Batch with a token for ARM",
        lambda w: w.batch("GET", "/jobs", by=w.operator(ARM)),
        401,
        "AuthenticationFailed",
        _ENTRA,
    ),
    Refusal(
        "Batch with a token that has expired",
        lambda w: w.batch("GET", "/jobs", by=w.forged(BATCH, exp=1)),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal("a key of a Batch account that takes none", _keyed, 403, "AuthenticationFailed", _CODES),
    Refusal(
        "somebody without a role who lists jobs",
        _as("", _account, lambda c: list(c.list_jobs())),
        403,
        "AuthorizationFailed",
        _ROLES,
    ),
    Refusal(
        "jobs for a role on another account",
        _as(_DATA_CONTRIBUTOR, _sibling, lambda c: list(c.list_jobs())),
        403,
        "AuthorizationFailed",
        _ROLES,
    ),
    Refusal(
        "jobs for a role on a pool of the account",
        _as(_DATA_CONTRIBUTOR, lambda w: f"{w.batch_id}/pools/arm", lambda c: list(c.list_jobs())),
        403,
        "AuthorizationFailed",
        _ROLES,
    ),
    Refusal(
        "jobs for a Reader, who has no data action",
        _as(READER, _account, lambda c: list(c.list_jobs())),
        403,
        "AuthorizationFailed",
        _ROLES,
    ),
    Refusal(
        "a job of an Account Reader",
        _as("11076f67-66f6-4be0-8f6b-f0609fd05cc9", _account, _new_job),
        403,
        "AuthorizationFailed",
        _ROLES,
    ),
    Refusal(
        "a pool that a Job Submitter resizes", _as(JOB_SUBMITTER, _account, _resize), 403, "AuthorizationFailed", _ROLES
    ),
    Refusal("a job that does not exist", _sdk(lambda c: c.get_job("nowhere")), 404, "JobNotFound", _CODES),
    Refusal("a task for a job that does not exist", _sdk(lambda c: _task(c, "nowhere")), 404, "JobNotFound", _CODES),
    Refusal("a task that does not exist", _with_job(lambda c, j: c.get_task(j, "no")), 404, "TaskNotFound", _CODES),
    Refusal("a pool that does not exist", _sdk(lambda c: c.get_pool("nowhere")), 404, "PoolNotFound", _CODES),
    Refusal(
        "nodes of a pool that does not exist", _sdk(lambda c: list(c.list_nodes("no"))), 404, "PoolNotFound", _CODES
    ),
    Refusal(
        "a job that is there already",
        _with_job(lambda c, j: c.create_job({"id": j.upper(), "poolInfo": _NOWHERE})),
        409,
        "JobExists",
        _CODES,
    ),
    Refusal("a task that is there already", _with_job(_twice), 409, "TaskExists", _CODES),
    Refusal("a task for a job that has ended", _with_job(_into_ended), 409, "JobCompleted", _CODES),
    Refusal("the end of a task that has ended", _with_job(_end_twice), 409, "TaskCompleted", _CODES),
    Refusal("another run of a task that has not ended", _with_job(_reactivate), 409, "TaskNotCompleted", _CODES),
    Refusal("one job more than the quota", _quota, 409, "ActiveJobAndScheduleQuotaReached", _LIMITS),
    Refusal("an update of a job that changed since it was read", _with_job(_stale), 412, "ConditionNotMet", _CODES),
    Refusal("a job that did not change since it was read", _unchanged, 304, "", _CODES),
    Refusal(
        "a job whose end was settled and is taken back", _with_job(_take_back), 400, "InvalidPropertyValue", _TERMINATE
    ),
    Refusal("a body beyond a megabyte", _with_job(_huge), 413, "RequestBodyTooLarge", _CODES),
]
"""Every row: what is refused, the request, status, code, page."""
