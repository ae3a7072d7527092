"""Pools of a Batch account.

https://learn.microsoft.com/rest/api/batchmanagement/pool

ARM keeps what a pool is set to; its nodes, `allocationState` and `resizeOperationStatus` are written by
`local_azure.nodes`. More cores than the quota are therefore no error here: as on Azure the pool is made,
and its resize ends with `AccountCoreQuotaReached`.
"""

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.batch_accounts import BatchAccounts
from local_azure.arm.batch_errors import fixed_property, invalid_value
from local_azure.arm.gate import Call, Gate, listing
from local_azure.arm.operations import Operations
from local_azure.arm.pool_properties import (
    CHANGEABLE,
    FIXED,
    NAME,
    changeable_properties,
    new_properties,
    pool_identity,
    refuse_fixed,
)
from local_azure.arm.resources import check_tags, etag
from local_azure.clock import http_date, parse_time, ticks
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document

_TYPE = "Microsoft.Batch/batchAccounts/pools"
_ACCOUNT = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Batch/batchAccounts/{account}"
_POOLS = f"{_ACCOUNT}/pools"
_POOL = f"{_POOLS}/{{pool}}"


class Pools:
    """Succeeded → Deleting → gone."""

    def __init__(self, cloud: Cloud, operations: Operations, accounts: BatchAccounts) -> None:
        self._cloud = cloud
        self._operations = operations
        self._accounts = accounts
        self._pools = cloud.store.table("pools")
        for key in [key for key, pool in self._pools.items() if _deleting(pool)]:
            del self._pools[key]

    def routes(self, gate: Gate) -> list[Route]:
        """The route table."""
        return [
            gate.route("GET", _POOLS, self._list),
            gate.route("PUT", _POOL, self._put),
            gate.route("GET", _POOL, self._get),
            gate.route("PATCH", _POOL, self._patch),
            gate.route("DELETE", _POOL, self._delete),
            gate.route("POST", f"{_POOL}/disableAutoScale", self._disable_auto_scale),
            gate.route("POST", f"{_POOL}/stopResize", self._stop_resize),
            gate.route(
                "GET", f"{_ACCOUNT}/poolOperationResults/{{operation}}", self._operations.poll, open_to_all=True
            ),
        ]

    async def _list(self, call: Call) -> Response:
        return listing(self._pools.below(f"{self._accounts.find(call)['name']}/"))

    async def _get(self, call: Call) -> Response:
        return _shown(self._find(call))

    async def _put(self, call: Call) -> Response:
        account = self._accounts.find_living(call)
        known = self._pools.get(_key(call))
        _check_condition(call, known)
        if not NAME.fullmatch(call["pool"]):
            raise invalid_value("name", call["pool"], "It must be 1 to 64 letters, digits, hyphens and underscores.")
        properties = new_properties(call.body.get("properties") or {})
        tags = check_tags(call.body)
        if known:
            return self._replace(call, known, properties, tags)
        if len(self._pools.below(f"{account['name']}/")) >= account["properties"]["poolQuota"]:
            raise ApiError(409, "PoolQuotaReached", "The specified account has reached its pool quota.")
        pool = {
            # Azure answers pool ids with `resourcegroups` in lower case.
            "id": f"{account['id'].replace('/resourceGroups/', '/resourcegroups/')}/pools/{call['pool']}",
            "name": call["pool"],
            "type": _TYPE,
            "identity": pool_identity(self._cloud, call.caller, call.body.get("identity")),
            "tags": tags,
            "properties": properties | self._initial_state(properties),
        }
        return self._written(call, pool)

    def _initial_state(self, properties: Document) -> Document:
        now = ticks(self._cloud.clock.now())
        return {
            "allocationState": "Resizing" if _wants_nodes(properties) else "Steady",
            "allocationStateTransitionTime": now,
            "creationTime": now,
            "currentDedicatedNodes": 0,
            "currentLowPriorityNodes": 0,
            "provisioningState": "Succeeded",
            "provisioningStateTransitionTime": now,
        }

    def _replace(self, call: Call, known: Document, properties: Document, tags: dict[str, str]) -> Response:
        """PUT on a pool that is there: what it may change is replaced or reset, anything else must be the same."""
        _refuse_deleting(known)
        refuse_fixed(known["properties"], properties)
        if pool_identity(self._cloud, call.caller, call.body.get("identity")) != known["identity"]:
            raise fixed_property("identity")
        kept = {key: value for key, value in known["properties"].items() if key not in CHANGEABLE}
        _refuse_resizing(known, properties)
        return self._written(call, {**known, "tags": tags, "properties": {**kept, **properties}})

    async def _patch(self, call: Call) -> Response:
        pool = self._find(call)
        _check_condition(call, pool)
        _refuse_deleting(pool)
        sent = call.body.get("properties") or {}
        refuse_fixed(pool["properties"], {key: sent[key] for key in FIXED if key in sent})
        if (
            call.body.get("identity")
            and pool_identity(self._cloud, call.caller, call.body["identity"]) != pool["identity"]
        ):
            raise fixed_property("identity")
        changes = changeable_properties(sent)
        _refuse_resizing(pool, changes)
        changed = {**pool, "properties": {**pool["properties"], **changes}}
        if "tags" in call.body:
            changed["tags"] = check_tags(call.body)
        return self._written(call, changed)

    def _written(self, call: Call, pool: Document) -> Response:
        properties = {key: value for key, value in pool["properties"].items() if value is not None}
        properties["lastModified"] = ticks(self._cloud.clock.now())
        pool = {**pool, "etag": f'W/"{etag(self._cloud.clock)}"', "properties": properties}
        self._pools[_key(call)] = pool
        self._cloud.nodes.pool_changed(call["account"].lower(), pool["name"])
        return _shown(self._pools[_key(call)])

    async def _delete(self, call: Call) -> Response:
        account = self._accounts.find(call)
        key = _key(call)
        pool = self._pools.get(key)
        if pool is None:
            return Response(status_code=204)
        _check_condition(call, pool)
        _refuse_deleting(pool)
        pool["properties"]["provisioningState"] = "Deleting"
        pool["properties"]["provisioningStateTransitionTime"] = ticks(self._cloud.clock.now())
        self._pools[key] = pool
        return self._operations.begin(
            call,
            pool["id"],
            f"{account['id']}/poolOperationResults",
            lambda: Response(status_code=204),
            lambda: self._remove(key),
            changing=True,
        )

    async def _remove(self, key: str) -> None:
        pool = self._pools.get(key)
        if pool:  # else its account or resource group was deleted in the meantime
            await self._cloud.nodes.pool_deleted(key.split("/", 1)[0], pool["name"])
            self._pools.pop(key, None)

    async def _disable_auto_scale(self, call: Call) -> Response:
        pool = self._find(call)
        _refuse_deleting(pool)
        properties = pool["properties"]
        if "autoScale" not in properties["scaleSettings"]:
            raise ApiError(409, "PoolNotAutoScaleEnabled", "Auto-scale is not enabled on the pool.")
        fixed = {
            "resizeTimeout": "PT15M",
            "targetDedicatedNodes": properties["currentDedicatedNodes"],
            "targetLowPriorityNodes": properties["currentLowPriorityNodes"],
        }
        kept = {key: value for key, value in properties.items() if key != "autoScaleRun"}
        return self._written(call, {**pool, "properties": {**kept, "scaleSettings": {"fixedScale": fixed}}})

    async def _stop_resize(self, call: Call) -> Response:
        pool = self._find(call)
        _refuse_deleting(pool)
        if pool["properties"]["allocationState"] != "Resizing":
            return _shown(pool)
        stopping = {"allocationState": "Stopping", "allocationStateTransitionTime": ticks(self._cloud.clock.now())}
        return self._written(call, {**pool, "properties": {**pool["properties"], **stopping}})

    def _find(self, call: Call) -> Document:
        self._accounts.find(call)
        pool = self._pools.get(_key(call))
        if pool is None:
            raise ApiError(404, "PoolNotFound", f"The specified pool '{call['pool']}' does not exist.")
        return pool


