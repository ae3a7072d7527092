"""A Batch account with pools and jobs for tests, through the SDKs as anybody would make them."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from azure.batch import BatchClient
from azure.batch.models import BatchNode, BatchTask
from azure.identity import ManagedIdentityCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.batch import BatchManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.resource.resources import ResourceManagementClient
from storage_accounts import assign_role

Found = TypeVar("Found")

GROUP = "nodes"
_DATA_CONTRIBUTOR = "6aaa78f1-f7de-44ca-8722-c64a23943cae"
_IMAGE = {
    "virtualMachineConfiguration": {
        "imageReference": {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"},
        "nodeAgentSkuId": "batch.node.ubuntu 24.04",
    }
}


@dataclass(frozen=True)
class Batch:
    """One Batch account, and the clients that reach it."""

    settings: dict[str, str]
    account: str
    management: BatchManagementClient
    client: BatchClient

    def pool(self, **properties: Any) -> str:
        """Create a pool of one node, unless `scaleSettings` say otherwise; its id."""
        pool = f"pool{uuid.uuid4().hex[:8]}"
        identities = properties.pop("identities", [])
        body: dict[str, Any] = {
            "properties": {
                "vmSize": "Standard_D2s_v3",
                "deploymentConfiguration": _IMAGE,
                "scaleSettings": fixed(1),
                **properties,
            }
        }
        if identities:
            assigned: dict[str, Any] = {identity: {} for identity in identities}
            body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": assigned}
        self.management.pool.create(GROUP, self.account, pool, body)
        return pool

    def scale(self, pool: str, **settings: Any) -> None:
        """Change a pool's scale settings."""
        self.management.pool.update(GROUP, self.account, pool, {"properties": {"scaleSettings": settings}})

    def job(self, pool: str, **settings: Any) -> str:
        """Create a job on a pool; its id."""
        job = f"job{uuid.uuid4().hex[:8]}"
        self.client.create_job({"id": job, "poolInfo": {"poolId": pool}, **settings})
        return job

    def start(self, job: str, command: str, **settings: Any) -> str:
        """Create a task that runs a line of bash; its id."""
        task = f"task{uuid.uuid4().hex[:8]}"
        line = f"/bin/bash -c '{command}'"
        self.client.create_task(job, {"id": task, "commandLine": line, **settings})
        return task

    def ended(self, job: str, task: str) -> BatchTask:
        """The task when it has completed."""
        return until(lambda: self.client.get_task(job, task), lambda found: found.state == "completed")

    def running(self, job: str, task: str) -> BatchTask:
        """The task when its process runs."""
        return until(lambda: self.client.get_task(job, task), lambda found: found.state == "running")

    def run(self, job: str, command: str, **settings: Any) -> BatchTask:
        """Create a task and wait for its end."""
        return self.ended(job, self.start(job, command, **settings))

    def output(self, job: str, task: str, name: str = "stdout.txt") -> str:
        """A file of a task."""
        return b"".join(self.client.download_task_file(job, task, name)).decode()

    def node_file(self, pool: str, node: str, name: str) -> str:
        """A file of a node."""
        return b"".join(self.client.download_node_file(pool, node, name)).decode()

    def nodes(self, pool: str, count: int, *states: str) -> list[BatchNode]:
        """The pool's nodes, when there are so many of them and all in one of these states."""
        return until(
            lambda: list(self.client.list_nodes(pool)),
            lambda found: len(found) == count and all(node.state in (states or ("idle",)) for node in found),
        )


def fixed(dedicated: int, spot: int = 0) -> dict[str, Any]:
    """`scaleSettings` with so many nodes."""
    return {"fixedScale": {"targetDedicatedNodes": dedicated, "targetLowPriorityNodes": spot}}


def until(look: Callable[[], Found], right: Callable[[Found], bool], seconds: float = 30) -> Found:
    """What `look` finds as soon as it is right."""
    deadline = time.monotonic() + seconds
    while not right(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@contextmanager
def batch_account(azure: dict[str, str], name: str = "nodetests") -> Iterator[Batch]:
    """An account on which the operator may do everything."""
    subscription = azure["LOCAL_AZURE_SUBSCRIPTION_ID"]
    arm = {
        "base_url": azure["LOCAL_AZURE_ARM_URL"],
        "credential_scopes": ["https://management.azure.com/.default"],
        "polling_interval": 0.1,
    }
    with (
        ManagedIdentityCredential() as credential,
        BatchManagementClient(credential, subscription, **arm) as management,
    ):
        with ResourceManagementClient(credential, subscription, **arm) as resources:
            resources.resource_groups.create_or_update(GROUP, {"location": "westeurope"})
        body = {"location": "westeurope", "properties": {"allowedAuthenticationModes": ["AAD"]}}
        known = [account.name for account in management.batch_account.list_by_resource_group(GROUP)]
        account = management.batch_account.begin_create(GROUP, name, body).result()
        if name not in known:
            assign_role(azure, str(account.id), _DATA_CONTRIBUTOR)
        scopes = ["https://batch.core.windows.net//.default"]
        with BatchClient(f"https://{account.account_endpoint}", credential, credential_scopes=scopes) as client:
            yield Batch(azure, name, management, client)


def user_identity(azure: dict[str, str], scope: str, role: str) -> str:
    """A user-assigned identity with a role; its ARM id."""
    subscription = azure["LOCAL_AZURE_SUBSCRIPTION_ID"]
    arm = {
        "base_url": azure["LOCAL_AZURE_ARM_URL"],
        "credential_scopes": ["https://management.azure.com/.default"],
    }
    with ManagedIdentityCredential() as credential:
        with ManagedServiceIdentityClient(credential, subscription, **arm) as client:
            name = f"id{uuid.uuid4().hex[:8]}"
            identity = client.user_assigned_identities.create_or_update(GROUP, name, {"location": "westeurope"})
        definition = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"
        assignment = {
            "roleDefinitionId": definition,
            "principalId": identity.principal_id,
            "principalType": "ServicePrincipal",
        }
        with AuthorizationManagementClient(credential, subscription, **arm) as client:
            client.role_assignments.create(scope, str(uuid.uuid4()), assignment)
    return str(identity.id)
