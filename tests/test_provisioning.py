"""What provisioning builds, and that it builds it once."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flow_runs import Site, unregister_providers

from local_azure.nodes.autoscale import Samples, Targets
from spatiobatch.changes import Change, Outcome
from spatiobatch.errors import ProvisioningError
from spatiobatch.names import MANAGED_BY, same_id
from spatiobatch.settings import ScriptAccess
from tasks.storage import SCRIPTS, TASK_SCRIPTS

ROLE_NAMES = {
    "b7b8f583-43d0-40ae-b147-6b46f53661c1": "GeoCatalog Reader",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "6aaa78f1-f7de-44ca-8722-c64a23943cae": "Azure Batch Data Contributor",
}


@dataclass(frozen=True)
class Built:
    """An environment, what its first provisioning said, and the clients to look at it with."""

    site: Site
    changes: list[Change]

    @property
    def where(self) -> tuple[str, str]:
        """Resource group and Batch account."""
        settings = self.site.azure.settings
        return settings.resource_group, settings.batch_account_name

    @property
    def storage(self) -> Any:
        """The storage account, as ARM answers it."""
        return self.site.azure.storage.storage_accounts.get_properties(
            self.where[0], self.site.azure.settings.storage_account_name
        )

    @property
    def account(self) -> Any:
        """The Batch account, as ARM answers it."""
        return self.site.azure.batch_management.batch_account.get(*self.where)

    @property
    def identity(self) -> Any:
        """The nodes' identity, as ARM answers it."""
        return self.site.azure.identities.user_assigned_identities.get(self.where[0], self.site.azure.settings.identity)

    def pool(self, name: str = "spatiobatch") -> Any:
        """A pool, as ARM answers it."""
        return self.site.azure.batch_management.pool.get(*self.where, name)


@pytest.fixture(scope="module")
def built(shared_site: Site) -> Built:
    site = shared_site.with_(resource_group="built", tags='{"team": "maps"}')
    unregister_providers(site)
    return Built(site, site.provision())


def test_first_provision_creates_everything(built: Built) -> None:
    kinds = {change.kind for change in built.changes if change.outcome is Outcome.created}
    assert kinds == {
        "resource provider",
        "resource group",
        "storage account",
        "identity",
        "Batch account",
        "role assignment",
        "blob container",
        "script",
        "pool",
    }


def test_second_provision_writes_nothing(built: Built) -> None:
    asked = built.site.now
    changes = built.site.provision()
    assert {change.outcome for change in changes} == {Outcome.unchanged}
    assert [(change.kind, change.name) for change in changes] == [(c.kind, c.name) for c in built.changes]
    assert built.site.writes(since=asked) == []


def test_storage_account_is_closed_to_keys_old_tls_and_the_public(built: Built) -> None:
    properties = built.storage.properties
    assert properties.minimum_tls_version == "TLS1_2"
    assert properties.enable_https_traffic_only
    assert not properties.allow_blob_public_access
    assert not properties.allow_shared_key_access


def test_batch_account_takes_entra_tokens_only(built: Built) -> None:
    assert built.account.properties.allowed_authentication_modes == ["AAD"]


def test_batch_account_reaches_its_storage_as_itself_and_nodes_as_their_identity(built: Built) -> None:
    linked = built.account.properties.auto_storage
    assert linked.authentication_mode == "BatchAccountManagedIdentity"
    assert same_id(linked.storage_account_id, built.storage.id)
    assert same_id(linked.node_identity_reference.resource_id, built.identity.id)
    assert built.account.identity.type == "SystemAssigned"


def test_everything_that_is_created_bears_the_configured_tags_and_ours(built: Built) -> None:
    tags = {"team": "maps", "managed-by": MANAGED_BY}
    group = built.site.azure.resources.resource_groups.get("built")
    assert [thing.tags for thing in (group, built.storage, built.account, built.identity)] == [tags] * 4
    assert tags.items() <= {item.name: item.value for item in built.pool().properties.metadata}.items()


