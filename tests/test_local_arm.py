"""Azure Resource Manager, as the real management SDKs talk to it."""

import copy
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential, ManagedIdentityCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.batch import BatchManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.storage import StorageManagementClient
from azure.storage.blob import BlobServiceClient
from test_local_login import new_application

SCOPE = "https://management.azure.com/.default"
BLOB_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
BATCH_DATA_CONTRIBUTOR = "6aaa78f1-f7de-44ca-8722-c64a23943cae"
STORAGE = {"location": "eastus", "sku": {"name": "Standard_LRS"}, "kind": "StorageV2"}
POOL: dict[str, Any] = {
    "properties": {
        "vmSize": "Standard_D2s_v3",
        "deploymentConfiguration": {
            "virtualMachineConfiguration": {
                "imageReference": {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"},
                "nodeAgentSkuId": "batch.node.ubuntu 24.04",
            }
        },
        "scaleSettings": {"fixedScale": {"targetDedicatedNodes": 0}},
    }
}


@dataclass
class Clients:
    """Every management client of one caller."""

    resources: ResourceManagementClient
    storage: StorageManagementClient
    batch: BatchManagementClient
    identities: ManagedServiceIdentityClient
    authorization: AuthorizationManagementClient

    def role(self, scope: str, role: str, principal_id: str, name: str = "") -> Any:
        """Assign a role."""
        definition = f"/subscriptions/{os.environ['LOCAL_AZURE_SUBSCRIPTION_ID']}"
        definition += f"/providers/Microsoft.Authorization/roleDefinitions/{role}"
        body = {"properties": {"roleDefinitionId": definition, "principalId": principal_id}}
        return self.authorization.role_assignments.create(scope, name or str(uuid.uuid4()), body)


def connect(stack: ExitStack, credential: Any) -> Clients:
    """Clients that a settings file is enough for."""
    subscription = os.environ["LOCAL_AZURE_SUBSCRIPTION_ID"]
    settings: dict[str, Any] = {
        "base_url": os.environ["LOCAL_AZURE_ARM_URL"],
        "credential_scopes": [SCOPE],
        "connection_verify": os.environ["REQUESTS_CA_BUNDLE"],
        "polling_interval": 0.2,
    }
    stack.enter_context(credential)
    kinds: list[Any] = [
        ResourceManagementClient,
        StorageManagementClient,
        BatchManagementClient,
        ManagedServiceIdentityClient,
        AuthorizationManagementClient,
    ]
    return Clients(*(stack.enter_context(kind(credential, subscription, **settings)) for kind in kinds))


@pytest.fixture
def operator(azure: dict[str, str]) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield connect(stack, ManagedIdentityCredential())


@pytest.fixture
def group(operator: Clients) -> str:
    """A resource group of the test's own."""
    name = f"rg-{uuid.uuid4().hex[:8]}"
    operator.resources.resource_groups.create_or_update(name, {"location": "eastus"})
    return name


@pytest.fixture
def account(operator: Clients, group: str) -> str:
    """A Batch account in the group."""
    return operator.batch.batch_account.begin_create(group, unique("batch"), {"location": "eastus"}).result().name


@pytest.fixture
def application(azure: dict[str, str]) -> Iterator[tuple[Clients, str]]:
    """Clients of an application without any role, and its object id."""
    client_id, secret, object_id = new_application("somebody")
    credential = ClientSecretCredential(
        azure["LOCAL_AZURE_TENANT_ID"],
        client_id,
        secret,
        authority=azure["LOCAL_AZURE_LOGIN_URL"],
        disable_instance_discovery=True,
    )
    with ExitStack() as stack:
        yield connect(stack, credential), object_id


def unique(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex[:12]}"


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[int | None, str]:
    """Status and code of the error that a call ends with."""
    with pytest.raises(HttpResponseError) as caught:
        call(*arguments, **named)
    assert caught.value.error is not None
    return caught.value.status_code, str(caught.value.error.code)


def ask(method: str, path: str, version: str, body: Any = None) -> requests.Response:
    """A request below the subscription, without an SDK that repairs what is refused."""
    token = ManagedIdentityCredential().get_token(SCOPE).token
    url = f"{os.environ['LOCAL_AZURE_ARM_URL']}/subscriptions/{os.environ['LOCAL_AZURE_SUBSCRIPTION_ID']}/{path}"
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, url, json=body, params={"api-version": version}, headers=headers, timeout=10)


