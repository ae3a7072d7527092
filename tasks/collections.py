"""The catalog's collections, as a node brought them."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from azure.batch.models import BatchTask, BatchTaskCreateOptions
from prefect import task
from pydantic import BaseModel, Field, ValidationError

from spatiobatch.errors import NotStacError, UnknownCollectionError
from spatiobatch.manifest import CollectionTotals, Cost, Layout, Manifest
from spatiobatch.query import Query, Runtime, first_problem
from tasks.clients import AzureClients
from tasks.environment import Environment
from tasks.node_task import node_task

TASK_ID = "collections"
SCRIPTS = {Runtime.python: "list_collections.py", Runtime.bash: "list_collections.sh"}


class _Collection(BaseModel):
    """What tells a STAC collection; catalogs are known to leave out the other fields that the standard requires.

    https://github.com/radiantearth/stac-spec/blob/v1.0.0/collection-spec/collection-spec.md#collection-fields
    """

    id: str = Field(min_length=1)
    type: Literal["Collection"]
    stac_version: str


class _Answer(BaseModel):
    collections: list[_Collection]


def collections_task(
    azure: AzureClients, environment: Environment, harvest_id: str, runtime: Runtime
) -> BatchTaskCreateOptions:
    """The Batch task that asks for all collections."""
    return node_task(azure, environment, TASK_ID, script=SCRIPTS[runtime], logs=Layout(harvest_id).logs(TASK_ID))


@task(name="read collections")
def parse_collections(stdout: bytes, query: Query) -> list[dict[str, Any]]:
    """The collections that the query asks for, in the catalog's order.

    Raises:
        NotStacError: the output is not a list of STAC collections.
        UnknownCollectionError: the query names one that is not among them.
    """
    try:
        answer = json.loads(stdout)
        _Answer.model_validate(answer)
    except ValidationError as error:
        raise NotStacError(TASK_ID, first_problem(error)) from error
    except (ValueError, RecursionError) as error:
        raise NotStacError(TASK_ID, f"no JSON ({error})") from error
    collections: list[dict[str, Any]] = answer["collections"]
    known = {collection["id"] for collection in collections}
    unknown = set(query.collections) - known
    if unknown:
        raise UnknownCollectionError(unknown, known)
    return [collection for collection in collections if not query.collections or collection["id"] in query.collections]


def manifest_of(
    collections: list[dict[str, Any]], query: Query, harvest_id: str, started: datetime, ended: list[BatchTask]
) -> Manifest:
    """The manifest of a collections harvest; `ended` are its Batch tasks."""
    ran = [task.execution_info for task in ended]
    return Manifest(
        harvest_id=harvest_id,
        complete=True,
        verified=True,
        query=query,
        collections={collection["id"]: CollectionTotals() for collection in collections},
        started=started,
        finished=datetime.now(UTC),
        versions={package: version(package) for package in ("spatiobatch", "prefect", "azure-batch")},
        cost=Cost(node_seconds=sum((info.end_time - info.start_time).total_seconds() for info in ran)),
    )
