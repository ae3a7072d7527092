"""Handlers of nodes, their counts, and images: https://learn.microsoft.com/rest/api/batchservice/nodes.

Difference from Batch: the service keeps no logs of its own, so none are uploaded.
"""

import uuid
from collections import Counter

from starlette.responses import Response

from local_azure.batch.images import IMAGES
from local_azure.batch.lifecycle import job_key
from local_azure.batch.pool_routes import find_pool, require_steady
from local_azure.batch.protocol import Call
from local_azure.batch.refusals import invalid_property, missing_property
from local_azure.batch.scaling import DEALLOCATION_OPTIONS, check_resize, deallocation_option
from local_azure.errors import ApiError
from local_azure.store import Document

MOST_REMOVED = 100
_REBOOTABLE = ("idle", "running")

_COUNTED = {
    "creating": "creating",
    "deallocated": "deallocated",
    "deallocating": "deallocating",
    "idle": "idle",
    "leavingpool": "leavingPool",
    "offline": "offline",
    "preempted": "preempted",
    "rebooting": "rebooting",
    "reimaging": "reimaging",
    "running": "running",
    "starting": "starting",
    "starttaskfailed": "startTaskFailed",
    "unknown": "unknown",
    "unusable": "unusable",
    "upgradingos": "upgradingOS",
    "waitingforstarttask": "waitingForStartTask",
}


def find_node(call: Call) -> Document:
    """The node that the path names.

    Raises:
        ApiError: 404 `PoolNotFound` or `NodeNotFound`.
    """
    pool = call.path["pool"]
    find_pool(call)
    for node in call.cloud.nodes.nodes(call.name, pool):
        if node["id"].lower() == call.path["node"].lower():
            return answered(call, pool, node)
    raise ApiError(404, "NodeNotFound", "The specified node does not exist.")


def answered(call: Call, pool: str, node: Document) -> Document:
    """The node as it is answered."""
    return {"id": node["id"], **node, "url": call.url("pools", pool, "nodes", node["id"])}


async def list_nodes(call: Call) -> Response:
    """GET /pools/{pool}/nodes."""
    pool = find_pool(call)["name"]
    return call.many("nodes", (answered(call, pool, node) for node in call.cloud.nodes.nodes(call.name, pool)))


async def get_node(call: Call) -> Response:
    """GET /pools/{pool}/nodes/{node}."""
    return call.one("nodes", find_node(call))


async def reboot_node(call: Call) -> Response:
    """POST /pools/{pool}/nodes/{node}/reboot: `nodeRebootOption` says what becomes of running tasks.

    https://learn.microsoft.com/rest/api/batchservice/nodes/reboot-node
    """
    body = await call.body() if await call.request.body() else {}
    option = body.get("nodeRebootOption") or "requeue"
    if option not in DEALLOCATION_OPTIONS:
        raise invalid_property(
            "nodeRebootOption", option, f"The value must be one of {', '.join(DEALLOCATION_OPTIONS)}."
        )
    node = find_node(call)
    if node["state"] not in _REBOOTABLE:
        raise ApiError(409, "OperationNotValidOnNode", "The specified operation is not valid on the node.")
    call.cloud.nodes.reboot(call.name, call.path["pool"], node["id"], option)
    return call.done(202)


async def remove_nodes(call: Call) -> Response:
    """POST /pools/{pool}/removenodes."""
    body = await call.body()
    ids = body.get("nodeList")
    if not ids:
        raise missing_property("nodeList")
    if len(ids) > MOST_REMOVED:
        raise invalid_property("nodeList", len(ids), f"At most {MOST_REMOVED} nodes can be removed at once.")
    check_resize(body)
    pool = find_pool(call)
    require_steady(pool)
    call.cloud.nodes.remove(call.name, pool["name"], ids, deallocation_option(body))
    return call.done(202)


async def upload_logs(call: Call) -> Response:
    """POST /pools/{pool}/nodes/{node}/uploadbatchservicelogs."""
    body = await call.body()
    for name in ("containerUrl", "startTime"):
        if not body.get(name):
            raise missing_property(name)
    node = find_node(call)
    folder = f"{call.name}/{call.path['pool']}/{node['id']}/{uuid.uuid4()}"
    return call.result("uploadbatchservicelogs", {"virtualDirectoryName": folder, "numberOfFilesUploaded": 0})


async def node_counts(call: Call) -> Response:
    """GET /nodecounts."""
    pools = call.cloud.store.table("pools").below(job_key(call.name, ""))
    return call.many("poolnodecounts", (_counts(call, pool["name"]) for pool in pools))


def _counts(call: Call, pool: str) -> Document:
    nodes = call.cloud.nodes.nodes(call.name, pool)
    return {
        "poolId": pool,
        "dedicated": _by_state([node for node in nodes if node["isDedicated"]]),
        "lowPriority": _by_state([node for node in nodes if not node["isDedicated"]]),
    }


def _by_state(nodes: list[Document]) -> dict[str, int]:
    states = Counter(node["state"] for node in nodes)
    return {name: states[state] for state, name in _COUNTED.items()} | {"total": len(nodes)}


async def supported_images(call: Call) -> Response:
    """GET /supportedimages."""
    return call.many("supportedimages", (image.document() for image in IMAGES))