def test_roles_are_exactly_those_needed(built: Built) -> None:
    azure = built.site.azure
    assignments = azure.authorization.role_assignments.list_for_subscription()
    made = {
        (ROLE_NAMES[a.role_definition_id.rsplit("/", 1)[-1]], a.principal_id, a.scope.lower())
        for a in assignments
        if a.description == f"Made by {MANAGED_BY}"
    }
    storage, batch = built.storage.id.lower(), built.account.id.lower()
    operator, nodes = azure.operator[0], built.identity.principal_id
    assert made == {
        ("Storage Blob Data Contributor", operator, storage),
        ("Azure Batch Data Contributor", operator, batch),
        ("Storage Blob Data Reader", nodes, f"{storage}/blobservices/default/containers/scripts"),
        ("Storage Blob Data Contributor", nodes, f"{storage}/blobservices/default/containers/results"),
        ("Storage Blob Data Contributor", built.account.identity.principal_id, storage),
        ("GeoCatalog Reader", nodes, azure.settings.geocatalog_id.lower()),
    }


def test_scripts_are_named_by_their_content(built: Built) -> None:
    container = built.site.azure.blobs(built.storage.properties.primary_endpoints.blob).get_container_client("scripts")
    blobs = {blob.name: container.download_blob(blob.name).readall() for blob in container.list_blobs()}
    assert sorted(blobs.values()) == sorted((SCRIPTS / name).read_bytes() for name in TASK_SCRIPTS)
    assert all(hashlib.sha256(content).hexdigest()[:16] in name for name, content in blobs.items())


def test_pool_has_the_identity_and_the_image_from_its_creation(built: Built) -> None:
    pool = built.pool()
    machine = pool.properties.deployment_configuration.virtual_machine_configuration
    image = machine.image_reference
    assert [same_id(name, built.identity.id) for name in pool.identity.user_assigned_identities] == [True]
    assert (image.publisher, image.offer, image.sku) == ("canonical", "ubuntu-24_04-lts", "server")
    assert machine.node_agent_sku_id == "batch.node.ubuntu 24.04"
    assert pool.properties.task_slots_per_node == 4


def test_start_task_is_elevated_and_waited_for(built: Built) -> None:
    start = built.pool().properties.start_task
    assert (SCRIPTS / "start_node.sh").read_text() in start.command_line
    assert (start.user_identity.auto_user.scope, start.user_identity.auto_user.elevation_level) == ("Pool", "Admin")
    assert start.wait_for_success


def test_second_pool_of_fixed_size_keeps_its_nodes(built: Built) -> None:
    site = built.site.with_(pool="fixed", pool_scaling="fixed", pool_nodes="2")
    site.provision()
    scale = built.pool("fixed").properties.scale_settings
    assert (scale.fixed_scale.target_dedicated_nodes, scale.fixed_scale.target_low_priority_nodes) == (2, 0)
    assert scale.auto_scale is None


@pytest.mark.parametrize("scaling", ["fixed", "autoscale"])
def test_spot_pool_has_spot_nodes_only(built: Built, scaling: str) -> None:
    name = f"spot-{scaling}"
    built.site.with_(pool=name, pool_spot="true", pool_scaling=scaling).provision()
    status = built.pool(name).properties.resize_operation_status
    assert (status.target_dedicated_nodes, status.target_low_priority_nodes) == (0, 1)


@pytest.mark.parametrize(("pending", "nodes"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (1000, 7)])
def test_formula_asks_for_one_node_per_slots_and_for_none_without_tasks(built: Built, pending: int, nodes: int) -> None:
    formula = _formula(built.site.with_(pool="scaled", pool_nodes="7"))
    samples, now = Samples(), datetime(2030, 1, 1, tzinfo=UTC)
    metrics = {"$PendingTasks": float(pending)}
    for age in range(300, 0, -5):
        samples.take(now - timedelta(seconds=age), metrics)
    assert samples.evaluate(formula, now, metrics, Targets(), 4).targets == Targets(nodes, 0, "taskcompletion")


