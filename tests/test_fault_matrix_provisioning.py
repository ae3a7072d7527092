"""Every step of provisioning under every kind of fault: it comes to the right end, or to one clear error."""

from collections.abc import Iterator

import pytest
from fault_cases import Case, drawn, losing
from fault_matrix import Stage, Step, Taken, flags, judge_case, services
from fault_report import Tally
from flow_runs import running_site
from prefect.logging import disable_run_logger

from tasks.batch_account import check_quota, ensure_batch_account
from tasks.environment import pool_metadata, read_environment
from tasks.identity import ensure_identity
from tasks.nodes import wait_for_node
from tasks.pool import ensure_pool
from tasks.probe import _folder, probed
from tasks.resource_group import ensure_resource_group
from tasks.roles import Grant, ensure_role
from tasks.storage import TASK_SCRIPTS, ensure_containers, ensure_storage_account, upload_scripts


def resource_group(stage: Stage) -> Taken:
    azure = stage.with_("resource_group")
    return Taken(ensure_resource_group, (azure,), lambda _: not ensure_resource_group.fn(azure).changed)


def storage_account(stage: Stage) -> Taken:
    azure = stage.with_("storage_account")
    return Taken(ensure_storage_account, (azure,), lambda _: not ensure_storage_account.fn(azure)[0].changed)


def identity(stage: Stage) -> Taken:
    azure = stage.with_("identity")
    return Taken(ensure_identity, (azure,), lambda _: not ensure_identity.fn(azure)[0].changed)


def batch_account(stage: Stage) -> Taken:
    azure = stage.with_("batch_account")
    settings = azure.settings
    storage = settings.arm_id("Microsoft.Storage/storageAccounts", settings.storage_account_name)
    arguments = (azure, storage, stage.environment.identity_id)
    return Taken(ensure_batch_account, arguments, lambda _: not ensure_batch_account.fn(*arguments)[0].changed)


def quota(stage: Stage) -> Taken:
    azure = stage.with_("pool")
    settings = azure.settings
    account = stage.site.azure.batch_management.batch_account.get(settings.resource_group, settings.batch_account_name)
    return Taken(check_quota, (azure, account), lambda answer: answer is None)


def role(stage: Stage) -> Taken:
    azure = stage.with_("resource_group")
    ensure_resource_group.fn(azure)
    grant = Grant("Storage Blob Data Contributor", *azure.operator, azure.settings.arm_id())
    return Taken(ensure_role, (azure, grant), lambda _: not ensure_role.fn(azure, grant).changed)


def containers(stage: Stage) -> Taken:
    azure = stage.with_("results_container")
    arguments = (azure, azure.settings.storage_account_name)
    return Taken(
        ensure_containers, arguments, lambda _: not any(change.changed for change in ensure_containers.fn(*arguments))
    )


def scripts(stage: Stage) -> Taken:
    azure = stage.with_("scripts_container")
    ensure_containers.fn(azure, azure.settings.storage_account_name)
    container = azure.blobs(stage.environment.blob_endpoint).get_container_client(stage.case)
    arguments = (azure, stage.environment.blob_endpoint)
    return Taken(upload_scripts, arguments, lambda _: len(list(container.list_blobs())) == len(TASK_SCRIPTS))


def _pool(stage: Stage) -> Taken:
    azure = stage.with_("pool", pool_nodes=0, pool_scaling="fixed")
    there = stage.environment
    metadata = pool_metadata(there.blob_endpoint, there.geocatalog_url)
    arguments = (azure, there.batch_endpoint, there.identity_id, metadata)
    return Taken(ensure_pool, arguments, lambda _: not ensure_pool.fn(*arguments).changed)


def environment(stage: Stage) -> Taken:
    made = _pool(stage)
    ensure_pool.fn(*made.arguments)
    return Taken(read_environment, made.arguments[:1], lambda found: found == stage.environment)


def node(stage: Stage) -> Taken:
    made = _pool(stage)
    ensure_pool.fn(*made.arguments)
    return Taken(wait_for_node, made.arguments[:2], lambda answer: answer is None)


def earlier_probe(stage: Stage) -> Taken:
    azure = stage.with_("results_container")
    ensure_containers.fn(azure, azure.settings.storage_account_name)
    container = azure.blobs(stage.environment.blob_endpoint).get_container_client(stage.case)
    log = f"{_folder(stage.environment)}/stdout.txt"
    container.upload_blob(log, b'{"storage": "ok", "geocatalog": "ok"}')
    return Taken(probed, (azure, stage.environment), lambda answer: answer is True)


STEPS: dict[str, Step] = {
    "resource-group": ("service=arm,path=/resource[gG]roups/CASE$", resource_group),
    "storage-account": ("service=arm,path=/storageAccounts/CASE", storage_account),
    "identity": ("service=arm,path=/userAssignedIdentities/CASE", identity),
    "batch-account": ("service=arm,path=/batchAccounts/CASE", batch_account),
    "quota": ("service=arm,path=/pools/CASE$", quota),
    "role": ("service=arm,path=/CASE/providers/Microsoft.Authorization/", role),
    "containers": ("service=arm,path=/containers/CASE", containers),
    "scripts": ("service=blob,method=PUT,path=/CASE/", scripts),
    "pool": ("service=arm,path=/pools/CASE$", _pool),
    "environment": ("service=arm,path=/pools/CASE$,after=2", environment),
    "node": ("service=batch,path=/pools/CASE/nodes", node),
    "earlier-probe": ("service=blob,method=GET,path=/CASE/", earlier_probe),
}
WRITES: dict[str, Step] = {
    "new-resource-group": ("service=arm,method=PUT,path=/resource[gG]roups/CASE$", resource_group),
    "new-storage-account": ("service=arm,method=PUT,path=/storageAccounts/CASE$", storage_account),
    "new-identity": ("service=arm,method=PUT,path=/userAssignedIdentities/CASE$", identity),
    "new-batch-account": ("service=arm,method=PUT,path=/batchAccounts/CASE$", batch_account),
    "new-role": ("service=arm,method=PUT,path=/CASE/providers/Microsoft.Authorization/", role),
    "new-container": ("service=arm,method=PUT,path=/containers/CASE$", containers),
    "new-pool": ("service=arm,method=PUT,path=/pools/CASE$", _pool),
    "new-script": ("service=blob,method=PUT,path=/CASE/", scripts),
}
"""Those of them whose answers get lost."""
CASES = drawn(services(STEPS)) + losing(WRITES)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Stage]:
    faults = flags(CASES, STEPS | WRITES)
    folder = tmp_path_factory.mktemp("site")
    with running_site(folder, "--clock", "instant", *faults, resource_group="matrix") as site:
        site.provision()
        with site.environment(), disable_run_logger():
            yield Stage(site, read_environment.fn(site.azure), "")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_step_of_provisioning_ends_well_or_in_one_clear_error(case: Case, stage: Stage, tally: Tally) -> None:
    judge_case(STEPS | WRITES, case, stage, tally)
