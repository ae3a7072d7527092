"""Handlers of `/pools`: https://learn.microsoft.com/rest/api/batchservice/pool.

Differences from Batch: `resizeTimeout` is kept but never expires; PATCH takes only what `updateproperties` takes.
"""

from typing import Any

from starlette.responses import Response

from local_azure.batch.definitions import check_id, known_properties
from local_azure.batch.images import IMAGES
from local_azure.batch.lifecycle import job_key
from local_azure.batch.pool_shape import (
    arm_properties,
    data_plane_pool,
    new_arm_pool,
    scale_settings,
)
from local_azure.batch.protocol import Call
from local_azure.batch.refusals import invalid_property, missing_property
from local_azure.batch.scaling import check_autoscale, check_new_pool, check_resize, deallocation_option
from local_azure.batch.states import new_tag
from local_azure.clock import ticks
from local_azure.errors import ApiError
from local_azure.store import Document

_CREATABLE = frozenset({
    "id", "displayName", "vmSize", "virtualMachineConfiguration", "resizeTimeout", "targetDedicatedNodes",
    "targetLowPriorityNodes", "enableAutoScale", "autoScaleFormula", "autoScaleEvaluationInterval",
    "enableInterNodeCommunication", "networkConfiguration", "startTask", "applicationPackageReferences",
    "taskSlotsPerNode", "taskSchedulingPolicy", "userAccounts", "metadata", "mountConfiguration", "upgradePolicy",
})  # fmt: skip
_REFUSED = ("applicationPackageReferences",)
_REPLACEABLE = frozenset({
    "startTask", "metadata", "applicationPackageReferences", "certificateReferences", "targetNodeCommunicationMode",
})  # fmt: skip
_REPLACED_REFUSED = ("applicationPackageReferences", "certificateReferences", "targetNodeCommunicationMode")


def find_pool(call: Call) -> Document:
    """The ARM document of the pool that the path names.

    Raises:
        ApiError: 404 `PoolNotFound`, or a condition that is not met.
    """
    pool = call.cloud.store.table("pools").get(job_key(call.name, call.path["pool"]))
    if pool is None:
        raise ApiError(404, "PoolNotFound", "The specified pool does not exist.")
    call.check_conditions(answered(call, pool))
    return pool


def answered(call: Call, pool: Document) -> Document:
    """The pool as it is answered."""
    return data_plane_pool(pool, call.url("pools", pool["name"]))


def _usable_pool(call: Call) -> Document:
    pool = find_pool(call)
    if pool["properties"]["provisioningState"] == "Deleting":
        raise ApiError(
            409, "PoolBeingDeleted", "The specified pool has been marked for deletion and is being reclaimed."
        )
    return pool


def require_steady(pool: Document) -> None:
    """Let only a pool pass that is not being resized.

    Raises:
        ApiError: 409 `PoolBeingResized`.
    """
    if pool["properties"].get("allocationState", "Steady") != "Steady":
        raise ApiError(409, "PoolBeingResized", "The specified pool is being resized.")


def _save(call: Call, pool: Document, **properties: Any) -> Document:
    """Keep a changed pool and let its nodes follow; the pool as it is answered."""
    moment = call.cloud.clock.now()
    pool["properties"] |= {**properties, "lastModified": ticks(moment)}
    pool["etag"] = f'"{new_tag(moment)}"'
    call.cloud.store.table("pools")[job_key(call.name, pool["name"])] = pool
    call.cloud.nodes.pool_changed(call.name, pool["name"])
    return answered(call, pool)


async def create_pool(call: Call) -> Response:
    """POST /pools."""
    body = known_properties(await call.body(), _CREATABLE, _REFUSED)
    check_id(body.get("id"))
    for name in ("vmSize", "virtualMachineConfiguration"):
        if name not in body:
            raise missing_property(name)
    check_new_pool(body)
    _check_image(body["virtualMachineConfiguration"])
    pools = call.cloud.store.table("pools")
    if job_key(call.name, body["id"]) in pools:
        raise ApiError(409, "PoolExists", "The specified pool already exists.")
    if len(pools.below(job_key(call.name, ""))) >= call.account["properties"]["poolQuota"]:
        raise ApiError(409, "PoolQuotaReached", "Pool quota for the account has been reached.")
    moment = call.cloud.clock.now()
    pool = new_arm_pool(call.account, body, f'"{new_tag(moment)}"', moment)
    return call.done(201, _save(call, pool), location=call.url("pools", body["id"]))


def _check_image(machine: Document) -> None:
    reference = machine.get("imageReference") or {}
    names = [str(reference.get(name, "")) for name in ("publisher", "offer", "sku")]
    image = next((image for image in IMAGES if image.matches(*names)), None)
    if image is None:
        raise invalid_property("imageReference", "/".join(names), "Batch does not support this image.")
    if machine.get("nodeAgentSKUId") != image.node_agent:
        raise invalid_property("nodeAgentSKUId", machine.get("nodeAgentSKUId"), f"It must be '{image.node_agent}'.")


async def list_pools(call: Call) -> Response:
    """GET /pools."""
    pools = call.cloud.store.table("pools").below(job_key(call.name, ""))
    return call.many("pools", (answered(call, pool) for pool in pools))


