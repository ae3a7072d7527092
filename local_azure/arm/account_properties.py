"""What a Batch account can be set to.

https://learn.microsoft.com/azure/batch/batch-account-create-portal, …/batch-quota-limit
"""

import base64
import secrets

from local_azure.arm.batch_errors import fixed_property, invalid_value, missing_property, unknown_identity
from local_azure.arm.vm_sizes import VM_FAMILIES
from local_azure.clock import ticks
from local_azure.cloud import Cloud, Options
from local_azure.errors import ApiError
from local_azure.identity.tokens import Principal
from local_azure.store import Document

_MODES = ("SharedKey", "AAD", "TaskAuthenticationToken")
_STORAGE_MODES = ("StorageKeys", "BatchAccountManagedIdentity")
_POOL_QUOTA = 100
_ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/{}/assign/action"


def quotas(options: Options) -> Document:
    """Quotas of an account; the cores count in total, per VM family and for Spot nodes."""
    return {
        "dedicatedCoreQuota": options.core_quota,
        "dedicatedCoreQuotaPerVMFamily": [{"name": family, "coreQuota": options.core_quota} for family in VM_FAMILIES],
        "dedicatedCoreQuotaPerVMFamilyEnforced": True,
        "lowPriorityCoreQuota": options.core_quota,
        "poolQuota": _POOL_QUOTA,
        "activeJobAndJobScheduleQuota": options.job_quota,
    }


def new_keys() -> dict[str, str]:
    """Two account keys."""
    return {name: base64.b64encode(secrets.token_bytes(64)).decode() for name in ("primary", "secondary")}


def asks_for_identity(sent: Document | None) -> bool:
    """Whether the `identity` of a body is more than `None`."""
    return bool(sent) and (sent or {}).get("type") not in (None, "None")


