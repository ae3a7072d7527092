"""What our flows send and local_azure answers fits the schemas that Microsoft publishes.

The traffic of one provisioning, a second one with other settings, a harvest of collections, one of items and a
teardown, as the stand-in records it. Blobs, tokens and STAC have no such schemas at hand.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import azure.batch.models as batch
import azure.mgmt.authorization.v2022_04_01.models as authorization
import azure.mgmt.batch.models as arm_batch
import azure.mgmt.msi.v2024_11_30.models as identities
import azure.mgmt.resource.resources.models as resources
import azure.mgmt.storage.models as storage
import pytest
from flow_runs import Site, running_site
from schemas import SPECS, SWAGGER, Misfit, misfits, operations, resource_reference

from spatiobatch.query import Query, Runtime, query_from

pytestmark = pytest.mark.skipif(not SPECS.exists(), reason="Microsoft's schemas are not at hand")

VERSIONS_AT_HAND = {"2026-09-01": "2026-04-01"}
"""The newest schema of the storage provider is one api-version older than what azure-mgmt-storage sends."""
NO_SCHEMA = {
    r"/subscriptions/[^/]+/providers/[^/]+(/register)?": "resource providers",
    r".*/checkNameAvailability": "an action; deployments have none",
    r".*/virtualMachineSkus": "a list that only ARM writes",
    r".*/(async)?operations/[^/]+": "the progress of an operation",
    r".*/resourcegroups/[^/]+/resources": "resources of any type without their properties",
}
"""ARM paths whose answers deployment schemas do not describe."""


class Explained(NamedTuple):
    """Properties of answers that a schema leaves out, and the SDK's model that has them."""

    model: Any
    reason: str
    members: str


READ_ONLY = "read-only: deployment schemas hold what a client may write"
READ_TOO = "answered, never given: deployment schemas hold what a client may write"
EXPLAINED = {
    "batchAccounts": Explained(arm_batch.BatchAccount, READ_ONLY, "id systemData"),
    "BatchAccountCreatePropertiesOrBatchAccountProperties": Explained(
        arm_batch.BatchAccountProperties,
        READ_ONLY,
        "accountEndpoint activeJobAndJobScheduleQuota dedicatedCoreQuota dedicatedCoreQuotaPerVMFamily "
        "dedicatedCoreQuotaPerVMFamilyEnforced lowPriorityCoreQuota nodeManagementEndpoint poolQuota "
        "privateEndpointConnections provisioningState",
    ),
    "BatchAccountIdentity": Explained(arm_batch.BatchAccountIdentity, READ_ONLY, "principalId tenantId"),
    "AutoStorageBasePropertiesOrAutoStorageProperties": Explained(
        arm_batch.AutoStorageProperties, READ_TOO, "lastKeySync"
    ),
    "batchAccounts_pools": Explained(arm_batch.Pool, READ_ONLY, "etag id"),
    "PoolProperties": Explained(
        arm_batch.PoolProperties,
        READ_ONLY,
        "allocationState allocationStateTransitionTime autoScaleRun creationTime currentDedicatedNodes "
        "currentLowPriorityNodes lastModified provisioningState provisioningStateTransitionTime resizeOperationStatus",
    ),
    "storageAccounts": Explained(storage.StorageAccount, READ_ONLY, "id"),
    "StorageAccountPropertiesCreateParameters": Explained(
        storage.StorageAccountProperties,
        READ_ONLY,
        "creationTime keyCreationTime primaryEndpoints primaryLocation privateEndpointConnections provisioningState "
        "statusOfPrimary",
    ),
    "Sku": Explained(storage.Sku, READ_ONLY, "tier"),
    "EncryptionService": Explained(storage.EncryptionService, READ_ONLY, "lastEnabledTime"),
    "storageAccounts_blobServices_containers": Explained(storage.BlobContainer, READ_ONLY, "etag id"),
    "ContainerProperties": Explained(
        storage.ContainerProperties,
        READ_ONLY,
        "deleted hasImmutabilityPolicy hasLegalHold lastModifiedTime leaseState leaseStatus remainingRetentionDays",
    ),
    "userAssignedIdentities": Explained(identities.Identity, READ_ONLY, "id systemData"),
    "UserAssignedIdentityProperties": Explained(identities.Identity, READ_ONLY, "clientId principalId tenantId"),
    "resourceGroups": Explained(resources.ResourceGroup, READ_ONLY, "id"),
    "roleAssignments": Explained(authorization.RoleAssignment, READ_ONLY, "id"),
    "RoleAssignmentProperties": Explained(
        authorization.RoleAssignment, READ_ONLY, "createdBy createdOn scope updatedBy updatedOn"
    ),
    "CloudJob": Explained(batch.BatchJob, "since api-version 2021-06-01.14.0, recorded in 2024", "allowTaskPreemption"),
}
"""By definition. A model of the SDK stands for the api-version that the SDK sends."""
NO_MODEL = {
    ("geoCatalogs", "id"): "read-only; there is no SDK for Microsoft.Orbital's GeoCatalogs",
    ("geoCatalogs", "systemData"): "read-only, as above; recorded",
    ("GeoCatalogProperties", "catalogUri"): "read-only, as above",
    ("GeoCatalogProperties", "provisioningState"): "read-only, as above",
}
OTHERWISE = {
    (
        "type",
        "'microsoft.orbital/geocatalogs' is not one of ['Microsoft.Orbital/geoCatalogs']",
    ): "recorded in this letter case",
    ("properties.condition", "None is not of type 'string'"): "ARM answers what a role assignment lacks as null",
    ("properties.conditionVersion", "None is not of type 'string'"): "as above",
    ("properties.delegatedManagedIdentityResourceId", "None is not of type 'string'"): "as above",
    ("properties.description", "None is not of type 'string'"): "as above",
    (
        "value.status",
        "'Success' is not one of ['success', 'clienterror', 'servererror']",
    ): "recorded in this letter case, see recorded_shapes.py",
}
"""Answers that are otherwise than the schema of what a client writes."""


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[list[dict[str, Any]]]:
    """All requests with their answers."""
    folder = tmp_path_factory.mktemp("site")
    flags = ("--demo-items", "60", "--clock", "instant")
    with running_site(folder, *flags, resource_group="schemas", requests_per_second="200") as site:
        whole_life(site, folder)
        yield site.requests()


