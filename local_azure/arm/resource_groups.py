"""Resource groups.

https://learn.microsoft.com/rest/api/resources/resource-groups
"""

import re
from collections.abc import Awaitable, Callable, Sequence

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.gate import Call, Gate, listing
from local_azure.arm.locations import location_of
from local_azure.arm.operations import Operations
from local_azure.arm.resources import check_tags, require_group, require_living_group, visible
from local_azure.cloud import Cloud
from local_azure.errors import ApiError

_TYPE = "Microsoft.Resources/resourceGroups"
_GROUPS = "/subscriptions/{subscription}/resourceGroups"
_NAME = re.compile(r"[-\w._()]{0,89}[-\w_()]")

Purge = Callable[[str], Awaitable[None]]
"""Removes what a provider has in the resource group of that name (in lower case)."""


class ResourceGroups:
    """PUT makes or retags, DELETE takes everything in the group with it."""

    def __init__(self, cloud: Cloud, operations: Operations, purges: Sequence[Purge]) -> None:
        self._cloud = cloud
        self._operations = operations
        self._purges = purges
        self._groups = cloud.store.table("resourceGroups")
        for name, group in self._groups.items():
            # A deletion that the end of the process cut off left part of the group: ask for it again.
            self._groups[name] = {**group, "properties": {"provisioningState": "Succeeded"}}

    def routes(self, gate: Gate) -> list[Route]:
        """The route table."""
        group = f"{_GROUPS}/{{group}}"
        return [
            gate.route("GET", _GROUPS, self._list, open_to_all=True),
            gate.route("PUT", group, self._put),
            gate.route("GET", group, self._get),
            gate.route("HEAD", group, self._exists),
            gate.route("PATCH", group, self._patch),
            gate.route("DELETE", group, self._delete),
            gate.route(
                "GET",
                "/subscriptions/{subscription}/operationresults/{operation}",
                self._operations.poll,
                open_to_all=True,
            ),
        ]

    async def _list(self, call: Call) -> Response:
        wanted = re.fullmatch(
            r"tagName eq '(?P<name>[^']*)'( and tagValue eq '(?P<value>[^']*)')?",
            call.request.query_params.get("$filter", ""),
            re.IGNORECASE,
        )
        groups = visible(self._cloud, call.caller, self._groups.values())
        if wanted:
            name, value = wanted["name"], wanted["value"]
            groups = [group for group in groups if name in group["tags"] and value in (None, group["tags"][name])]
        return listing(groups)

    async def _put(self, call: Call) -> Response:
        name = call["group"]
        if not _NAME.fullmatch(name):
            raise ApiError(
                400,
                "InvalidResourceGroup",
                f"The provided resource group name '{name}' has these invalid characters or a wrong length; "
                "it can hold 90 letters, digits, '-', '.', '(', ')' and '_', and does not end with '.'.",
            )
        location, tags = location_of(call.body, _TYPE), check_tags(call.body)
        known = self._groups.get(name.lower())
        if known:
            require_living_group(self._cloud, name)
            if known["location"] != location:
                raise ApiError(
                    409,
                    "InvalidResourceGroupLocation",
                    f"Invalid resource group location '{location}'. The Resource group already exists in location "
                    f"'{known['location']}'.",
                )
        group = known or {
            "id": f"{self._cloud.subscription_scope}/resourceGroups/{name}",
            "name": name,
            "type": _TYPE,
            "location": location,
            "properties": {"provisioningState": "Succeeded"},
        }
        self._groups[name.lower()] = group = {**group, "tags": tags}
        return JSONResponse(group, 200 if known else 201)

    async def _get(self, call: Call) -> Response:
        return JSONResponse(require_group(self._cloud, call["group"]))

    async def _exists(self, call: Call) -> Response:
        return Response(status_code=204 if call["group"].lower() in self._groups else 404)

    async def _patch(self, call: Call) -> Response:
        group = require_living_group(self._cloud, call["group"])
        if "tags" in call.body:
            group = {**group, "tags": check_tags(call.body)}
            self._groups[call["group"].lower()] = group
        return JSONResponse(group)

    async def _delete(self, call: Call) -> Response:
        group = require_living_group(self._cloud, call["group"])
        key = call["group"].lower()
        self._groups[key] = {**group, "properties": {"provisioningState": "Deleting"}}
        return self._operations.begin(
            call,
            group["id"],
            f"{self._cloud.subscription_scope}/operationresults",
            lambda: Response(status_code=200),
            lambda: self._remove(key, group["id"]),
        )

    async def _remove(self, key: str, group_id: str) -> None:
        for purge in self._purges:
            await purge(key)
        below = group_id.lower() + "/"
        assignments = self._cloud.role_assignments
        for assignment_id in [name for name in assignments if name.startswith(below)]:
            del assignments[assignment_id]
        del self._groups[key]
