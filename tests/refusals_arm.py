"""Refusals of Azure Resource Manager."""

import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from refusals import Refusal
from world import ARM, BLOB, CONTRIBUTOR, READER, Answer, World, send

_TOKENS = "https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens"
_ACCESS = "https://learn.microsoft.com/azure/role-based-access-control/troubleshooting"
_SCOPES = "https://learn.microsoft.com/azure/role-based-access-control/scope-overview"
_PROVIDERS = "https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-register-resource-provider"
_NOT_FOUND = "https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-not-found"
_COMMON = "https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors"
_NAMES = "https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-storage-account-name"
_BATCH_KEYS = "https://learn.microsoft.com/rest/api/batchmanagement/batch-account/get-keys"
_POOLS = "https://learn.microsoft.com/rest/api/batchmanagement/pool/update"

_GROUPS, _STORAGE, _BATCH = "2025-04-01", "2025-06-01", "2025-06-01"
_ACCOUNT = {"location": "westeurope", "sku": {"name": "Standard_LRS"}, "kind": "StorageV2"}
_OWN = "resourceGroups/blobs"


def _subscription(world: World, token: str) -> Answer:
    return world.arm("GET", world.subscription, "2022-12-01", by=token)


def _group(world: World, method: str, group: str, **options: Any) -> Answer:
    return world.arm(method, f"{world.subscription}/resourceGroups/{group}", _GROUPS, **options)


def _as(role: str, scope: str, method: str, path: str, version: str, **options: Any) -> Any:
    """A request of somebody who holds that role there; paths are below the subscription."""

    def call(world: World) -> Answer:
        somebody = world.somebody(role, f"{world.subscription}/{scope}".rstrip("/"))
        return world.arm(method, f"{world.subscription}/{path}", version, by=somebody.token(ARM), **options)

    return call


def _removed(world: World) -> Answer:
    somebody = world.somebody()
    token = somebody.token(ARM)
    graph = f"{world.settings['LOCAL_AZURE_LOGIN_URL']}/v1.0/servicePrincipals/{somebody.object_id}"
    send("DELETE", graph, headers={"Authorization": f"Bearer {world.operator('https://graph.microsoft.com')}"})
    return _subscription(world, token)


def _assigns(world: World) -> Answer:
    somebody = world.somebody(CONTRIBUTOR, f"{world.subscription}/{_OWN}")
    return world.assign(READER, f"{world.subscription}/{_OWN}", somebody.object_id, by=somebody.token(ARM))


def _twice(world: World) -> Answer:
    somebody = world.somebody(READER, world.subscription)
    return world.assign(READER, world.subscription, somebody.object_id)


def _hands_out(world: World) -> Answer:
    """A contributor of the Batch account puts an identity on a pool that he may not hand out."""
    identity = f"{world.subscription}/resourceGroups/nodes/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
    world.arm("PUT", identity, "2024-11-30", json={"location": "westeurope"})
    somebody = world.somebody(CONTRIBUTOR, world.batch_id)
    body = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}, **_pool()}
    return world.arm("PUT", f"{world.batch_id}/pools/taken", _BATCH, by=somebody.token(ARM), json=body)


