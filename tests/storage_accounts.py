"""Storage accounts for tests, made through ARM as anybody would make them."""

import base64
import json
import uuid

from azure.identity import ManagedIdentityCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.storage import StorageManagementClient

_ARM_SCOPE = "https://management.azure.com/.default"
_GROUP = "blobs"
DATA_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"


def create_account(azure: dict[str, str], name: str, *, shared_keys: bool = False, role: str = DATA_CONTRIBUTOR) -> str:
    """Create an account, give the operator a role on it, and return its blob endpoint."""
    subscription = azure["LOCAL_AZURE_SUBSCRIPTION_ID"]
    arm = {"base_url": azure["LOCAL_AZURE_ARM_URL"], "credential_scopes": [_ARM_SCOPE]}
    with ManagedIdentityCredential() as credential:
        with ResourceManagementClient(credential, subscription, **arm) as client:
            client.resource_groups.create_or_update(_GROUP, {"location": "westeurope"})
        with StorageManagementClient(credential, subscription, **arm) as client:
            body = {
                "location": "westeurope",
                "kind": "StorageV2",
                "sku": {"name": "Standard_LRS"},
                "properties": {"allowSharedKeyAccess": shared_keys, "allowBlobPublicAccess": False},
            }
            account = client.storage_accounts.begin_create(_GROUP, name, body, polling_interval=0.1).result()
        if role:
            assign_role(azure, account.id, role)
    return str(account.primary_endpoints.blob).rstrip("/")


def account_key(azure: dict[str, str], name: str) -> str:
    """The first key of an account."""
    arm = {"base_url": azure["LOCAL_AZURE_ARM_URL"], "credential_scopes": [_ARM_SCOPE]}
    with (
        ManagedIdentityCredential() as credential,
        StorageManagementClient(credential, azure["LOCAL_AZURE_SUBSCRIPTION_ID"], **arm) as client,
    ):
        return str(client.storage_accounts.list_keys(_GROUP, name).keys_property[0].value)


def assign_role(azure: dict[str, str], scope: str, role: str) -> str:
    """Give the operator a role, and return the id of the assignment."""
    subscription_scope = f"/subscriptions/{azure['LOCAL_AZURE_SUBSCRIPTION_ID']}"
    definition = f"{subscription_scope}/providers/Microsoft.Authorization/roleDefinitions/{role}"
    with ManagedIdentityCredential() as credential, _authorization(azure, credential) as client:
        return str(
            client.role_assignments.create(
                scope,
                str(uuid.uuid4()),
                {
                    "roleDefinitionId": definition,
                    "principalId": _object_id(credential),
                    "principalType": "ServicePrincipal",
                },
            ).id
        )


def remove_role(azure: dict[str, str], assignment: str) -> None:
    """Take a role away again."""
    with ManagedIdentityCredential() as credential, _authorization(azure, credential) as client:
        client.role_assignments.delete_by_id(assignment)


def _authorization(azure: dict[str, str], credential: ManagedIdentityCredential) -> AuthorizationManagementClient:
    return AuthorizationManagementClient(
        credential,
        azure["LOCAL_AZURE_SUBSCRIPTION_ID"],
        base_url=azure["LOCAL_AZURE_ARM_URL"],
        credential_scopes=[_ARM_SCOPE],
    )


def _object_id(credential: ManagedIdentityCredential) -> str:
    claims = credential.get_token(_ARM_SCOPE).token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(claims + "=="))["oid"])