def whole_life(site: Site, folder: Path) -> None:
    """Everything that flows do, once: made and changed, by identity and by SAS."""
    site.provision()
    changed = site.with_(pool_nodes="2", script_access="sas")
    changed.provision()
    changed.harvest(Query(), Runtime.bash, output=folder / "collections")
    site.harvest(query_from(content="items"), output=folder / "items")
    site.teardown(delete_results=True)


def of(traffic: list[dict[str, Any]], service: str) -> list[dict[str, Any]]:
    return [request for request in traffic if request["service"] == service]


def arm_schema(request: dict[str, Any], kind: str) -> Path:
    """The schema of a resource's provider, of the request's api-version."""
    (version,) = parse_qs(urlsplit(request["url"]).query)["api-version"]
    name = f"{VERSIONS_AT_HAND.get(version, version)}__{kind.partition('/')[0]}.json"
    return next(file for file in (SPECS / "arm").iterdir() if file.name.lower() == name.lower())


def resource_misfits(request: dict[str, Any], kind: str, body: dict[str, Any], *, written: bool) -> Iterator[Misfit]:
    """A body as the resource of a deployment template, which also names its api-version and has properties."""
    schema = arm_schema(request, kind)
    resource = {"properties": {}, **body, "apiVersion": schema.name.partition("__")[0]}
    yield from misfits(resource, schema, resource_reference(schema, kind), written=written)


def arm_written(traffic: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str, dict[str, Any]]]:
    """What was put or patched: the request, the resource's type, its body as a template holds it."""
    found = []
    for request in of(traffic, "arm"):
        path = urlsplit(request["url"]).path
        namespace, _, rest = path.rpartition("/providers/")[2].partition("/")
        parts = rest.split("/") if "/providers/" in path else ["resourceGroups", path.rpartition("/")[2]]
        kind = "/".join([namespace if "/providers/" in path else "Microsoft.Resources", *parts[::2]])
        if request["method"] in ("PUT", "PATCH"):
            found.append((request, kind, {**request["request_body"], "name": parts[-1], "type": kind}))
    return found


