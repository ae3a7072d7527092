"""The managed identities of a pool, as its nodes use them.

https://learn.microsoft.com/azure/batch/managed-identity-pools
"""

from datetime import UTC, datetime, timedelta

from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from local_azure.cloud import Cloud
from local_azure.identity.tokens import Principal
from local_azure.nodes.blobs import LIST
from local_azure.store import Document

_STORAGE = "https://storage.azure.com"


class PoolIdentities:
    """The user-assigned identities that a pool's document names, and the auto-storage of its account."""

    def __init__(self, cloud: Cloud, account: str, pool: Document) -> None:
        self._cloud = cloud
        self._account = account
        assigned = (pool.get("identity") or {}).get("userAssignedIdentities") or {}
        self._assigned = {identity.lower() for identity in assigned}

    def principals(self) -> list[Principal]:
        """Those that still exist."""
        found = [self._principal(identity) for identity in sorted(self._assigned)]
        return [principal for principal in found if principal]

    def storage_token(self, resource_id: str) -> str | None:
        """A token for blobs; None if that identity is not on the pool."""
        principal = self._principal(resource_id.lower()) if resource_id.lower() in self._assigned else None
        return self._cloud.tokens.issue(principal, _STORAGE) if principal else None

    def auto_storage(self, container: str) -> Document:
        """A container of the auto-storage as a resource file names it: by URL, with a SAS or an identity.

        Raises:
            TaskFailureError: the account has no auto-storage.
        """
        settings = self._cloud.store.table("batchAccounts")[self._account]["properties"].get("autoStorage")
        if not settings:
            raise LIST.failure(404, "the Batch account has no auto-storage")
        account = settings["storageAccountId"].rsplit("/", 1)[-1].lower()
        url = f"{self._cloud.addresses.blob}/{account}/{container}"
        if settings.get("authenticationMode") == "BatchAccountManagedIdentity":
            return {"storageContainerUrl": url, "identityReference": settings.get("nodeIdentityReference")}
        sas = generate_container_sas(
            account,
            container,
            self._cloud.store.table("storageKeys")[account]["key1"],
            permission=ContainerSasPermissions(read=True, list=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        return {"storageContainerUrl": f"{url}?{sas}"}

    def _principal(self, identity: str) -> Principal | None:
        document = self._cloud.store.table("identities").get(identity)
        return self._cloud.tokens.find(document["properties"]["principalId"]) if document else None