def _shown(pool: Document) -> Response:
    changed = http_date(parse_time(pool["properties"]["lastModified"]))
    return JSONResponse(pool, headers={"ETag": pool["etag"], "Last-Modified": changed})


def _key(call: Call) -> str:
    return f"{call['account']}/{call['pool']}".lower()


def _deleting(pool: Document) -> bool:
    return bool(pool["properties"]["provisioningState"] == "Deleting")


def _wants_nodes(properties: Document) -> bool:
    fixed = properties["scaleSettings"].get("fixedScale") or {}
    return bool(fixed.get("targetDedicatedNodes", 0) + fixed.get("targetLowPriorityNodes", 0))


def _refuse_deleting(pool: Document) -> None:
    if _deleting(pool):
        raise ApiError(409, "PoolBeingDeleted", "The specified pool is being deleted.")


def _refuse_resizing(pool: Document, changes: Document) -> None:
    scale = changes.get("scaleSettings", pool["properties"]["scaleSettings"])
    if scale != pool["properties"]["scaleSettings"] and pool["properties"]["allocationState"] != "Steady":
        raise ApiError(409, "PoolBeingResized", "The specified pool is being resized.")


def _check_condition(call: Call, pool: Document | None) -> None:
    if_match, if_none_match = call.request.headers.get("if-match"), call.request.headers.get("if-none-match")
    matches = pool is not None and if_match in (None, "*", pool["etag"])
    if (if_match and not matches) or (if_none_match and pool is not None and if_none_match in ("*", pool["etag"])):
        raise ApiError(
            412, "PreconditionFailed", "The condition of the request's If-Match or If-None-Match is not met."
        )