class Settings:
    """Reads what a request sets, and fills in what it leaves out."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def properties(self, caller: Principal, sent: Document, *, has_identity: bool) -> Document:
        """The properties of an account that is made or replaced."""
        if sent.get("poolAllocationMode") not in (None, "BatchService"):
            raise ApiError(
                501, "NotImplemented", f"local_azure has no pool allocation mode {sent['poolAllocationMode']}."
            )
        properties: Document = {
            "allowedAuthenticationModes": self._modes(sent.get("allowedAuthenticationModes")),
            "encryption": {"keySource": "Microsoft.Batch"},
            "poolAllocationMode": "BatchService",
            "privateEndpointConnections": [],
            "provisioningState": "Succeeded",
            "publicNetworkAccess": sent.get("publicNetworkAccess") or "Enabled",
            **quotas(self._cloud.options),
        }
        if sent.get("autoStorage"):
            properties["autoStorage"] = self._auto_storage(caller, sent["autoStorage"], has_identity)
        return properties

    def changed(self, caller: Principal, sent: Document, account: Document, *, has_identity: bool) -> Document:
        """The properties of an account after a PATCH."""
        properties: Document = dict(account["properties"])
        if sent.get("poolAllocationMode") not in (None, properties["poolAllocationMode"]):
            raise fixed_property("properties.poolAllocationMode")
        if "allowedAuthenticationModes" in sent:
            properties["allowedAuthenticationModes"] = self._modes(sent["allowedAuthenticationModes"])
        if sent.get("publicNetworkAccess"):
            properties["publicNetworkAccess"] = sent["publicNetworkAccess"]
        if "autoStorage" in sent:
            properties.pop("autoStorage", None)
            if (sent["autoStorage"] or {}).get("storageAccountId"):
                properties["autoStorage"] = self._auto_storage(caller, sent["autoStorage"], has_identity)
        return properties

    def require_shared_key(self, account: Document) -> None:
        """Let a request for the keys pass.

        Raises:
            ApiError: 403, the account takes no keys ("getting the keys will fail", REST reference of Get Keys).
        """
        if "SharedKey" not in account["properties"]["allowedAuthenticationModes"]:
            raise ApiError(
                403,
                "SharedKeyAuthenticationDisabled",
                f"The Batch account '{account['name']}' does not allow SharedKey authentication.",
            )

    def identity(self, caller: Principal, account_id: str, sent: Document | None, known: Document | None) -> Document:
        """The identity of the account; one that the system assigns becomes a principal of the tenant."""
        kind = (sent or {}).get("type") or "None"
        before = known["identity"] if known else {"type": "None"}
        match kind:
            case "None":
                after: Document = {"type": "None"}
            case "SystemAssigned" if before["type"] == "SystemAssigned":
                return dict(before)
            case "SystemAssigned":
                principal = self._cloud.tokens.add(account_id, "ManagedIdentity")
                after = {"type": kind, "principalId": principal.object_id, "tenantId": self._cloud.tenant_id}
            case "UserAssigned":
                named = (sent or {}).get("userAssignedIdentities") or {}
                after = {"type": kind, "userAssignedIdentities": user_assigned(self._cloud, caller, named)}
            case _:
                raise invalid_value("identity.type", kind, "It is none of SystemAssigned, UserAssigned and None.")
        if before["type"] == "SystemAssigned":
            self._cloud.tokens.remove(before["principalId"])
        return after

    def _modes(self, sent: list[str] | None) -> list[str]:
        # Azure's default is all three; `--shared-keys` is about accounts that do not say what they want.
        modes = list(sent) if sent else list(_MODES)
        for mode in modes:
            if mode not in _MODES:
                raise invalid_value(
                    "properties.allowedAuthenticationModes", mode, f"It is none of {', '.join(_MODES)}."
                )
        return modes

    def _auto_storage(self, caller: Principal, sent: Document, has_identity: bool) -> Document:
        path = "properties.autoStorage"
        storage_id = sent.get("storageAccountId")
        if not storage_id:
            raise missing_property(f"{path}.storageAccountId")
        storage = self._cloud.store.table("storageAccounts").get(str(storage_id).rsplit("/", 1)[-1].lower())
        if storage is None or storage["id"].lower() != str(storage_id).lower():
            raise invalid_value(f"{path}.storageAccountId", storage_id, "The storage account was not found.")
        mode = sent.get("authenticationMode") or "StorageKeys"
        if mode not in _STORAGE_MODES:
            raise invalid_value(f"{path}.authenticationMode", mode, f"It is none of {', '.join(_STORAGE_MODES)}.")
        if mode == "BatchAccountManagedIdentity" and not has_identity:
            raise invalid_value(f"{path}.authenticationMode", mode, "The account has no managed identity.")
        settings: Document = {
            "storageAccountId": storage_id,
            "authenticationMode": mode,
            "lastKeySync": ticks(self._cloud.clock.now()),
        }
        reference = sent.get("nodeIdentityReference")
        if reference:
            user_assigned(self._cloud, caller, {reference["resourceId"]: {}})
            settings["nodeIdentityReference"] = {"resourceId": reference["resourceId"]}
        return settings


def user_assigned(cloud: Cloud, caller: Principal, named: Document) -> Document:
    """The identities of a body with their principal and client ids.

    Raises:
        ApiError: 400, one does not exist, or none is named; 403, the caller may not hand one out
            (https://learn.microsoft.com/azure/role-based-access-control/troubleshooting, Managed Identity Operator).
    """
    if not named:
        raise missing_property("identity.userAssignedIdentities")
    found = {}
    for identity_id in named:
        assign = _ASSIGN.format(identity_id.rsplit("/", 1)[-1])
        if not cloud.access.allowed(caller, assign, identity_id):
            raise ApiError(
                403,
                "LinkedAuthorizationFailed",
                f"The client '{caller.client_id}' has permission to perform the action, but it does not have "
                f"permission to perform '{assign}' on the linked scope '{identity_id}' or the linked scope is invalid.",
            )
        identity = cloud.store.table("identities").get(identity_id.lower())
        if identity is None:
            raise unknown_identity(identity_id)
        properties = identity["properties"]
        # Batch answers the ids as the identity's own provider writes them.
        found[identity["id"]] = {"principalId": properties["principalId"], "clientId": properties["clientId"]}
    return found