def pool_with(**properties: Any) -> dict[str, Any]:
    pool = copy.deepcopy(POOL)
    pool["properties"].update(properties)
    return pool


def new_identity(clients: Clients, group: str) -> Any:
    return clients.identities.user_assigned_identities.create_or_update(group, "node", {"location": "eastus"})


def assigned(identity_id: str) -> dict[str, Any]:
    return {"type": "UserAssigned", "userAssignedIdentities": {identity_id: {}}}


def test_request_without_api_version_is_refused(azure: dict[str, str]) -> None:
    answer = requests.get(f"{azure['LOCAL_AZURE_ARM_URL']}/subscriptions", timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "MissingApiVersionParameter")
    assert {"x-ms-request-id", "x-ms-correlation-request-id"} <= set(answer.headers)


def test_request_without_token_is_refused(azure: dict[str, str]) -> None:
    answer = requests.get(f"{azure['LOCAL_AZURE_ARM_URL']}/subscriptions?api-version=2022-12-01", timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AuthenticationFailed")


def test_unknown_api_version_is_refused_with_the_known_ones(azure: dict[str, str], group: str) -> None:
    answer = ask("GET", f"resourceGroups/{group}/providers/Microsoft.Batch/batchAccounts/any", "1999-01-01")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "NoRegisteredProviderFound")
    assert "2025-06-01" in answer.json()["error"]["message"]


def test_unknown_subscription_is_not_found(azure: dict[str, str], operator: Clients) -> None:
    other = ResourceManagementClient(
        ManagedIdentityCredential(),
        str(uuid.uuid4()),
        base_url=azure["LOCAL_AZURE_ARM_URL"],
        credential_scopes=[SCOPE],
    )
    with other:
        assert refusal(lambda: list(other.resource_groups.list())) == (404, "SubscriptionNotFound")


def test_caller_without_a_role_is_refused(application: tuple[Clients, str], group: str) -> None:
    assert refusal(application[0].resources.resource_groups.get, group) == (403, "AuthorizationFailed")


def test_reader_reads_but_does_not_write(operator: Clients, application: tuple[Clients, str], group: str) -> None:
    clients, object_id = application
    operator.role(operator.resources.resource_groups.get(group).id, READER, object_id)
    assert clients.resources.resource_groups.get(group).name == group
    write = clients.resources.resource_groups.create_or_update
    assert refusal(write, group, {"location": "eastus"}) == (403, "AuthorizationFailed")


def test_contributor_of_a_group_works_in_it_and_sees_no_other(
    operator: Clients, application: tuple[Clients, str], group: str
) -> None:
    clients, object_id = application
    operator.role(operator.resources.resource_groups.get(group).id, CONTRIBUTOR, object_id)
    clients.storage.storage_accounts.begin_create(group, unique("stor"), STORAGE).result()
    assert [found.name for found in clients.resources.resource_groups.list()] == [group]
    assert len(list(clients.resources.resources.list())) == 1


def test_contributor_does_not_assign_roles(operator: Clients, application: tuple[Clients, str], group: str) -> None:
    clients, object_id = application
    scope = operator.resources.resource_groups.get(group).id
    operator.role(scope, CONTRIBUTOR, object_id)
    assert refusal(clients.role, scope, READER, object_id) == (403, "AuthorizationFailed")


