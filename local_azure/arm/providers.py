"""Resource providers: which of them the subscription is registered for.

https://learn.microsoft.com/rest/api/resources/providers

Difference from Azure: only the providers that this stand-in has.
"""

from local_azure.arm.locations import LOCATIONS
from local_azure.arm.versions import API_VERSIONS
from local_azure.clock import parse_time
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document

RESOURCE_TYPES = {
    "Microsoft.Resources": ("subscriptions", "resourceGroups", "tenants"),
    "Microsoft.Authorization": ("roleAssignments", "roleDefinitions"),
    "Microsoft.Batch": ("batchAccounts", "batchAccounts/pools", "locations/quotas"),
    "Microsoft.Storage": ("storageAccounts", "storageAccounts/blobServices", "checkNameAvailability"),
    "Microsoft.ManagedIdentity": ("userAssignedIdentities",),
    "Microsoft.Orbital": ("geoCatalogs",),
}
_FREE = {"Microsoft.Resources", "Microsoft.Authorization"}
_SECONDS_TO_REGISTER = 1


class Providers:
    """Registered, as in a subscription that was used before; NotRegistered on request, Registering, and back again."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._since = cloud.store.table("providers")

    def all(self) -> list[Document]:
        """Every provider as ARM shows it."""
        return [self.show(namespace) for namespace in API_VERSIONS]

    def show(self, namespace: str) -> Document:
        """One provider.

        Raises:
            ApiError: 404 `InvalidResourceNamespace`.
        """
        name = self._name(namespace)
        return {
            "id": f"{self._cloud.subscription_scope}/providers/{name}",
            "namespace": name,
            "registrationPolicy": "RegistrationFree" if name in _FREE else "RegistrationRequired",
            "registrationState": self._state(name),
            "resourceTypes": [
                {
                    "resourceType": resource_type,
                    "locations": list(LOCATIONS.values()),
                    "apiVersions": list(API_VERSIONS[name]),
                    "capabilities": "None",
                }
                for resource_type in RESOURCE_TYPES[name]
            ],
        }

    def register(self, namespace: str) -> Document:
        """Begin to register, unless that was done before."""
        name = self._name(namespace)
        if self._state(name) == "NotRegistered":
            self._since[name] = {"since": self._cloud.clock.now().isoformat()}
        return self.show(name)

    def unregister(self, namespace: str) -> Document:
        """Take the registration back, where one is needed."""
        name = self._name(namespace)
        if name not in _FREE:
            self._since[name] = {"since": None}
        return self.show(name)

    def require_registered(self, namespace: str) -> None:
        """Let a write to the provider pass.

        Raises:
            ApiError: 409 `MissingSubscriptionRegistration`.
        """
        name = self._name(namespace)
        if self._state(name) != "Registered":
            raise ApiError(
                409,
                "MissingSubscriptionRegistration",
                f"The subscription is not registered to use namespace '{name}'. "
                "See https://aka.ms/rps-not-found for how to register subscriptions.",
            )

    def _state(self, name: str) -> str:
        if name not in self._since:
            return "Registered"
        since = self._since[name]["since"]
        if since is None:
            return "NotRegistered"
        return "Registered" if self._cloud.clock.elapsed(parse_time(since), _SECONDS_TO_REGISTER) else "Registering"

    def _name(self, namespace: str) -> str:
        for name in RESOURCE_TYPES:
            if name.lower() == namespace.lower():
                return name
        raise ApiError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
