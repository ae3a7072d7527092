"""Drift: what Azure changes in place is brought back, and only that; the rest is named."""

from typing import Any

import pytest
from azure.mgmt.batch.models import (
    AutoUserSpecification,
    BatchAccountUpdateParameters,
    BatchAccountUpdateProperties,
    MetadataItem,
    Pool,
    PoolProperties,
    StartTask,
    UserIdentity,
)
from azure.mgmt.msi.models import IdentityUpdate
from azure.mgmt.storage.models import StorageAccountPropertiesUpdateParameters, StorageAccountUpdateParameters
from flow_runs import Site

from spatiobatch.changes import Change
from spatiobatch.errors import PoolDriftError


@pytest.fixture(scope="module")
def built(shared_site: Site) -> Site:
    """An environment that each test leaves as the settings want it."""
    site = shared_site.with_(resource_group="drifting")
    site.provision()
    return site


def changed(changes: list[Change]) -> list[str]:
    """What was written, in words."""
    return [f"{change.outcome} {change.kind}: {change.detail}" for change in changes if change.changed]


def where(site: Site) -> tuple[str, str]:
    settings = site.azure.settings
    return settings.resource_group, settings.batch_account_name


def pool_of(site: Site) -> Any:
    return site.azure.batch_management.pool.get(*where(site), site.azure.settings.pool).properties


def patch_pool(site: Site, **properties: Any) -> None:
    site.azure.batch_management.pool.update(
        *where(site), site.azure.settings.pool, Pool(properties=PoolProperties(**properties))
    )


def test_storage_account_opened_to_the_public_is_closed_again(built: Site) -> None:
    accounts = built.azure.storage.storage_accounts
    name = (built.azure.settings.resource_group, built.azure.settings.storage_account_name)
    opened = StorageAccountPropertiesUpdateParameters(allow_blob_public_access=True, minimum_tls_version="TLS1_0")
    accounts.update(*name, StorageAccountUpdateParameters(properties=opened))
    assert changed(built.provision()) == ["updated storage account: minimum_tls_version, allow_blob_public_access"]
    properties = accounts.get_properties(*name).properties
    assert (properties.allow_blob_public_access, properties.minimum_tls_version) == (False, "TLS1_2")


def test_batch_account_opened_to_keys_is_closed_again(built: Site) -> None:
    accounts = built.azure.batch_management.batch_account
    opened = BatchAccountUpdateProperties(allowed_authentication_modes=["AAD", "SharedKey"])
    accounts.update(*where(built), BatchAccountUpdateParameters(properties=opened))
    assert changed(built.provision()) == ["updated Batch account: authentication modes"]
    assert accounts.get(*where(built)).properties.allowed_authentication_modes == ["AAD"]


def test_tag_that_was_changed_is_brought_back_and_those_of_others_stay(built: Site) -> None:
    azure = built.azure
    group = azure.settings.resource_group
    tags = {**azure.settings.all_tags, "theirs": "kept"}
    azure.identities.user_assigned_identities.update(group, azure.settings.identity, IdentityUpdate(tags=tags))
    assert changed(built.with_(tags='{"team": "maps"}').provision()) == [
        "updated resource group: tags team",
        "updated storage account: team",
        "updated identity: tags team",
        "updated Batch account: team",
        "updated pool: metadata",
    ]
    found = azure.identities.user_assigned_identities.get(group, azure.settings.identity).tags
    assert found == {**tags, "team": "maps"}
    built.provision()


def test_only_what_has_drifted_is_written(built: Site) -> None:
    patch_pool(built, metadata=[MetadataItem(name="managed-by", value="spatiobatch")])
    asked = built.now
    assert changed(built.provision()) == ["updated pool: metadata"]
    (written,) = [line for line in built.writes(since=asked) if built.variables["LOCAL_AZURE_ARM_URL"] in line]
    assert written.startswith("PATCH ")
    assert "/pools/spatiobatch?" in written


def test_scale_is_changed_in_place(built: Site) -> None:
    for scale in ({"pool_scaling": "fixed"}, {"pool_scaling": "fixed", "pool_nodes": "2"}, {}):
        assert changed(built.with_(**scale).provision()) == ["updated pool: scale"]
    assert pool_of(built).scale_settings.auto_scale


def test_start_task_is_changed_in_place(built: Site) -> None:
    plain = UserIdentity(auto_user=AutoUserSpecification(scope="Task", elevation_level="NonAdmin"))
    patch_pool(built, start_task=StartTask(command_line="/bin/true", user_identity=plain))
    assert changed(built.provision()) == ["updated pool: start task"]
    assert pool_of(built).start_task.user_identity.auto_user.elevation_level == "Admin"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pool_vm_size": "Standard_D4s_v3"}, "VM size is standard_d2s_v3, wanted standard_d4s_v3"),
        ({"pool_task_slots": "2"}, "task slots per node is 4, wanted 2"),
        ({"identity": "others"}, r"identity is \['[^']*spatiobatch-nodes'\], wanted \['[^']*others'\]"),
        ({"pool_public_addresses": "false"}, "public addresses is True, wanted False"),
        (
            {"pool_image_offer": "0001-com-ubuntu-server-jammy", "pool_image_sku": "22_04-lts"},
            "image is canonical/ubuntu-24_04-lts/server, wanted canonical/0001-com-ubuntu-server-jammy/22_04-lts",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_property_that_azure_fixes_at_creation_is_named_with_both_values(
    built: Site, settings: dict[str, str], named: str
) -> None:
    with pytest.raises(PoolDriftError, match=f"Pool spatiobatch cannot be changed in place: .*{named}.*--replace-pool"):
        built.with_(**settings).provision()
    if "identity" in settings:
        built.provision()  # the Batch account hands the nodes' identity on


def test_pool_is_replaced_when_asked(built: Site) -> None:
    site = built.with_(pool_vm_size="Standard_D4s_v3")
    assert changed(site.provision(replace_pool=True)) == ["created pool: replaced: VM size"]
    assert pool_of(built).vm_size.lower() == "standard_d4s_v3"
    built.provision(replace_pool=True)


def test_replacing_changes_nothing_where_nothing_differs(built: Site) -> None:
    assert changed(built.provision(replace_pool=True)) == []


def test_probe_of_a_replaced_pool_is_run_again(built: Site) -> None:
    azure = built.azure
    azure.batch_management.pool.begin_delete(*where(built), azure.settings.pool).result()
    asked = built.now
    built.provision()
    assert any("/jobs?" in line for line in built.writes(since=asked))