def test_provider_that_was_unregistered_must_be_registered_first(start_azure: Callable[..., dict[str, str]]) -> None:
    start_azure("--clock", "instant")
    ask("POST", "providers/Microsoft.ManagedIdentity/unregister", "2025-04-01")
    ask("PUT", "resourceGroups/rg", "2025-04-01", {"location": "eastus"})
    identity = "resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/node"
    refused = ask("PUT", identity, "2024-11-30", {"location": "eastus"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "MissingSubscriptionRegistration")
    ask("POST", "providers/Microsoft.ManagedIdentity/register", "2025-04-01")
    assert ask("PUT", identity, "2024-11-30", {"location": "eastus"}).status_code == 201


def test_names_of_groups_ignore_letter_case(operator: Clients, group: str) -> None:
    assert operator.resources.resource_groups.get(group.upper()).name == group
    assert operator.resources.resource_groups.check_existence(group.upper())


def test_group_does_not_move_to_another_location(operator: Clients, group: str) -> None:
    create = operator.resources.resource_groups.create_or_update
    assert refusal(create, group, {"location": "westeurope"}) == (409, "InvalidResourceGroupLocation")


def test_deleting_a_group_takes_resources_principals_and_role_assignments_along(operator: Clients, group: str) -> None:
    identity = new_identity(operator, group)
    storage = operator.storage.storage_accounts.begin_create(group, unique("stor"), STORAGE).result()
    operator.role(storage.id, BLOB_CONTRIBUTOR, identity.principal_id)
    operator.resources.resource_groups.begin_delete(group).result()
    left = operator.authorization.role_assignments.list_for_subscription()
    assert not operator.resources.resource_groups.check_existence(group)
    assert not [resource for resource in operator.resources.resources.list() if group in resource.id]
    assert not [assignment for assignment in left if assignment.scope == storage.id]


def test_resources_are_found_by_their_tags(operator: Clients, group: str) -> None:
    body = {**STORAGE, "tags": {"owner": group}}
    name = operator.storage.storage_accounts.begin_create(group, unique("stor"), body).result().name
    found = operator.resources.resources.list(filter=f"tagName eq 'owner' and tagValue eq '{group}'")
    assert [resource.name for resource in found] == [name]


def test_storage_account_takes_its_time_and_comes_with_defaults(operator: Clients, group: str) -> None:
    poller = operator.storage.storage_accounts.begin_create(group, unique("stor"), STORAGE)
    assert not poller.done()
    properties = poller.result()
    assert properties.provisioning_state == "Succeeded"
    assert properties.access_tier == "Hot"
    assert properties.allow_shared_key_access is False
    assert properties.primary_endpoints.blob.endswith(f"/{properties.name}/")


def test_storage_account_name_belongs_to_one_group_only(operator: Clients, group: str) -> None:
    name = operator.storage.storage_accounts.begin_create(group, unique("stor"), STORAGE).result().name
    operator.resources.resource_groups.create_or_update(f"{group}-b", {"location": "eastus"})
    create = operator.storage.storage_accounts.begin_create
    assert refusal(create, f"{group}-b", name, STORAGE) == (409, "StorageAccountAlreadyTaken")
    assert operator.storage.storage_accounts.check_name_availability({"name": name}).name_available is False


def test_storage_account_update_replaces_tags_and_merges_properties(operator: Clients, group: str) -> None:
    accounts = operator.storage.storage_accounts
    body = {**STORAGE, "tags": {"a": "1"}, "properties": {"minimumTlsVersion": "TLS1_2"}}
    name = accounts.begin_create(group, unique("stor"), body).result().name
    changed = accounts.update(group, name, {"tags": {"b": "2"}, "properties": {"allowSharedKeyAccess": True}})
    assert changed.tags == {"b": "2"}
    assert (changed.minimum_tls_version, changed.allow_shared_key_access) == ("TLS1_2", True)


def test_container_made_through_arm_is_the_data_planes(azure: dict[str, str], operator: Clients, group: str) -> None:
    storage = operator.storage.storage_accounts.begin_create(group, unique("stor"), STORAGE).result()
    operator_id = next(iter(operator.authorization.role_assignments.list_for_subscription())).principal_id
    operator.role(storage.id, BLOB_CONTRIBUTOR, operator_id)
    operator.storage.blob_containers.create(group, storage.name, "scripts", {})
    with BlobServiceClient(storage.primary_endpoints.blob, ManagedIdentityCredential()) as blobs:
        assert [container.name for container in blobs.list_containers()] == ["scripts"]


def test_storage_keys_can_be_regenerated_one_by_one(operator: Clients, group: str) -> None:
    accounts = operator.storage.storage_accounts
    name = accounts.begin_create(group, unique("stor"), STORAGE).result().name
    before = {key["keyName"]: key["value"] for key in accounts.list_keys(group, name)["keys"]}
    regenerated = accounts.regenerate_key(group, name, {"keyName": "key1"})
    after = {key["keyName"]: key["value"] for key in regenerated["keys"]}
    assert before["key1"] != after["key1"]
    assert before["key2"] == after["key2"]


def test_batch_account_names_its_endpoint_and_quotas(azure: dict[str, str], operator: Clients, group: str) -> None:
    name = unique("batch")
    made = operator.batch.batch_account.begin_create(group, name, {"location": "eastus"}).result()
    assert f"https://{made.account_endpoint}" == f"{azure['LOCAL_AZURE_BATCH_URL']}/{name}"
    assert (made.dedicated_core_quota, made.active_job_and_job_schedule_quota) == (100, 100)
    assert set(made.allowed_authentication_modes) == {"AAD", "SharedKey", "TaskAuthenticationToken"}


def test_batch_account_put_is_empty_and_moves_its_location(
    azure: dict[str, str], operator: Clients, group: str
) -> None:
    path = f"resourceGroups/{group}/providers/Microsoft.Batch/batchAccounts/{unique('batch')}"
    made = ask("PUT", path, "2025-06-01", {"location": "eastus"})
    headers = {"Authorization": str(made.request.headers["Authorization"])}
    polled = requests.get(made.headers["Location"], headers=headers, timeout=10)
    assert (made.status_code, made.content, made.headers.get("Retry-After")) == (202, b"", None)
    assert (polled.status_code, polled.headers["Location"] == made.headers["Location"]) == (202, False)


def test_batch_account_with_entra_only_gives_no_keys(operator: Clients, group: str) -> None:
    body = {"location": "eastus", "properties": {"allowedAuthenticationModes": ["AAD"]}}
    name = operator.batch.batch_account.begin_create(group, unique("batch"), body).result().name
    assert refusal(operator.batch.batch_account.get_keys, group, name)[0] == 403


def test_auto_storage_must_exist(operator: Clients, group: str) -> None:
    scope = f"{operator.resources.resource_groups.get(group).id}/providers/Microsoft.Storage/storageAccounts/nothere"
    body = {"location": "eastus", "properties": {"autoStorage": {"storageAccountId": scope}}}
    create = operator.batch.batch_account.begin_create
    assert refusal(create, group, unique("batch"), body) == (400, "InvalidPropertyValue")


def test_identity_of_the_system_lives_and_dies_with_the_account(operator: Clients, group: str) -> None:
    body = {"location": "eastus", "identity": {"type": "SystemAssigned"}}
    made = operator.batch.batch_account.begin_create(group, unique("batch"), body).result()
    assert made.identity is not None
    scope = operator.resources.resource_groups.get(group).id
    operator.role(scope, READER, str(made.identity.principal_id))
    operator.batch.batch_account.begin_delete(group, made.name).result()
    gone = str(made.identity.principal_id)
    assert refusal(operator.role, scope, CONTRIBUTOR, gone) == (400, "PrincipalNotFound")


def test_pool_is_answered_with_defaults_and_other_letter_case(operator: Clients, group: str, account: str) -> None:
    pool = operator.batch.pool.create(group, account, "pool1", POOL)
    assert "/resourcegroups/" in str(pool.id)
    assert pool.vm_size == "STANDARD_D2S_V3"
    assert pool.task_slots_per_node == 1
    assert pool.task_scheduling_policy is not None
    assert pool.task_scheduling_policy.node_fill_type == "Spread"
    assert pool.scale_settings is not None
    assert pool.scale_settings.fixed_scale is not None
    assert str(pool.scale_settings.fixed_scale.resize_timeout) == "0:15:00"


@pytest.mark.parametrize(
    "changed",
    [
        {"vmSize": "Standard_Imaginary"},
        {"taskSlotsPerNode": 9},
        {"scaleSettings": {"autoScale": {"formula": "$TargetDedicatedNodes ="}}},
        {"deploymentConfiguration": {"virtualMachineConfiguration": {"imageReference": {"publisher": "nobody"}}}},
    ],
    ids=["size", "slots", "formula", "image"],
)
def test_pool_that_cannot_be_is_refused(operator: Clients, group: str, account: str, changed: dict[str, Any]) -> None:
    create = operator.batch.pool.create
    assert refusal(create, group, account, "pool1", pool_with(**changed)) == (400, "InvalidPropertyValue")


def test_pool_keeps_what_was_fixed_when_it_was_made(operator: Clients, group: str, account: str) -> None:
    operator.batch.pool.create(group, account, "pool1", POOL)
    other = pool_with(vmSize="Standard_D4s_v3")
    create, update = operator.batch.pool.create, operator.batch.pool.update
    assert refusal(create, group, account, "pool1", other) == (400, "PropertyCannotBeUpdated")
    identity = {"identity": assigned(new_identity(operator, group).id)}
    assert refusal(update, group, account, "pool1", identity) == (400, "PropertyCannotBeUpdated")


def test_same_pool_can_be_put_again(operator: Clients, group: str, account: str) -> None:
    made = operator.batch.pool.create(group, account, "pool1", POOL)
    again = operator.batch.pool.create(group, account, "Pool1", POOL)
    assert (again.id, again.creation_time) == (made.id, made.creation_time)


def test_pool_identity_must_exist(operator: Clients, group: str, account: str) -> None:
    gone = new_identity(operator, group).id
    operator.identities.user_assigned_identities.delete(group, "node")
    body = {**POOL, "identity": assigned(gone)}
    assert refusal(operator.batch.pool.create, group, account, "pool1", body)[0] == 400


def test_pool_answers_its_identities_with_their_ids(operator: Clients, group: str, account: str) -> None:
    identity = new_identity(operator, group)
    pool = operator.batch.pool.create(group, account, "pool1", {**POOL, "identity": assigned(identity.id.upper())})
    assert pool.identity is not None
    assert pool.identity.user_assigned_identities is not None
    assert pool.identity.user_assigned_identities[identity.id].client_id == identity.client_id


def test_handing_out_an_identity_needs_a_right_on_it(
    operator: Clients, application: tuple[Clients, str], group: str, account: str
) -> None:
    clients, object_id = application
    operator.role(operator.batch.batch_account.get(group, account).id, BATCH_DATA_CONTRIBUTOR, object_id)
    body = {**POOL, "identity": assigned(new_identity(operator, group).id)}
    assert refusal(clients.batch.pool.create, group, account, "pool1", body) == (403, "LinkedAuthorizationFailed")
    assert clients.batch.pool.create(group, account, "pool1", POOL).name == "pool1"


def test_pool_update_replaces_start_task_and_metadata(operator: Clients, group: str, account: str) -> None:
    operator.batch.pool.create(group, account, "pool1", POOL)
    start_task = {"commandLine": "/bin/true", "waitForSuccess": True}
    change = {"properties": {"startTask": start_task, "metadata": [{"name": "a", "value": "b"}]}}
    operator.batch.pool.update(group, account, "pool1", change)
    pool = operator.batch.pool.get(group, account, "pool1")
    assert pool.start_task is not None
    assert (pool.start_task.command_line, pool.metadata[0].name) == ("/bin/true", "a")


def test_pool_conditions_are_honoured(operator: Clients, group: str, account: str) -> None:
    made = operator.batch.pool.create(group, account, "pool1", POOL)
    with pytest.raises(HttpResponseError, match="PreconditionFailed"):
        operator.batch.pool.create(group, account, "pool1", POOL, match_condition=MatchConditions.IfMissing)
    operator.batch.pool.update(group, account, "pool1", {"properties": {"metadata": []}})
    with pytest.raises(ResourceModifiedError):
        operator.batch.pool.update(
            group, account, "pool1", {}, etag=made.etag, match_condition=MatchConditions.IfNotModified
        )


def test_deleted_pool_is_gone_when_the_operation_ends(operator: Clients, group: str, account: str) -> None:
    operator.batch.pool.create(group, account, "pool1", POOL)
    poller = operator.batch.pool.begin_delete(group, account, "pool1")
    assert operator.batch.pool.get(group, account, "pool1").provisioning_state == "Deleting"
    assert refusal(operator.batch.pool.create, group, account, "pool1", POOL) == (409, "PoolBeingDeleted")
    poller.result()
    with pytest.raises(ResourceNotFoundError):
        operator.batch.pool.get(group, account, "pool1")


def test_autoscale_can_be_switched_off(operator: Clients, group: str, account: str) -> None:
    formula = {"autoScale": {"formula": "$TargetDedicatedNodes = 0;"}}
    operator.batch.pool.create(group, account, "pool1", pool_with(scaleSettings=formula))
    pool = operator.batch.pool.disable_auto_scale(group, account, "pool1")
    assert pool.scale_settings is not None
    assert pool.scale_settings.auto_scale is None


def test_role_definition_is_found_by_its_name(operator: Clients, group: str) -> None:
    scope = operator.resources.resource_groups.get(group).id
    found = operator.authorization.role_definitions.list(scope, filter="roleName eq 'GeoCatalog Reader'")
    assert [role.name for role in found] == ["b7b8f583-43d0-40ae-b147-6b46f53661c1"]


def test_role_is_assigned_once_to_a_principal_and_scope(operator: Clients, group: str) -> None:
    scope, principal = operator.resources.resource_groups.get(group).id, new_identity(operator, group).principal_id
    made = operator.role(scope, READER, principal)
    assert operator.role(scope, READER, principal, made.name).id == made.id
    assert refusal(operator.role, scope, READER, principal) == (409, "RoleAssignmentExists")
    other = refusal(operator.role, scope, CONTRIBUTOR, principal, made.name)
    assert other == (400, "RoleAssignmentUpdateNotPermitted")


def test_unknown_principal_or_role_is_refused(operator: Clients, group: str) -> None:
    scope, principal = operator.resources.resource_groups.get(group).id, new_identity(operator, group).principal_id
    assert refusal(operator.role, scope, READER, str(uuid.uuid4())) == (400, "PrincipalNotFound")
    assert refusal(operator.role, scope, str(uuid.uuid4()), principal) == (404, "RoleDefinitionDoesNotExist")


def test_assignments_are_listed_by_principal_and_scope(operator: Clients, group: str) -> None:
    scope, principal = operator.resources.resource_groups.get(group).id, new_identity(operator, group).principal_id
    made = operator.role(scope, READER, principal)
    assignments = operator.authorization.role_assignments
    for text in (f"principalId eq '{principal}'", f"assignedTo('{principal}')"):
        assert [found.name for found in assignments.list_for_scope(scope, filter=text)] == [made.name]
    assert made.name in [found.name for found in assignments.list_for_subscription()]
    subscription = scope.rsplit("/", 2)[0]
    assert made.name not in [found.name for found in assignments.list_for_scope(subscription, filter="atScope()")]


def test_geocatalog_names_its_address(azure: dict[str, str], operator: Clients) -> None:
    found = operator.resources.resources.get_by_id(azure["LOCAL_AZURE_GEOCATALOG_ID"], api_version="2026-04-15")
    assert found.properties["catalogUri"] == azure["LOCAL_AZURE_GEOCATALOG_URL"]


def test_geocatalog_is_answered_as_recorded(azure: dict[str, str], operator: Clients, group: str) -> None:
    seeded = f"{azure['LOCAL_AZURE_ARM_URL']}{azure['LOCAL_AZURE_GEOCATALOG_ID']}?api-version=2026-04-15"
    own = f"/subscriptions/{azure['LOCAL_AZURE_SUBSCRIPTION_ID']}/resourceGroups/{group}/providers"
    made = f"{azure['LOCAL_AZURE_ARM_URL']}{own}/Microsoft.Orbital/geoCatalogs/another?api-version=2026-04-15"
    put = HttpRequest("PUT", made, json={"location": "eastus", "properties": {"tier": "Basic"}})
    for request in (HttpRequest("GET", seeded), put, HttpRequest("GET", made)):
        answer = operator.batch.send_request(request)
        found = answer.json()
        assert list(found) == ["id", "name", "type", "location", "tags", "systemData", "properties"]
        assert found["type"] == "microsoft.orbital/geocatalogs"
        assert list(found["properties"])[:3] == ["tier", "catalogUri", "provisioningState"]
        assert re.fullmatch('"[0-9a-f]{8}-0000-0100-0000-[0-9a-f]{8}0000"', answer.headers["ETag"])
