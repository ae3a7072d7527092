"""The Batch pool: created through ARM, the only way to give it an identity, and brought up to the settings."""

import shlex
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.batch.models import BatchSupportedImage
from azure.mgmt.batch.models import (
    AutoScaleSettings,
    AutoUserSpecification,
    BatchPoolIdentity,
    DeploymentConfiguration,
    EnvironmentSetting,
    FixedScaleSettings,
    ImageReference,
    MetadataItem,
    NetworkConfiguration,
    Pool,
    PoolProperties,
    PublicIPAddressConfiguration,
    ResizeError,
    ScaleSettings,
    StartTask,
    UserAssignedIdentities,
    UserIdentity,
    VirtualMachineConfiguration,
)
from prefect.logging import get_run_logger

from spatiobatch.changes import Change, created, unchanged, updated
from spatiobatch.errors import ForeignResourceError, NodeError, PoolDriftError, ProvisioningError
from spatiobatch.interruptions import pause
from spatiobatch.names import same_id
from spatiobatch.settings import Settings
from tasks.clients import AzureClients, azure_task, found
from tasks.ownership import ours, pool_tags
from tasks.storage import SCRIPTS

_SUPPORT_WARNING = timedelta(days=180)

_AUTOSCALE = """\
nodes = {nodes};
slots = {slots};
samples = $PendingTasks.GetSamplePercent(TimeInterval_Minute * 5);
pending = samples < 70 ? slots : max($PendingTasks.GetSample(1), avg($PendingTasks.GetSample(TimeInterval_Minute * 5)));
wanted = round((pending + (slots - 1) / 2) / slots);
{target} = min(nodes, wanted);
$NodeDeallocationOption = taskcompletion;
"""
"""One node per `slots` waiting or running tasks, begun ones too; none without tasks; one until samples are in.

https://learn.microsoft.com/azure/batch/batch-automatic-scaling
"""


@azure_task("ensure pool")
def ensure_pool(
    azure: AzureClients, batch_endpoint: str, identity_id: str, metadata: dict[str, str], *, replace: bool = False
) -> Change:
    """Create the pool, or bring what Azure can change in place up to the settings.

    Raises:
        PoolDriftError: a property that Azure fixes at creation differs, and `replace` was not asked for.
        ForeignResourceError: a pool of somebody else's lacks the identity.
    """
    settings, pools = azure.settings, azure.batch_management.pool
    where = (settings.resource_group, settings.batch_account_name, settings.pool)
    there = found(pools.get, *where)
    if there is not None and not ours(pool_tags(there)):
        _check_foreign(there, settings.pool, identity_id)
        return unchanged("pool", settings.pool, "not ours, used as it is")
    wanted = _wanted(azure, batch_endpoint, identity_id, metadata)
    fixed = _differences(_fixed_at_creation(wanted), _fixed_at_creation(there)) if there else {}
    if fixed and not replace:
        raise PoolDriftError(settings.pool, fixed)
    if fixed:
        pools.begin_delete(*where).result()
    if there is None or fixed:
        pools.create(*where, wanted)
        return created("pool", settings.pool, f"replaced: {', '.join(fixed)}" if fixed else "")
    drift = list(_differences(_changeable(wanted), _changeable(there))) + _fell_short(there)
    if not drift:
        return unchanged("pool", settings.pool)
    _wait_until_steady(azure)
    pools.update(*where, _patch(wanted))
    return updated("pool", settings.pool, ", ".join(drift))


def _fell_short(pool: Pool) -> list[str]:
    """A fixed pool whose last resize failed stays as it is until it is resized again; autoscale tries by itself."""
    return ["nodes that were missing"] if pool.properties.scale_settings.fixed_scale and resize_errors(pool) else []


def _wait_until_steady(azure: AzureClients) -> None:
    """A pool that is being resized refuses another scale (`PoolBeingResized`).

    Raises:
        NodeError: it is still being resized after `node_timeout_minutes`.
    """
    settings = azure.settings
    deadline = time.monotonic() + settings.node_timeout_minutes * 60
    while read_pool(azure).properties.allocation_state != "Steady":
        if time.monotonic() > deadline:
            raise NodeError(settings.pool, f"it is still being resized after {settings.node_timeout_minutes:g} minutes")
        pause(settings.poll_seconds)


def read_pool(azure: AzureClients) -> Pool:
    """The pool as ARM knows it."""
    settings = azure.settings
    return azure.batch_management.pool.get(settings.resource_group, settings.batch_account_name, settings.pool)


def _check_foreign(pool: Pool, name: str, identity_id: str) -> None:
    identities = pool.identity.user_assigned_identities if pool.identity else None
    if not any(same_id(there, identity_id) for there in identities or {}):
        raise ForeignResourceError(
            "pool",
            name,
            f"it does not have the identity {identity_id}",
            "create it with that identity, or name another pool",
        )


def _wanted(azure: AzureClients, batch_endpoint: str, identity_id: str, metadata: dict[str, str]) -> Pool:
    settings = azure.settings
    image = _image(azure, batch_endpoint)
    return Pool(
        identity=BatchPoolIdentity(
            type="UserAssigned", user_assigned_identities={identity_id: UserAssignedIdentities()}
        ),
        properties=PoolProperties(
            vm_size=settings.pool_vm_size,
            task_slots_per_node=settings.pool_task_slots,
            deployment_configuration=DeploymentConfiguration(
                virtual_machine_configuration=VirtualMachineConfiguration(
                    image_reference=ImageReference(
                        publisher=image.image_reference.publisher,
                        offer=image.image_reference.offer,
                        sku=image.image_reference.sku,
                        version="latest",
                    ),
                    node_agent_sku_id=image.node_agent_sku_id,
                )
            ),
            network_configuration=_network(settings),
            scale_settings=_scale(settings),
            start_task=_start_task(settings),
            metadata=[
                MetadataItem(name=name, value=value) for name, value in {**settings.all_tags, **metadata}.items()
            ],
        ),
    )


