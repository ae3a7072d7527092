"""Storage accounts.

https://learn.microsoft.com/rest/api/storagerp/storage-accounts

Differences from Azure: of the endpoints only blob answers; a new account serves data before its
operation has ended.
"""

import base64
import re
import secrets

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.gate import Call, Gate, listing
from local_azure.arm.locations import location_of
from local_azure.arm.operations import Operations
from local_azure.arm.resources import (
    check_tags,
    group_of,
    merged,
    not_found,
    require_group,
    require_living_group,
    with_defaults,
)
from local_azure.blob.call import BlobState
from local_azure.clock import ticks
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document

_TYPE = "Microsoft.Storage/storageAccounts"
_PROVIDER = "/subscriptions/{subscription}/providers/Microsoft.Storage"
_ACCOUNTS = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts"
_ACCOUNT = f"{_ACCOUNTS}/{{account}}"
_NAME = re.compile(r"[a-z0-9]{3,24}")
_KINDS = ("StorageV2", "Storage", "BlobStorage", "BlockBlobStorage", "FileStorage")
_SKUS = re.compile(r"(Standard_(LRS|GRS|RAGRS|ZRS|GZRS|RAGZRS)|Premium_(LRS|ZRS))")
_FIXED = ("location", "kind")
_KEY_NAMES = ("key1", "key2")