async def pool_exists(call: Call) -> Response:
    """HEAD /pools/{pool}."""
    return call.done(200, answered(call, find_pool(call)))


async def get_pool(call: Call) -> Response:
    """GET /pools/{pool}."""
    return call.one("pools", answered(call, find_pool(call)))


async def patch_pool(call: Call) -> Response:
    """PATCH /pools/{pool}: only what is given changes; nodes see a start task when they start again."""
    given = known_properties(await call.body(), _REPLACEABLE, _REPLACED_REFUSED)
    return call.done(200, _save(call, _usable_pool(call), **arm_properties(given)))


async def replace_pool(call: Call) -> Response:
    """POST /pools/{pool}/updateproperties: what is left out is removed."""
    given = known_properties(await call.body(), _REPLACEABLE, _REPLACED_REFUSED)
    pool = _usable_pool(call)
    if "startTask" not in given:
        pool["properties"].pop("startTask", None)
    return call.done(204, _save(call, pool, **arm_properties({"metadata": [], **given})))


async def delete_pool(call: Call) -> Response:
    """DELETE /pools/{pool}: its nodes end in the background."""
    pool = _usable_pool(call)
    _save(call, pool, provisioningState="Deleting", provisioningStateTransitionTime=ticks(call.cloud.clock.now()))
    call.cloud.jobs.in_background(_reclaim(call, pool))
    return call.done(202)


async def _reclaim(call: Call, pool: Document) -> None:
    await call.cloud.nodes.pool_deleted(call.name, pool["name"])
    call.cloud.store.table("pools").pop(job_key(call.name, pool["name"]), None)


async def resize_pool(call: Call) -> Response:
    """POST /pools/{pool}/resize."""
    body = await call.body()
    if "targetDedicatedNodes" not in body and "targetLowPriorityNodes" not in body:
        raise missing_property("targetDedicatedNodes")
    check_resize(body)
    body["nodeDeallocationOption"] = deallocation_option(body)
    pool = _usable_pool(call)
    require_steady(pool)
    fixed = pool["properties"]["scaleSettings"].get("fixedScale")
    if fixed is None:
        raise ApiError(409, "OperationInvalidForCurrentState", "The specified pool has automatic scaling enabled.")
    kept = {name: fixed.get(name, 0) for name in ("targetDedicatedNodes", "targetLowPriorityNodes")}
    return call.done(202, _resize(call, pool, scale_settings(kept | body)))


def _resize(call: Call, pool: Document, settings: Document) -> Document:
    now = ticks(call.cloud.clock.now())
    pool["properties"].pop("resizeOperationStatus", None)
    return _save(call, pool, scaleSettings=settings, allocationState="Resizing", allocationStateTransitionTime=now)


async def stop_resize(call: Call) -> Response:
    """POST /pools/{pool}/stopresize: the pool keeps the nodes that it has."""
    pool = _usable_pool(call)
    own = pool["properties"]
    if own["allocationState"] != "Resizing":
        raise ApiError(409, "OperationInvalidForCurrentState", "The specified pool is not being resized.")
    now = ticks(call.cloud.clock.now())
    return call.done(202, _save(call, pool, allocationState="Stopping", allocationStateTransitionTime=now))


async def enable_autoscale(call: Call) -> Response:
    """POST /pools/{pool}/enableautoscale."""
    body = await call.body()
    pool = _usable_pool(call)
    before = pool["properties"]["scaleSettings"].get("autoScale") or {}
    if not body.get("autoScaleFormula") and not before:
        raise missing_property("autoScaleFormula")
    check_autoscale({"autoScaleFormula": before.get("formula")} | body)
    if not before:
        require_steady(pool)
    known = {"autoScaleFormula": before.get("formula")}
    if "evaluationInterval" in before:
        known["autoScaleEvaluationInterval"] = before["evaluationInterval"]
    return call.done(200, _save(call, pool, scaleSettings=scale_settings(known | body)))


async def disable_autoscale(call: Call) -> Response:
    """POST /pools/{pool}/disableautoscale: the pool keeps the nodes that it has."""
    pool = _usable_pool(call)
    own = pool["properties"]
    targets = {
        "targetDedicatedNodes": own.get("currentDedicatedNodes", 0),
        "targetLowPriorityNodes": own.get("currentLowPriorityNodes", 0),
    }
    return call.done(200, _save(call, pool, scaleSettings=scale_settings(targets)))


async def evaluate_autoscale(call: Call) -> Response:
    """POST /pools/{pool}/evaluateautoscale: what a formula would give, without applying it."""
    body = await call.body()
    if not body.get("autoScaleFormula"):
        raise missing_property("autoScaleFormula")
    pool = _usable_pool(call)
    if "autoScale" not in pool["properties"]["scaleSettings"]:
        raise ApiError(409, "OperationInvalidForCurrentState", "The specified pool does not have automatic scaling.")
    run = call.cloud.nodes.evaluate_autoscale(call.name, pool["name"], body["autoScaleFormula"])
    return call.result("Microsoft.Azure.Batch.Protocol.Entities.AutoScaleRun", run, {"DataServiceId": call.place})
