"""Batch accounts, their keys and quotas.

https://learn.microsoft.com/rest/api/batchmanagement/batch-account

Differences from Azure: account names are unique in the whole cloud, and the pool allocation mode is
always BatchService; a new account works before its operation has ended.
"""

import re

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.account_properties import Settings, asks_for_identity, new_keys, quotas
from local_azure.arm.gate import Call, Gate, listing
from local_azure.arm.locations import location_of
from local_azure.arm.operations import Operations
from local_azure.arm.resources import (
    check_tags,
    group_of,
    not_found,
    require_group,
    require_living_group,
    system_data,
)
from local_azure.arm.vm_sizes import VM_SIZES
from local_azure.batch.states import new_tag
from local_azure.clock import http_date, parse_time
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document

_TYPE = "Microsoft.Batch/batchAccounts"
_PROVIDER = "/subscriptions/{subscription}/providers/Microsoft.Batch"
_ACCOUNTS = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{_TYPE}"
_ACCOUNT = f"{_ACCOUNTS}/{{account}}"
_NAME = re.compile(r"[a-z0-9]{3,24}")
_ACCOUNTS_PER_REGION = 3
_KEY_NAMES = ("primary", "secondary")


class BatchAccounts:
    """Accounts as ARM sees them; the data plane reads the same tables."""

    def __init__(self, cloud: Cloud, operations: Operations) -> None:
        self._cloud = cloud
        self._operations = operations
        self._accounts = cloud.store.table("batchAccounts")
        self._keys = cloud.store.table("batchKeys")
        self._settings = Settings(cloud)
        for name, account in list(self._accounts.items()):
            if _deleting(account):
                self._forget(name)
            else:
                properties = {**account["properties"], **quotas(cloud.options)}
                self._accounts[name] = {**account, "properties": properties}

    def routes(self, gate: Gate) -> list[Route]:
        """The route table."""
        location = f"{_PROVIDER}/locations/{{location}}"
        return [
            gate.route("GET", f"{location}/quotas", self._quotas),
            gate.route("GET", f"{location}/virtualMachineSkus", self._vm_sizes),
            gate.route("POST", f"{location}/checkNameAvailability", self._check_name),
            gate.route(
                "GET", f"{location}/accountOperationResults/{{operation}}", self._operations.poll, open_to_all=True
            ),
            gate.route("GET", f"{_PROVIDER}/batchAccounts", self._list),
            gate.route("GET", _ACCOUNTS, self._list_group),
            gate.route("PUT", _ACCOUNT, self._put),
            gate.route("GET", _ACCOUNT, self._get),
            gate.route("PATCH", _ACCOUNT, self._patch),
            gate.route("DELETE", _ACCOUNT, self._delete),
            gate.route("GET", f"{_ACCOUNT}/operationResults/{{operation}}", self._operations.poll, open_to_all=True),
            gate.route("POST", f"{_ACCOUNT}/listKeys", self._list_keys),
            gate.route("POST", f"{_ACCOUNT}/regenerateKeys", self._regenerate_key),
            gate.route("POST", f"{_ACCOUNT}/syncAutoStorageKeys", self._sync_keys),
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

    def find_living(self, call: Call) -> Document:
        """The account of the path, to change something about it.

        Raises:
            ApiError: as `find`; 409 while it is being deleted.
        """
        account = self.find(call)
        if _deleting(account):
            raise ApiError(409, "AccountBeingDeleted", f"The Batch account '{account['name']}' is being deleted.")
        return account

    async def purge(self, group: str) -> None:
        """Remove the accounts of a resource group."""
        for name in [name for name, account in self._accounts.items() if group_of(account["id"]) == group]:
            await self._remove(name)

    async def _quotas(self, call: Call) -> Response:
        return JSONResponse({"accountQuota": _ACCOUNTS_PER_REGION})

    async def _vm_sizes(self, call: Call) -> Response:
        return listing(
            [
                {
                    "name": size.name,
                    "familyName": size.family,
                    "capabilities": [
                        {"name": "vCPUs", "value": str(size.cores)},
                        {"name": "MemoryGB", "value": f"{size.memory_gib:g}"},
                    ],
                }
                for size in VM_SIZES.values()
            ]
        )

    async def _check_name(self, call: Call) -> Response:
        name = str(call.body.get("name", ""))
        if not _NAME.fullmatch(name):
            answer = {"nameAvailable": False, "reason": "Invalid", "message": _invalid_name(name).message}
        elif name in self._accounts:
            answer = {"nameAvailable": False, "reason": "AlreadyExists", "message": _taken(name).message}
        else:
            answer = {"nameAvailable": True}
        return JSONResponse(answer)

    async def _list(self, call: Call) -> Response:
        return listing([self._shown(account) for account in self._accounts.values()])

    async def _list_group(self, call: Call) -> Response:
        group = require_group(self._cloud, call["group"])["name"].lower()
        return listing(
            [self._shown(account) for account in self._accounts.values() if group_of(account["id"]) == group]
        )

    async def _get(self, call: Call) -> Response:
        return self._answer(self.find(call))

    async def _put(self, call: Call) -> Response:
        group, name = require_living_group(self._cloud, call["group"]), call["account"].lower()
        if not _NAME.fullmatch(call["account"]):
            raise _invalid_name(call["account"])
        known = self._accounts.get(name)
        if known and group_of(known["id"]) != call["group"].lower():
            raise _taken(name)
        if known:
            self.find_living(call)
        account = self._requested(call, f"{group['id']}/providers/{_TYPE}/{name}", known)
        self._accounts[name] = account
        if not known:
            self._keys[name] = new_keys()
        return self._operations.begin(
            call,
            account["id"],
            f"{account['id']}/operationResults",
            lambda: self._answer(self._accounts[name]),
            retry_after=False,
            changing=True,
        )

    def _requested(self, call: Call, account_id: str, known: Document | None) -> Document:
        """The account that a PUT describes; the identity comes last, since one of the system is made at once."""
        body, name = call.body, account_id.rsplit("/", 1)[-1]
        location = location_of(body, _TYPE)
        if known and known["location"] != location:
            raise ApiError(
                409,
                "InvalidResourceLocation",
                f"The resource '{name}' already exists in location '{known['location']}'.",
            )
        return {
            "id": account_id,
            "name": name,
            "type": _TYPE,
            "location": location,
            "tags": check_tags(body),
            "systemData": system_data(call.caller, self._cloud.clock, known and known.get("systemData")),
            "properties": self._settings.properties(
                call.caller,
                body.get("properties") or {},
                has_identity=asks_for_identity(body.get("identity")),
            ),
            "identity": self._settings.identity(call.caller, account_id, body.get("identity"), known),
        }

    async def _patch(self, call: Call) -> Response:
        account = dict(self.find_living(call))
        if "tags" in call.body:
            account["tags"] = check_tags(call.body)
        identity = call.body.get("identity") or account["identity"]
        account["properties"] = self._settings.changed(
            call.caller,
            call.body.get("properties") or {},
            account,
            has_identity=asks_for_identity(identity),
        )
        if call.body.get("identity"):
            account["identity"] = self._settings.identity(call.caller, account["id"], identity, account)
        account["systemData"] = system_data(call.caller, self._cloud.clock, account["systemData"])
        self._accounts[account["name"]] = account
        return self._answer(account)

    async def _delete(self, call: Call) -> Response:
        require_group(self._cloud, call["group"])
        name = call["account"].lower()
        account = self._accounts.get(name)
        if account is None or group_of(account["id"]) != call["group"].lower():
            return Response(status_code=204)
        self.find_living(call)
        account["properties"]["provisioningState"] = "Deleting"
        self._accounts[name] = account
        scope = f"{self._cloud.subscription_scope}/providers/Microsoft.Batch/locations/{account['location']}"
        return self._operations.begin(
            call,
            account["id"],
            f"{scope}/accountOperationResults",
            lambda: Response(status_code=200),
            lambda: self._remove(name),
            retry_after=False,
            changing=True,
        )

    async def _remove(self, name: str) -> None:
        for pool in self._cloud.store.table("pools").below(f"{name}/"):
            await self._cloud.nodes.pool_deleted(name, pool["name"])
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._cloud.jobs.forget_account(name)
        pools = self._cloud.store.table("pools")
        for key in [key for key in pools if key.startswith(f"{name}/")]:
            del pools[key]
        self._keys.pop(name, None)
        account = self._accounts.pop(name, None)
        if account and account["identity"]["type"] == "SystemAssigned":
            self._cloud.tokens.remove(account["identity"]["principalId"])

    async def _list_keys(self, call: Call) -> Response:
        account = self.find(call)
        self._settings.require_shared_key(account)
        return JSONResponse({"accountName": account["name"], **self._keys[account["name"]]})

    async def _regenerate_key(self, call: Call) -> Response:
        account = self.find_living(call)
        self._settings.require_shared_key(account)
        key = str(call.body.get("keyName", "")).lower()
        if key not in _KEY_NAMES:
            raise ApiError(400, "InvalidRequestBody", "The specified key name is neither Primary nor Secondary.")
        self._keys[account["name"]] = {**self._keys[account["name"]], key: new_keys()[key]}
        return JSONResponse({"accountName": account["name"], **self._keys[account["name"]]})

    async def _sync_keys(self, call: Call) -> Response:
        if "autoStorage" not in self.find_living(call)["properties"]:
            raise ApiError(409, "AutoStorageNotConfigured", "The account has no auto-storage.")
        return Response(status_code=204)

    def _answer(self, account: Document) -> Response:
        changed = parse_time(account["systemData"]["lastModifiedAt"])
        headers = {"ETag": f'"{new_tag(changed)}"', "Last-Modified": http_date(changed)}
        return JSONResponse(self._shown(account), headers=headers)

    def _shown(self, account: Document) -> Document:
        endpoint = f"{self._cloud.addresses.batch.removeprefix('https://')}/{account['name']}"
        state = account["properties"]["provisioningState"]
        if state == "Succeeded" and self._operations.under_way(account["id"]):
            state = "Creating"
        shown = {"accountEndpoint": endpoint, "nodeManagementEndpoint": endpoint, "provisioningState": state}
        tagged = {name: value for name, value in account.items() if name != "tags" or value}
        return {**tagged, "properties": {**account["properties"], **shown}}


def _deleting(account: Document) -> bool:
    return bool(account["properties"]["provisioningState"] == "Deleting")


def _invalid_name(name: str) -> ApiError:
    return ApiError(
        400,
        "AccountNameInvalid",
        f"The specified account name '{name}' is not valid. It must be 3 to 24 lower-case letters and digits.",
    )


def _taken(name: str) -> ApiError:
    return ApiError(409, "AccountNameUnavailable", f"An account named '{name}' already exists.")
