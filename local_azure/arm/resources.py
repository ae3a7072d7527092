"""What the resources of all providers have in common: ids, tags, ETags, merging of updates."""

from collections.abc import Iterable, Mapping
from typing import Any

from local_azure.clock import Clock, ticks
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.identity.tokens import Principal
from local_azure.store import Document

RESOURCE_TABLES = {
    "Microsoft.Storage/storageAccounts": "storageAccounts",
    "Microsoft.Batch/batchAccounts": "batchAccounts",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "identities",
    "Microsoft.Orbital/geoCatalogs": "geoCatalogs",
}
"""The table of each tracked resource type."""


def tracked_resources(cloud: Cloud) -> list[Document]:
    """Every resource that lives in a resource group."""
    return [document for table in RESOURCE_TABLES.values() for document in cloud.store.table(table).values()]


def visible(cloud: Cloud, caller: Principal, documents: Iterable[Document]) -> list[Document]:
    """The resources (or groups) that a caller may read: a list of the subscription shows no others."""
    return [found for found in documents if cloud.access.allowed(caller, f"{_operations(found)}/read", found["id"])]


def _operations(document: Document) -> str:
    resource_type = str(document["type"])
    return resource_type.replace("Microsoft.Resources/", "Microsoft.Resources/subscriptions/")


def group_of(resource_id: str) -> str:
    """Name of the resource group in an ARM id, in lower case."""
    parts = resource_id.lower().split("/")
    return parts[parts.index("resourcegroups") + 1]


def require_group(cloud: Cloud, group: str) -> Document:
    """The resource group.

    Raises:
        ApiError: 404 `ResourceGroupNotFound`.
    """
    document = cloud.store.table("resourceGroups").get(group.lower())
    if document is None:
        raise ApiError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
    return document


def require_living_group(cloud: Cloud, group: str) -> Document:
    """The resource group, into which something is to be put.

    Raises:
        ApiError: 404 `ResourceGroupNotFound`, 409 `ResourceGroupBeingDeleted`.
    """
    document = require_group(cloud, group)
    if document["properties"]["provisioningState"] == "Deleting":
        raise ApiError(
            409,
            "ResourceGroupBeingDeleted",
            f"The resource group '{group}' is in deprovisioning state and cannot perform this operation.",
        )
    return document


def not_found(resource_type: str, name: str, group: str) -> ApiError:
    """The error for a resource that is not there."""
    return ApiError(
        404,
        "ResourceNotFound",
        f"The Resource '{resource_type}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def check_tags(body: Document) -> dict[str, str]:
    """The tags of a body, within Azure's limits.

    https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources
    """
    tags = body.get("tags") or {}
    if len(tags) > 50:
        raise ApiError(400, "TooManyTags", f"Too many tags were requested: {len(tags)}; the most is 50.")
    for name, value in tags.items():
        if not isinstance(value, str) or len(name) > 512 or len(value) > 256 or set(name) & set("<>%&\\?/"):
            raise ApiError(400, "InvalidTagNameValue", f"The tag '{name}' is not valid.")
    return dict(tags)


def merged(document: Document, patch: Mapping[str, Any]) -> Document:
    """The document with a JSON merge patch (RFC 7396) applied."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            current = result.get(key)
            result[key] = merged(current if isinstance(current, dict) else {}, value)
        else:
            result[key] = value
    return result


def with_defaults(document: Mapping[str, Any], defaults: Mapping[str, Any]) -> Document:
    """The document, with what it leaves out taken from `defaults`."""
    sent = {key: value for key, value in document.items() if value is not None}
    return merged(dict(defaults), sent)


def etag(clock: Clock) -> str:
    """A fresh ETag in the form of Azure's storage and Batch, which is a time in hexadecimal."""
    moment = int(clock.now().timestamp() * 10_000_000) + 621_355_968_000_000_000
    return f"0x{moment:X}"


def system_data(caller: Principal, clock: Clock, before: Document | None = None) -> Document:
    """Who made a resource and changed it last.

    https://learn.microsoft.com/azure/azure-resource-manager/management/common-metadata
    """
    kind = {"ServicePrincipal": "Application"}.get(caller.kind, caller.kind)
    now = ticks(clock.now())
    created = before or {"createdBy": caller.client_id, "createdByType": kind, "createdAt": now}
    return {**created, "lastModifiedBy": caller.client_id, "lastModifiedByType": kind, "lastModifiedAt": now}