def _pool() -> dict[str, Any]:
    image = {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"}
    machine = {"imageReference": image, "nodeAgentSkuId": "batch.node.ubuntu 24.04"}
    return {
        "properties": {
            "vmSize": "Standard_D2s_v3",
            "deploymentConfiguration": {"virtualMachineConfiguration": machine},
            "scaleSettings": {"fixedScale": {"targetDedicatedNodes": 0}},
        }
    }


def _stale(world: World) -> Answer:
    pool = f"{world.batch_id}/pools/arm"
    world.arm("PUT", pool, _BATCH, json=_pool())
    return world.arm("PATCH", pool, _BATCH, json={"properties": {}}, headers={"If-Match": '"0x1"'})


def _unregistered(world: World) -> Answer:
    provider = f"{world.subscription}/providers/Microsoft.ManagedIdentity"
    identity = f"{world.subscription}/resourceGroups/nodes/{provider.split('/', 3)[3]}/userAssignedIdentities/u"
    world.arm("POST", f"{provider}/unregister", _GROUPS)
    try:
        return world.arm("PUT", identity, "2024-11-30", json={"location": "westeurope"})
    finally:
        world.arm("POST", f"{provider}/register", _GROUPS)


def _storage(group: str, account: str) -> str:
    return f"resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}"


def _changed(token: str) -> str:
    """The token with another object id and the old signature."""
    head, _, signature = token.split(".")
    claims = {**jwt.decode(token, options={"verify_signature": False}), "oid": str(uuid.uuid4())}
    return f"{head}.{jwt.encode(claims, 'x' * 32, algorithm='HS256').split('.')[1]}.{signature}"


ROWS = [
    Refusal(
        "ARM without a token",
        lambda w: send("GET", f"{w.settings['LOCAL_AZURE_ARM_URL']}{w.subscription}?api-version=2022-12-01"),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token for storage",
        lambda w: _subscription(w, w.operator(BLOB)),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token that has expired",
        lambda w: _subscription(w, w.forged(ARM, exp=1)),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token that is not valid yet",
        lambda w: _subscription(w, w.forged(ARM, nbf=32503680000)),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token that another key has signed",
        lambda w: _subscription(w, w.forged(ARM, rsa.generate_private_key(public_exponent=65537, key_size=2048))),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token that nobody has signed",
        lambda w: _subscription(w, w.forged(ARM, "", "none")),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token that a shared secret has signed",
        lambda w: _subscription(w, w.forged(ARM, "a secret of thirty-two bytes at least", "HS256")),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token that another tenant has issued",
        lambda w: _subscription(w, w.forged(ARM, iss=f"https://sts.windows.net/{uuid.uuid4()}/")),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal(
        "ARM with a token whose payload was changed",
        lambda w: _subscription(w, _changed(w.operator(ARM))),
        401,
        "AuthenticationFailed",
        _TOKENS,
    ),
    Refusal("ARM with the token of somebody who was removed", _removed, 401, "AuthenticationFailed", _TOKENS),
    Refusal(
        "somebody without a role who reads a group",
        lambda w: _group(w, "GET", "blobs", by=w.somebody().token(ARM)),
        403,
        "AuthorizationFailed",
        _ACCESS,
    ),
    Refusal(
        "a Reader who creates a resource group",
        _as(READER, "", "PUT", "resourceGroups/new", _GROUPS, json={"location": "westeurope"}),
        403,
        "AuthorizationFailed",
        _ACCESS,
    ),
    Refusal("a Contributor who assigns a role", _assigns, 403, "AuthorizationFailed", _ACCESS),
    Refusal(
        "a Reader who asks for the keys of a storage account",
        _as(READER, "", "POST", f"{_storage('blobs', 'keyed')}/listKeys", _STORAGE),
        403,
        "AuthorizationFailed",
        "https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/general#reader",
    ),
    Refusal(
        "a role on a sibling group",
        _as(CONTRIBUTOR, _OWN, "GET", "resourceGroups/nodes", _GROUPS),
        403,
        "AuthorizationFailed",
        _SCOPES,
    ),
    Refusal(
        "a role on a sibling whose name begins alike",
        _as(CONTRIBUTOR, "resourceGroups/node", "GET", "resourceGroups/nodes", _GROUPS),
        403,
        "AuthorizationFailed",
        _SCOPES,
    ),
    Refusal(
        "a role on a resource, used on its group",
        _as(CONTRIBUTOR, _storage("blobs", "keyed"), "GET", _OWN, _GROUPS),
        403,
        "AuthorizationFailed",
        _SCOPES,
    ),
    Refusal("a pool with an identity that one may not hand out", _hands_out, 403, "LinkedAuthorizationFailed", _ACCESS),
    Refusal(
        "the keys of a Batch account that takes none",
        lambda w: w.arm("POST", f"{w.batch_id}/listKeys", _BATCH),
        403,
        "SharedKeyAuthenticationDisabled",
        _BATCH_KEYS,
    ),
    Refusal(
        "a subscription that does not exist",
        lambda w: w.arm("GET", f"/subscriptions/{uuid.uuid4()}/resourceGroups/blobs", _GROUPS),
        404,
        "SubscriptionNotFound",
        _COMMON,
    ),
    Refusal(
        "a resource group that does not exist",
        lambda w: _group(w, "GET", "nowhere"),
        404,
        "ResourceGroupNotFound",
        _NOT_FOUND,
    ),
    Refusal(
        "a resource that does not exist",
        lambda w: w.arm("GET", f"{w.subscription}/{_storage('blobs', 'nothere')}", _STORAGE),
        404,
        "ResourceNotFound",
        _NOT_FOUND,
    ),
    Refusal(
        "a role that does not exist",
        lambda w: w.assign(str(uuid.uuid4()), w.subscription, w.operator_id),
        404,
        "RoleDefinitionDoesNotExist",
        _ACCESS,
    ),
    Refusal("a provider that is not registered", _unregistered, 409, "MissingSubscriptionRegistration", _PROVIDERS),
    Refusal("a role assignment that is there already", _twice, 409, "RoleAssignmentExists", _ACCESS),
    Refusal(
        "a role for a principal that does not exist",
        lambda w: w.assign(READER, w.subscription, str(uuid.uuid4())),
        400,
        "PrincipalNotFound",
        _ACCESS,
    ),
    Refusal(
        "a resource group that moves",
        lambda w: _group(w, "PUT", "blobs", json={"location": "eastus"}),
        409,
        "InvalidResourceGroupLocation",
        _COMMON,
    ),
    Refusal(
        "the name of a storage account that somebody has",
        lambda w: w.arm("PUT", f"{w.subscription}/{_storage('nodes', 'keyed')}", _STORAGE, json=_ACCOUNT),
        409,
        "StorageAccountAlreadyTaken",
        _NAMES,
    ),
    Refusal("a pool that changed since it was read", _stale, 412, "PreconditionFailed", _POOLS),
]
"""Every row: what is refused, the request, status, code, page."""
