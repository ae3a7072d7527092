"""The blob service of a storage account, and its containers, seen through ARM.

https://learn.microsoft.com/rest/api/storagerp/blob-containers

The containers are those of the data plane: both write the table `containers`.
"""

import re

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.gate import Call, Gate, listing
from local_azure.arm.resources import merged, with_defaults
from local_azure.arm.storage import StorageAccounts
from local_azure.blob.call import BlobState
from local_azure.clock import ticks
from local_azure.errors import ApiError
from local_azure.store import Document

_SERVICES = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage"
    "/storageAccounts/{account}/blobServices"
)
_CONTAINERS = f"{_SERVICES}/default/containers"
_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")


class BlobContainers:
    """Handlers for `blobServices/default` and the containers below it."""

    def __init__(self, accounts: StorageAccounts, blobs: BlobState) -> None:
        self._accounts = accounts
        self._blobs = blobs

    def routes(self, gate: Gate) -> list[Route]:
        """The route table."""
        container = f"{_CONTAINERS}/{{container}}"
        return [
            gate.route("GET", f"{_SERVICES}/default", self._get_service),
            gate.route("PUT", f"{_SERVICES}/default", self._put_service),
            gate.route("GET", _CONTAINERS, self._list),
            gate.route("PUT", container, self._put),
            gate.route("GET", container, self._get),
            gate.route("PATCH", container, self._patch),
            gate.route("DELETE", container, self._delete),
        ]

    async def _get_service(self, call: Call) -> Response:
        account = self._accounts.find(call)
        return JSONResponse(_shown_service(account, self._blobs.services.get(account["name"], {})))

    async def _put_service(self, call: Call) -> Response:
        account = self._accounts.find(call)
        settings = merged(self._blobs.services.get(account["name"], {}), call.body.get("properties") or {})
        self._blobs.services[account["name"]] = settings
        return JSONResponse(_shown_service(account, settings))

    async def _list(self, call: Call) -> Response:
        account = self._accounts.find(call)
        found = self._blobs.containers.below(f"{account['name']}/")
        return listing([_shown(account, container) for container in found])

    async def _get(self, call: Call) -> Response:
        account = self._accounts.find(call)
        return JSONResponse(_shown(account, self._find(account, call["container"])))

    async def _put(self, call: Call) -> Response:
        account, name = self._accounts.find(call), call["container"]
        if not _NAME.fullmatch(name):
            raise ApiError(
                400,
                "ContainerOperationFailure",
                "The specified resource name length is not within the permissible limits or has invalid characters.",
            )
        key = f"{account['name']}/{name}"
        known = self._blobs.containers.get(key)
        fresh: Document = {"name": name, "metadata": {}, "publicAccess": None}
        self._write(key, known or fresh, account, call.body)
        return JSONResponse(_shown(account, self._blobs.containers[key]), 200 if known else 201)

    async def _patch(self, call: Call) -> Response:
        account = self._accounts.find(call)
        container = self._find(account, call["container"])
        key = f"{account['name']}/{container['name']}"
        self._write(key, container, account, call.body)
        return JSONResponse(_shown(account, self._blobs.containers[key]))

    async def _delete(self, call: Call) -> Response:
        account, name = self._accounts.find(call), call["container"].lower()
        key = f"{account['name']}/{name}"
        if key not in self._blobs.containers:
            return Response(status_code=204)
        self._blobs.forget(account["name"], name)
        self._blobs.deleted_containers[key] = {"deleted": ticks(self._blobs.cloud.clock.now())}
        return Response(status_code=200)

    def _find(self, account: Document, name: str) -> Document:
        container = self._blobs.containers.get(f"{account['name']}/{name.lower()}")
        if container is None:
            raise ApiError(404, "ContainerNotFound", "The specified container does not exist.")
        return container

    def _write(self, key: str, container: Document, account: Document, body: Document) -> None:
        sent = body.get("properties") or {}
        access = {None: None, "None": None, "Blob": "blob", "Container": "container"}[sent.get("publicAccess")]
        if access and not account["properties"]["allowBlobPublicAccess"]:
            raise ApiError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
        changed = {**container, "publicAccess": access or container["publicAccess"]}
        if sent.get("metadata") is not None:
            changed["metadata"] = dict(sent["metadata"])
        self._blobs.stamp(changed)
        self._blobs.containers[key] = changed


def _shown_service(account: Document, settings: Document) -> Document:
    defaults = {
        "cors": {"corsRules": []},
        "containerDeleteRetentionPolicy": {"enabled": False},
        "deleteRetentionPolicy": {"enabled": False, "allowPermanentDelete": False},
    }
    return {
        "id": f"{account['id']}/blobServices/default",
        "name": "default",
        "type": "Microsoft.Storage/storageAccounts/blobServices",
        "sku": account["sku"],
        "properties": with_defaults(settings, defaults),
    }


def _shown(account: Document, container: Document) -> Document:
    access = {None: "None", "blob": "Blob", "container": "Container"}[container["publicAccess"]]
    return {
        "id": f"{account['id']}/blobServices/default/containers/{container['name']}",
        "name": container["name"],
        "type": "Microsoft.Storage/storageAccounts/blobServices/containers",
        "etag": container["etag"],
        "properties": {
            "defaultEncryptionScope": "$account-encryption-key",
            "deleted": False,
            "denyEncryptionScopeOverride": False,
            "hasImmutabilityPolicy": False,
            "hasLegalHold": False,
            "immutableStorageWithVersioning": {"enabled": False},
            "lastModifiedTime": container["lastModified"],
            "leaseState": "Available",
            "leaseStatus": "Unlocked",
            "metadata": container["metadata"],
            "publicAccess": access,
            "remainingRetentionDays": 0,
        },
    }