class StorageAccounts:
    """Accounts and their keys; the data plane reads the same tables."""

    def __init__(self, cloud: Cloud, operations: Operations, blobs: BlobState) -> None:
        self._cloud = cloud
        self._operations = operations
        self._blobs = blobs
        self._accounts = cloud.store.table("storageAccounts")
        self._keys = cloud.store.table("storageKeys")

    def routes(self, gate: Gate) -> list[Route]:
        """The route table."""
        polled = f"{_PROVIDER}/locations/{{location}}/asyncoperations/{{operation}}"
        return [
            gate.route("POST", f"{_PROVIDER}/checkNameAvailability", self._check_name),
            gate.route("GET", f"{_PROVIDER}/storageAccounts", self._list),
            gate.route("GET", polled, self._operations.poll, open_to_all=True),
            gate.route("GET", _ACCOUNTS, self._list_group),
            gate.route("PUT", _ACCOUNT, self._put),
            gate.route("GET", _ACCOUNT, self._get),
            gate.route("PATCH", _ACCOUNT, self._patch),
            gate.route("DELETE", _ACCOUNT, self._delete),
            gate.route("POST", f"{_ACCOUNT}/listKeys", self._list_keys),
            gate.route("POST", f"{_ACCOUNT}/regenerateKey", self._regenerate_key),
        ]

    def find(self, call: Call) -> Document:
        """The account of the path.

        Raises:
            ApiError: 404 `ResourceGroupNotFound` or `ResourceNotFound`.
        """
        require_group(self._cloud, call["group"])
        account = self._accounts.get(call["account"].lower())
        if account is None or group_of(account["id"]) != call["group"].lower():
            raise not_found(_TYPE, call["account"], call["group"])
        return account

    async def purge(self, group: str) -> None:
        """Remove the accounts of a resource group."""
        for account in [name for name, document in self._accounts.items() if group_of(document["id"]) == group]:
            self._remove(account)

    async def _check_name(self, call: Call) -> Response:
        name = str(call.body.get("name", ""))
        if not _NAME.fullmatch(name):
            answer = {"nameAvailable": False, "reason": "AccountNameInvalid", "message": _invalid(name).message}
        elif name in self._accounts:
            answer = {"nameAvailable": False, "reason": "AlreadyExists", "message": _taken(name).message}
        else:
            answer = {"nameAvailable": True}
        return JSONResponse(answer)

    async def _list(self, call: Call) -> Response:
        return listing([self._shown(account) for account in self._accounts.values()])

    async def _list_group(self, call: Call) -> Response:
        group = require_group(self._cloud, call["group"])["name"].lower()
        return listing([self._shown(a) for a in self._accounts.values() if group_of(a["id"]) == group])

    async def _get(self, call: Call) -> Response:
        return JSONResponse(self._shown(self.find(call)))

    async def _put(self, call: Call) -> Response:
        group = require_living_group(self._cloud, call["group"])
        name = call["account"]
        if not _NAME.fullmatch(name):
            raise _invalid(name)
        known = self._accounts.get(name)
        if known and group_of(known["id"]) != call["group"].lower():
            raise _taken(name)
        document = self._new(call, group, name)
        if known:
            _refuse_fixed(known, document, name)
            self._accounts[name] = _changed(known, call.body)
            return JSONResponse(self._shown(self._accounts[name]))
        self._accounts[name] = document
        self._keys[name] = {key: _new_key() for key in _KEY_NAMES}
        return self._operations.begin(
            call,
            document["id"],
            f"{self._cloud.subscription_scope}/providers/Microsoft.Storage/locations/{document['location']}/asyncoperations",
            lambda: JSONResponse(self._shown(self._accounts[name])),
        )

    def _new(self, call: Call, group: Document, name: str) -> Document:
        body = call.body
        location, tags = location_of(body, _TYPE), check_tags(body)
        sku, kind = _sku(body), body.get("kind")
        if kind not in _KINDS:
            raise ApiError(400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid: kind.")
        now = ticks(self._cloud.clock.now())
        return {
            "id": f"{group['id']}/providers/{_TYPE}/{name}",
            "name": name,
            "type": _TYPE,
            "location": location,
            "tags": tags,
            "sku": sku,
            "kind": kind,
            "properties": with_defaults(
                body.get("properties") or {}, _default_properties(self._cloud, kind, location, now)
            ),
        }

    async def _patch(self, call: Call) -> Response:
        account = self.find(call)
        _refuse_fixed(
            account, {**account, **{key: call.body[key] for key in _FIXED if key in call.body}}, call["account"]
        )
        changed = _changed(account, call.body)
        self._accounts[call["account"].lower()] = changed
        return JSONResponse(self._shown(changed))

    async def _delete(self, call: Call) -> Response:
        require_group(self._cloud, call["group"])
        name = call["account"].lower()
        account = self._accounts.get(name)
        if account is None or group_of(account["id"]) != call["group"].lower():
            return Response(status_code=204)
        self._remove(name)
        return Response(status_code=200)

    def _remove(self, name: str) -> None:
        self._blobs.forget(name)
        self._keys.pop(name, None)
        del self._accounts[name]

    async def _list_keys(self, call: Call) -> Response:
        return JSONResponse(self._shown_keys(self.find(call)["name"]))

    async def _regenerate_key(self, call: Call) -> Response:
        name, key = self.find(call)["name"], call.body.get("keyName")
        if key not in _KEY_NAMES:
            raise ApiError(
                400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid: keyName."
            )
        self._keys[name] = {**self._keys[name], key: _new_key()}
        return JSONResponse(self._shown_keys(name))

    def _shown_keys(self, name: str) -> Document:
        created = self._accounts[name]["properties"]["creationTime"]
        return {
            "keys": [
                {"creationTime": created, "keyName": key, "value": value, "permissions": "FULL"}
                for key, value in self._keys[name].items()
            ]
        }

    def _shown(self, account: Document) -> Document:
        root = f"{self._cloud.addresses.blob}/{account['name']}/"
        state = "Creating" if self._operations.under_way(account["id"]) else "Succeeded"
        properties = {**account["properties"], "primaryEndpoints": {"blob": root}, "provisioningState": state}
        return {**account, "properties": properties}


def _default_properties(cloud: Cloud, kind: str, location: str, now: str) -> Document:
    """As recorded answers have them; that keys are off, which is the stand-in's choice, is said as a policy would."""
    encrypted = {"keyType": "Account", "enabled": True, "lastEnabledTime": now}
    return {
        **({"accessTier": "Hot"} if kind == "StorageV2" else {}),
        **({} if cloud.options.shared_keys else {"allowSharedKeyAccess": False}),
        "allowBlobPublicAccess": False,
        "allowCrossTenantReplication": False,
        "creationTime": now,
        "encryption": {"keySource": "Microsoft.Storage", "services": {"blob": encrypted, "file": encrypted}},
        "keyCreationTime": dict.fromkeys(_KEY_NAMES, now),
        "minimumTlsVersion": "TLS1_0",
        "networkAcls": {
            "bypass": "AzureServices",
            "defaultAction": "Allow",
            "ipRules": [],
            "ipv6Rules": [],
            "virtualNetworkRules": [],
        },
        "primaryLocation": location,
        "privateEndpointConnections": [],
        "statusOfPrimary": "available",
        "supportsHttpsTrafficOnly": True,
    }


def _changed(account: Document, body: Document) -> Document:
    """The account with what a body sets: properties are merged, tags replaced."""
    changed = {**account, "properties": merged(account["properties"], body.get("properties") or {})}
    if "tags" in body:
        changed["tags"] = check_tags(body)
    if body.get("sku"):
        changed["sku"] = _sku(body)
    return changed


def _sku(body: Document) -> Document:
    name = str((body.get("sku") or {}).get("name", ""))
    if not _SKUS.fullmatch(name):
        raise ApiError(400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid: sku.")
    return {"name": name, "tier": name.split("_", maxsplit=1)[0]}


def _refuse_fixed(known: Document, wanted: Document, name: str) -> None:
    if known["location"] != wanted["location"].replace(" ", "").lower():
        raise ApiError(
            409,
            "InvalidResourceLocation",
            f"The resource '{name}' already exists in location '{known['location']}'. "
            f"A resource with the same name cannot be created in location '{wanted['location']}'.",
        )
    if known["kind"] != wanted["kind"] and (known["kind"], wanted["kind"]) != ("Storage", "StorageV2"):
        raise ApiError(
            409,
            "AccountPropertyCannotBeUpdated",
            "The property 'kind' was specified in the input, but it cannot be updated.",
        )


def _invalid(name: str) -> ApiError:
    return ApiError(
        400,
        "AccountNameInvalid",
        f"{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in "
        "length and use numbers and lower-case letters only.",
    )


def _taken(name: str) -> ApiError:
    return ApiError(409, "StorageAccountAlreadyTaken", f"The storage account named {name} is already taken.")


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()
