"""`open/<query hash>.json`: the unfinished harvest of a query, so that it can be resumed."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from azure.storage.blob import BlobClient

from spatiobatch.errors import NoSuchHarvestError
from spatiobatch.names import harvest_id
from spatiobatch.query import Query
from tasks.clients import AzureClients, azure_task, found
from tasks.environment import Environment


@dataclass(frozen=True)
class Unfinished:
    """A harvest that has begun."""

    harvest_id: str
    query: Query
    started: datetime


@azure_task("begin harvest")
def begin(azure: AzureClients, environment: Environment, query: Query, scheduled: datetime | None) -> Unfinished:
    """Begin a harvest, known by when its run was scheduled: a retry of that run goes on with the same one."""
    now = datetime.now(UTC)
    harvest = Unfinished(harvest_id(scheduled or now, query.hash), query, now)
    blob = _blob(azure, environment, query.hash)
    known = _read(blob)
    if known and known.harvest_id == harvest.harvest_id:
        return known
    document = {
        "harvest_id": harvest.harvest_id,
        "query": query.model_dump(mode="json"),
        "started": harvest.started.isoformat(),
    }
    blob.upload_blob(json.dumps(document), overwrite=True)
    return harvest


@azure_task("resume harvest")
def resume(azure: AzureClients, environment: Environment, name: str) -> Unfinished:
    """The unfinished harvest of that id.

    Raises:
        NoSuchHarvestError: it is complete, another one of the same query took its place, or it never began.
    """
    known = _read(_blob(azure, environment, name.rpartition("-")[2]))
    if known is None or known.harvest_id != name:
        raise NoSuchHarvestError(name)
    return known


@azure_task("end harvest")
def end(azure: AzureClients, environment: Environment, harvest: Unfinished) -> None:
    """Note that a harvest is complete."""
    found(_blob(azure, environment, harvest.query.hash).delete_blob)


def _blob(azure: AzureClients, environment: Environment, query_hash: str) -> BlobClient:
    return azure.blobs(environment.blob_endpoint).get_blob_client(
        azure.settings.results_container, f"open/{query_hash}.json"
    )


def _read(blob: BlobClient) -> Unfinished | None:
    there = found(blob.download_blob)
    if there is None:
        return None
    document = json.loads(there.readall())
    started = datetime.fromisoformat(document["started"])
    return Unfinished(document["harvest_id"], Query.model_validate(document["query"]), started)