def _image(azure: AzureClients, batch_endpoint: str) -> BatchSupportedImage:
    """The configured image as the service supports it; warns half a year before its end of support.

    Raises:
        ProvisioningError: the service does not support it, or not any more.
    """
    settings = azure.settings
    wanted = (settings.pool_image_publisher, settings.pool_image_offer, settings.pool_image_sku)
    for image in azure.batch(batch_endpoint).list_supported_images():
        reference = image.image_reference
        if tuple(map(str.lower, (reference.publisher, reference.offer, reference.sku))) == tuple(
            map(str.lower, wanted)
        ):
            end = image.batch_support_end_of_life
            if end and end < datetime.now(UTC):
                raise ProvisioningError(
                    f"Batch support of image {'/'.join(wanted)} ended on {end:%Y-%m-%d}: set another."
                )
            if end and end < datetime.now(UTC) + _SUPPORT_WARNING:
                get_run_logger().warning("Batch support of image %s ends on %s", "/".join(wanted), f"{end:%Y-%m-%d}")
            return image
    raise ProvisioningError(
        f"Batch does not support the image {'/'.join(wanted)}: set pool_image_publisher, _offer and _sku to one that "
        "az batch pool supported-images list names."
    )


def _network(settings: Settings) -> NetworkConfiguration | None:
    if settings.pool_subnet_id is None and settings.pool_public_addresses:
        return None
    addresses = (
        None if settings.pool_public_addresses else PublicIPAddressConfiguration(provision="NoPublicIPAddresses")
    )
    return NetworkConfiguration(subnet_id=settings.pool_subnet_id, public_ip_address_configuration=addresses)


def _scale(settings: Settings) -> ScaleSettings:
    if settings.pool_scaling == "autoscale":
        target = "$TargetLowPriorityNodes" if settings.pool_spot else "$TargetDedicatedNodes"
        formula = _AUTOSCALE.format(nodes=settings.pool_nodes, slots=settings.pool_task_slots, target=target)
        return ScaleSettings(auto_scale=AutoScaleSettings(formula=formula, evaluation_interval=timedelta(minutes=5)))
    spot = settings.pool_nodes if settings.pool_spot else 0
    return ScaleSettings(
        fixed_scale=FixedScaleSettings(
            target_dedicated_nodes=settings.pool_nodes - spot, target_low_priority_nodes=spot
        )
    )


def _start_task(settings: Settings) -> StartTask:
    """The start script travels in the command line.

    As a resource file it would be refused while the node's blob role is still spreading, and Batch does not ask again.
    """
    script = (SCRIPTS / "start_node.sh").read_text()
    return StartTask(
        command_line=f"/bin/bash -c {shlex.quote(script)}",
        environment_settings=[EnvironmentSetting(name="WITH_AZURE_CLI", value="1" if settings.pool_azure_cli else "0")],
        user_identity=UserIdentity(auto_user=AutoUserSpecification(scope="Pool", elevation_level="Admin")),
        max_task_retry_count=2,
        wait_for_success=True,
    )


def _fixed_at_creation(pool: Pool) -> dict[str, Any]:
    properties = pool.properties
    machine = properties.deployment_configuration.virtual_machine_configuration
    image, network = machine.image_reference, properties.network_configuration
    addresses = network.public_ip_address_configuration if network else None
    return {
        "VM size": properties.vm_size.lower(),
        "image": "/".join((image.publisher, image.offer, image.sku)).lower(),
        "node agent": machine.node_agent_sku_id.lower(),
        "task slots per node": properties.task_slots_per_node,
        "identity": sorted(name.lower() for name in pool.identity.user_assigned_identities) if pool.identity else [],
        "subnet": (network.subnet_id or "").lower() if network else "",
        "public addresses": not (addresses and addresses.provision == "NoPublicIPAddresses"),
    }


def _changeable(pool: Pool) -> dict[str, Any]:
    start, scale = pool.properties.start_task, pool.properties.scale_settings
    fixed, auto = scale.fixed_scale, scale.auto_scale
    return {
        "scale": (auto.formula.strip(), auto.evaluation_interval)
        if auto
        else (fixed.target_dedicated_nodes or 0, fixed.target_low_priority_nodes or 0),
        "start task": start
        and {
            "command": start.command_line,
            "environment": {setting.name: setting.value for setting in start.environment_settings or []},
            "retries": start.max_task_retry_count,
            "wait": start.wait_for_success,
            "user": (start.user_identity.auto_user.scope, start.user_identity.auto_user.elevation_level)
            if start.user_identity and start.user_identity.auto_user
            else None,
        },
        "metadata": pool_tags(pool),
    }


def _differences(wanted: dict[str, Any], there: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (there[name], value) for name, value in wanted.items() if there[name] != value}


def _patch(wanted: Pool) -> Pool:
    properties = wanted.properties
    return Pool(
        properties=PoolProperties(
            scale_settings=properties.scale_settings, start_task=properties.start_task, metadata=properties.metadata
        )
    )


def resize_errors(pool: Pool) -> list[ResizeError]:
    """What kept the last resize from its target."""
    status = pool.properties.resize_operation_status
    return list(status.errors or []) if status else []
