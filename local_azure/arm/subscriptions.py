"""The cloud's endpoints, the tenant, the subscription, and what it holds.

https://learn.microsoft.com/rest/api/resources/subscriptions, …/resources/list, …/providers
"""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.gate import Call, Gate, listing
from local_azure.arm.locations import LOCATIONS
from local_azure.arm.providers import Providers
from local_azure.arm.resources import group_of, require_group, tracked_resources, visible
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document
from local_azure.wire import route

_CONDITION = re.compile(r"(resourceType|tagName|tagValue|name|location|resourceGroup) eq '([^']*)'", re.IGNORECASE)
_SHOWN = ("id", "name", "type", "location", "tags", "kind", "sku", "identity")


class Subscriptions:
    """Handlers above the resource groups."""

    def __init__(self, cloud: Cloud, providers: Providers) -> None:
        self._cloud = cloud
        self._providers = providers

    def routes(self, gate: Gate) -> list[Route]:
        """The route table."""
        subscription = "/subscriptions/{subscription}"
        return [
            route("GET", "/metadata/endpoints", self._endpoints),
            gate.route("GET", "/tenants", self._tenants, open_to_all=True),
            gate.route("GET", "/subscriptions", self._list, open_to_all=True),
            gate.route("GET", subscription, self._get),
            gate.route("GET", f"{subscription}/locations", self._locations),
            gate.route("GET", f"{subscription}/resources", self._resources, open_to_all=True),
            gate.route("GET", f"{subscription}/resourceGroups/{{group}}/resources", self._resources),
            gate.route("GET", f"{subscription}/providers", self._list_providers),
            gate.route("GET", f"{subscription}/providers/{{namespace}}", self._get_provider),
            gate.route("POST", f"{subscription}/providers/{{namespace}}/register", self._register),
            gate.route("POST", f"{subscription}/providers/{{namespace}}/unregister", self._unregister),
        ]

    async def _endpoints(self, request: Request) -> Response:
        """What `az cloud register --endpoint-resource-manager` asks for, before anybody has signed in."""
        version = request.query_params.get("api-version", "")
        addresses = self._cloud.addresses
        if version == "2015-01-01":
            return JSONResponse(
                {
                    "galleryEndpoint": addresses.arm,
                    "graphEndpoint": addresses.identity,
                    "portalEndpoint": addresses.arm,
                    "authentication": self._authentication(),
                }
            )
        if version < "2019-05-01":
            raise ApiError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
        endpoints = {
            "name": "LocalAzure",
            "authentication": self._authentication() | {"identityProvider": "AAD", "tenant": "common"},
            "batch": "https://batch.core.windows.net/",
            "graph": addresses.identity,
            "microsoftGraphResourceId": addresses.identity,
            "portal": addresses.arm,
            "resourceManager": addresses.arm,
            "suffixes": {"storage": addresses.blob.removeprefix("https://")},
        }
        return JSONResponse(endpoints if version >= "2022-09-01" else [endpoints])

    def _authentication(self) -> Document:
        return {
            "loginEndpoint": self._cloud.addresses.identity,
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
        }

    async def _tenants(self, call: Call) -> Response:
        tenant = self._cloud.tenant_id
        return listing(
            [{"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "local_azure", "tenantCategory": "Home"}]
        )

    async def _list(self, call: Call) -> Response:
        """Any role in the subscription makes it visible."""
        visible = any(
            assignment["properties"]["principalId"] == call.caller.object_id
            for assignment in self._cloud.role_assignments.values()
        )
        return listing([self._shown()] if visible else [])

    async def _get(self, call: Call) -> Response:
        return JSONResponse(self._shown())

    def _shown(self) -> Document:
        return {
            "id": self._cloud.subscription_scope,
            "subscriptionId": self._cloud.subscription_id,
            "tenantId": self._cloud.tenant_id,
            "displayName": "local_azure",
            "state": "Enabled",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
        }

    async def _locations(self, call: Call) -> Response:
        return listing(
            [
                {
                    "id": f"{self._cloud.subscription_scope}/locations/{name}",
                    "name": name,
                    "type": "Region",
                    "displayName": display_name,
                    "regionalDisplayName": display_name,
                    "metadata": {"regionType": "Physical", "regionCategory": "Recommended"},
                }
                for name, display_name in LOCATIONS.items()
            ]
        )

    async def _resources(self, call: Call) -> Response:
        readable = visible(self._cloud, call.caller, tracked_resources(self._cloud))
        found = [resource for resource in readable if _satisfies(resource, call)]
        if "group" in call.request.path_params:
            group = require_group(self._cloud, call["group"])["name"].lower()
            found = [resource for resource in found if group_of(resource["id"]) == group]
        return listing([{key: resource[key] for key in _SHOWN if key in resource} for resource in found])

    async def _list_providers(self, call: Call) -> Response:
        return listing(self._providers.all())

    async def _get_provider(self, call: Call) -> Response:
        return JSONResponse(self._providers.show(call["namespace"]))

    async def _register(self, call: Call) -> Response:
        return JSONResponse(self._providers.register(call["namespace"]))

    async def _unregister(self, call: Call) -> Response:
        return JSONResponse(self._providers.unregister(call["namespace"]))


def _satisfies(resource: Document, call: Call) -> bool:
    """Whether a resource meets `$filter`: equalities joined by `and`, as the SDK's documentation lists them."""
    text = call.request.query_params.get("$filter", "")
    wanted = {name.lower(): value.lower() for name, value in _CONDITION.findall(text)}
    if text and len(wanted) != len(re.split(r"\s+and\s+", text)):
        raise ApiError(400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")
    tags = {name.lower(): value.lower() for name, value in (resource.get("tags") or {}).items()}
    facts = {
        "resourcetype": resource["type"].lower(),
        "name": resource["name"].lower(),
        "location": resource["location"],
        "resourcegroup": group_of(resource["id"]),
        "tagname": wanted.get("tagname") if wanted.get("tagname") in tags else None,
        "tagvalue": tags.get(wanted.get("tagname", "")),
    }
    return all(facts[name] == value for name, value in wanted.items())