def test_formula_starts_one_node_until_samples_are_in(built: Built) -> None:
    formula = _formula(built.site.with_(pool="scaled", pool_nodes="7"))
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert Samples().evaluate(formula, now, {"$PendingTasks": 0.0}, Targets(), 4).targets.dedicated == 1


def _formula(site: Site) -> str:
    """The formula as the pool bears it."""
    azure = site.azure
    where = (azure.settings.resource_group, azure.settings.batch_account_name)
    if "scaled" not in [pool.name for pool in azure.batch_management.pool.list_by_batch_account(*where)]:
        site.provision()
    return str(azure.batch_management.pool.get(*where, "scaled").properties.scale_settings.auto_scale.formula)


def test_scripts_can_be_fetched_by_a_read_only_signature_of_half_an_hour(built: Built) -> None:
    asked = built.site.now
    built.site.with_(pool="signed").provision(script_access=ScriptAccess.sas)
    signed = [request["url"] for request in built.site.requests(since=asked) if "sig=" in request["url"]]
    assert signed
    for url in signed:
        query = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
        assert (query["sp"], query["sr"]) == ("r", "b")
        assert datetime.fromisoformat(query["se"]) <= datetime.now(UTC) + timedelta(minutes=30)


def test_new_content_of_a_script_is_another_blob(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TASK_SCRIPTS, "start_node.sh"):
        (tmp_path / name).write_bytes((SCRIPTS / name).read_bytes())
    with (tmp_path / "list_collections.sh").open("a") as script:
        script.write("# another line\n")
    monkeypatch.setattr("tasks.storage.SCRIPTS", tmp_path)
    changes = [change for change in built.site.provision() if change.changed]
    assert [(change.kind, change.outcome) for change in changes] == [("script", Outcome.created)]
    assert changes[0].name.startswith("list_collections-")


def test_unknown_vm_size_is_one_sentence(built: Built) -> None:
    with pytest.raises(ProvisioningError, match=r"does not offer the VM size Standard_X9 in uksouth: set pool_vm_size"):
        built.site.with_(pool="odd", pool_vm_size="Standard_X9").provision()


def test_unknown_image_is_one_sentence(built: Built) -> None:
    with pytest.raises(ProvisioningError, match="does not support the image canonical/ubuntu-99/server: set pool"):
        built.site.with_(pool="odd", pool_image_offer="ubuntu-99").provision()


def test_image_whose_support_has_ended_is_one_sentence(built: Built) -> None:
    site = built.site.with_(pool="odd", pool_image_offer="0001-com-ubuntu-server-focal", pool_image_sku="20_04-lts")
    with pytest.raises(ProvisioningError, match="20_04-lts ended on 2025-04-23: set"):
        site.provision()


def test_unknown_geocatalog_is_one_sentence_before_anything_is_made(site: Site) -> None:
    asked = site.now
    known = site.variables["LOCAL_AZURE_GEOCATALOG_ID"]
    with pytest.raises(ProvisioningError, match=r"There is no GeoCatalog .*/nowhere: set geocatalog_id"):
        site.with_(geocatalog_id=f"{known.rsplit('/', 1)[0]}/nowhere").provision()
    assert site.writes(since=asked) == []


def test_name_that_azure_refuses_is_refused_before_anything_is_asked(site: Site) -> None:
    with pytest.raises(Exception, match=r"3 to 24 lower-case letters and digits"):
        site.with_(storage_account="Not-A-Name").provision()


@pytest.mark.parametrize("setting", ["storage_account", "batch_account"])
def test_account_name_of_somebody_else_is_one_sentence(built: Built, site: Site, setting: str) -> None:
    taken = built.where[1]
    with pytest.raises(ProvisioningError, match=f"account name {taken} cannot be had: .* Set another {setting}"):
        site.with_(**{setting: taken}).provision()
