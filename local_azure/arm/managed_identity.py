"""User-assigned managed identities.

https://learn.microsoft.com/rest/api/managedidentity/user-assigned-identities
"""

import re

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.gate import Call, Gate, listing
from local_azure.arm.locations import location_of
from local_azure.arm.resources import check_tags, group_of, not_found, require_group, require_living_group, system_data
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document

_TYPE = "Microsoft.ManagedIdentity/userAssignedIdentities"
_IDENTITIES = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{_TYPE}"
_NAME = re.compile(r"[A-Za-z0-9][-\w]{2,127}")


class ManagedIdentities:
    """Each identity is a principal of the tenant, whose name is the ARM id."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._identities = cloud.store.table("identities")

    def routes(self, gate: Gate) -> list[Route]:
        """The route table."""
        identity = f"{_IDENTITIES}/{{identity}}"
        return [
            gate.route("GET", f"/subscriptions/{{subscription}}/providers/{_TYPE}", self._list),
            gate.route("GET", _IDENTITIES, self._list_group),
            gate.route("PUT", identity, self._put),
            gate.route("GET", identity, self._get),
            gate.route("PATCH", identity, self._patch),
            gate.route("DELETE", identity, self._delete),
        ]

    async def purge(self, group: str) -> None:
        """Remove the identities of a resource group."""
        for key in [key for key in self._identities if group_of(key) == group]:
            self._remove(key)

    async def _list(self, call: Call) -> Response:
        return listing(list(self._identities.values()))

    async def _list_group(self, call: Call) -> Response:
        group = require_group(self._cloud, call["group"])["name"].lower()
        return listing([document for key, document in self._identities.items() if group_of(key) == group])

    async def _get(self, call: Call) -> Response:
        return JSONResponse(self._find(call))

    async def _put(self, call: Call) -> Response:
        group, name = require_living_group(self._cloud, call["group"])["name"], call["identity"]
        if not _NAME.fullmatch(name):
            raise ApiError(
                400,
                "BadRequest",
                f"The resource name '{name}' is not valid: 3 to 128 letters, digits, '-' and '_', "
                "beginning with a letter or a digit.",
            )
        location, tags = location_of(call.body, _TYPE), check_tags(call.body)
        # Azure answers these ids with `resourcegroups` in lower case (recorded in Azure/azure-cli).
        identity_id = f"{self._cloud.subscription_scope}/resourcegroups/{group}/providers/{_TYPE}/{name}"
        known = self._identities.get(identity_id.lower())
        if known and known["location"] != location:
            raise ApiError(
                409,
                "InvalidResourceLocation",
                f"The resource '{name}' already exists in location '{known['location']}'.",
            )
        identity = {**(known or self._new(identity_id, name, location)), "tags": tags}
        identity["systemData"] = system_data(call.caller, self._cloud.clock, identity.get("systemData"))
        self._identities[identity_id.lower()] = identity
        return JSONResponse(identity, 200 if known else 201, {} if known else {"Location": identity_id})

    def _new(self, identity_id: str, name: str, location: str) -> Document:
        principal = self._cloud.tokens.add(identity_id, "ManagedIdentity")
        return {
            "id": identity_id,
            "name": name,
            "type": _TYPE,
            "location": location,
            "properties": {
                "tenantId": self._cloud.tenant_id,
                "principalId": principal.object_id,
                "clientId": principal.client_id,
            },
        }

    async def _patch(self, call: Call) -> Response:
        identity = self._find(call)
        if "tags" in call.body:
            identity = {**identity, "tags": check_tags(call.body)}
            self._identities[identity["id"].lower()] = identity
        return JSONResponse(identity)

    async def _delete(self, call: Call) -> Response:
        require_group(self._cloud, call["group"])
        key = self._key(call)
        if key not in self._identities:
            return Response(status_code=204)
        self._remove(key)
        return Response(status_code=200)

    def _remove(self, key: str) -> None:
        self._cloud.tokens.remove(self._identities[key]["properties"]["principalId"])
        del self._identities[key]

    def _find(self, call: Call) -> Document:
        require_group(self._cloud, call["group"])
        identity = self._identities.get(self._key(call))
        if identity is None:
            raise not_found(_TYPE, call["identity"], call["group"])
        return identity

    def _key(self, call: Call) -> str:
        group = f"{self._cloud.subscription_scope}/resourcegroups/{call['group']}"
        return f"{group}/providers/{_TYPE}/{call['identity']}".lower()