def arm_answered(traffic: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every document that ARM answered, alone or in a list, where schemas describe it."""
    return [
        (request, document)
        for request in of(traffic, "arm")
        if isinstance(request["response_body"], dict) and request["status"] < 400
        if not any(re.fullmatch(path, urlsplit(request["url"]).path, re.IGNORECASE) for path in NO_SCHEMA)
        for document in request["response_body"].get("value", [request["response_body"]])
    ]


def batch_misfits(request: dict[str, Any]) -> tuple[list[Misfit], list[Misfit]]:
    """Misfits of what was sent and of what was answered."""
    path = "/" + urlsplit(request["url"]).path.split("/", 2)[2]
    (operation,) = (one for one in operations() if one.method == request["method"] and one.path.fullmatch(path))
    reference = operation.responses.get(str(request["status"]), operation.responses["default"])
    sent, answered = request["request_body"], request["response_body"]
    assert bool(reference) == (answered is not None), (request["method"], path, request["status"])
    # Every recorded answer of the service has this annotation; swagger does not name it.
    own = {name: value for name, value in (answered or {}).items() if name != "odata.metadata"}
    return (
        list(misfits(sent, SWAGGER, operation.request, written=True)) if sent is not None else [],
        list(misfits(own, SWAGGER, reference, written=False)) if reference else [],
    )


def answer_misfits(traffic: list[dict[str, Any]]) -> set[tuple[str, str]]:
    found = [
        misfit
        for request, document in arm_answered(traffic)
        for misfit in resource_misfits(request, document["type"], document, written=False)
    ]
    found += [misfit for request in of(traffic, "batch") for misfit in batch_misfits(request)[1]]
    return {(misfit.definition, misfit.member) for misfit in found}


def explained() -> set[tuple[str, str]]:
    rows = {(name, member) for name, row in EXPLAINED.items() for member in row.members.split()}
    return rows | NO_MODEL.keys() | OTHERWISE.keys()


def sdk_members(model: Any, *, read_only: bool) -> set[str]:
    """Names on the wire that a model of an SDK knows."""
    if hasattr(model, "_attribute_map"):
        known = {
            field["key"].rpartition(".")[2]: model._validation.get(name) for name, field in model._attribute_map.items()
        }
        return {name for name, rules in known.items() if not read_only or (rules or {}).get("readonly")}
    fields = model.__new__(model)._attr_to_rest_field.values()
    return {field._rest_name for field in fields if not read_only or field._visibility == ["read"]}


def test_every_resource_that_flows_write_fits_its_schema(traffic: list[dict[str, Any]]) -> None:
    written = arm_written(traffic)
    assert {(request["method"], kind) for request, kind, _ in written} >= {
        ("PUT", "Microsoft.Resources/resourceGroups"),
        ("PUT", "Microsoft.Batch/batchAccounts/pools"),
        ("PATCH", "Microsoft.Batch/batchAccounts/pools"),
    }
    assert not [misfit for call in written for misfit in resource_misfits(*call, written=True)]


def test_everything_that_flows_send_to_batch_fits_the_swagger(traffic: list[dict[str, Any]]) -> None:
    sent = [request for request in of(traffic, "batch") if request["request_body"] is not None]
    assert {urlsplit(request["url"]).path.rpartition("/")[2] for request in sent} >= {"jobs", "addtaskcollection"}
    assert not [misfit for request in sent for misfit in batch_misfits(request)[0]]


def test_every_answer_fits_its_schema_but_for_what_a_newer_version_or_reading_explains(
    traffic: list[dict[str, Any]],
) -> None:
    assert answer_misfits(traffic) - explained() == set()


def test_no_explanation_outlives_what_it_explains(traffic: list[dict[str, Any]]) -> None:
    assert explained() - answer_misfits(traffic) == set()


@pytest.mark.parametrize("definition", EXPLAINED)
def test_the_sdk_knows_what_a_schema_leaves_out(definition: str) -> None:
    row = EXPLAINED[definition]
    assert set(row.members.split()) <= sdk_members(row.model, read_only=row.reason == READ_ONLY)


def test_a_property_that_nobody_knows_is_a_misfit(traffic: list[dict[str, Any]]) -> None:
    request, kind, body = next(call for call in arm_written(traffic) if call[1].endswith("/pools"))
    body = {**body, "properties": {**body["properties"], "vmsize": 3, "taskSlotsPerNode": "four"}}
    found = {(misfit.definition, misfit.member) for misfit in resource_misfits(request, kind, body, written=True)}
    assert found == {("PoolProperties", "vmsize"), ("properties.taskSlotsPerNode", "'four' is not of type 'integer'")}
