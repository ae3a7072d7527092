"""The built-in roles that this project's users meet, as Azure defines them.

https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from local_azure.identity.access import Role

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers"
_DELEGATION = "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"
_GEOCATALOG = "Microsoft.Orbital/geoCatalogs"

_BUILT_IN = (
    Role("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", actions=("*",)),
    Role(
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Contributor",
        actions=("*",),
        not_actions=(
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ),
    ),
    Role("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", actions=("*/read",)),
    Role(
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        actions=("*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"),
    ),
    Role(
        "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
        "Role Based Access Control Administrator",
        actions=(
            "Microsoft.Authorization/roleAssignments/write",
            "Microsoft.Authorization/roleAssignments/delete",
            "*/read",
            "Microsoft.Support/*",
        ),
    ),
    Role(
        "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        "Storage Blob Data Contributor",
        actions=(f"{_BLOBS}/delete", f"{_BLOBS}/read", f"{_BLOBS}/write", _DELEGATION),
        data_actions=tuple(
            f"{_BLOBS}/blobs/{verb}" for verb in ("delete", "read", "write", "move/action", "add/action")
        ),
    ),
    Role(
        "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
        "Storage Blob Data Reader",
        actions=(f"{_BLOBS}/read", _DELEGATION),
        data_actions=(f"{_BLOBS}/blobs/read",),
    ),
    Role(
        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
        "Storage Blob Data Owner",
        actions=(f"{_BLOBS}/*", _DELEGATION),
        data_actions=(f"{_BLOBS}/blobs/*",),
    ),
    Role("db58b8e5-c6ad-4a2a-8342-4190687cbf4a", "Storage Blob Delegator", actions=(_DELEGATION,)),
    Role(
        "29fe4964-1e60-436b-bd3a-77fd4c178b3c",
        "Azure Batch Account Contributor",
        actions=(
            "Microsoft.Authorization/*/read",
            "Microsoft.Batch/*",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ),
        data_actions=("Microsoft.Batch/*",),
    ),
    Role(
        "11076f67-66f6-4be0-8f6b-f0609fd05cc9",
        "Azure Batch Account Reader",
        actions=(
            "Microsoft.Batch/*/read",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ),
        data_actions=("Microsoft.Batch/*/read",),
    ),
    Role(
        "6aaa78f1-f7de-44ca-8722-c64a23943cae",
        "Azure Batch Data Contributor",
        actions=(
            "Microsoft.Authorization/*/read",
            "Microsoft.Batch/batchAccounts/read",
            "Microsoft.Batch/batchAccounts/applications/*",
            "Microsoft.Batch/batchAccounts/certificates/*",
            "Microsoft.Batch/batchAccounts/certificateOperationResults/*",
            "Microsoft.Batch/batchAccounts/pools/*",
            "Microsoft.Batch/batchAccounts/poolOperationResults/*",
            "Microsoft.Batch/locations/*/read",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ),
        data_actions=("Microsoft.Batch/batchAccounts/jobs/*", "Microsoft.Batch/batchAccounts/jobSchedules/*"),
    ),
    Role(
        "48e5e92e-a480-4e71-aa9c-2778f4c13781",
        "Azure Batch Job Submitter",
        actions=(
            "Microsoft.Batch/batchAccounts/applications/read",
            "Microsoft.Batch/batchAccounts/applications/versions/read",
            "Microsoft.Batch/batchAccounts/pools/read",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ),
        data_actions=("Microsoft.Batch/batchAccounts/jobs/*", "Microsoft.Batch/batchAccounts/jobSchedules/*"),
    ),
    Role(
        "f1a07417-d97a-45cb-824c-7a7467783830",
        "Managed Identity Operator",
        actions=(
            "Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
            "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action",
            "Microsoft.ManagedIdentity/userAssignedIdentities/read",
            "Microsoft.Authorization/*/read",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Support/*",
        ),
    ),
    Role(
        "c9c97b9c-105d-4bb5-a2a7-7d15666c2484",
        "GeoCatalog Administrator",
        actions=(f"{_GEOCATALOG}/read",),
        data_actions=(f"{_GEOCATALOG}/*",),
    ),
    Role(
        "b7b8f583-43d0-40ae-b147-6b46f53661c1",
        "GeoCatalog Reader",
        actions=(f"{_GEOCATALOG}/read",),
        data_actions=(f"{_GEOCATALOG}/*/read",),
    ),
)

BUILT_IN_ROLES = {role.guid: role for role in _BUILT_IN}
"""The role definitions by GUID."""
