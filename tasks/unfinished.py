"""`open/<query hash>.json`: the unfinished harvest of a query, and who is at it.

Whoever works on it holds the blob's lease, by Azure's clock: https://learn.microsoft.com/rest/api/storageservices/lease-blob.
A run that died loses it within a minute, and the next run of the same query goes on where it was.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobLeaseClient
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, ValidationError

from spatiobatch.errors import HarvestRunningError, HarvestTakenError, NoSuchHarvestError
from spatiobatch.interruptions import pause
from spatiobatch.names import harvest_id
from spatiobatch.query import Query, Since
from tasks.clients import AzureClients, azure_task, code_of, found
from tasks.environment import Environment

LEASE_SECONDS = 60
"""The longest that Azure gives, short of for ever."""
_RENEW_SECONDS = 15


class Unfinished(BaseModel):
    """A harvest that has begun."""

    model_config = ConfigDict(frozen=True)

    harvest_id: str
    query: Query
    started: datetime
    since: Since | None = None
    max_items: int | None = None

    def serves(self, asked: "Unfinished") -> bool:
        """Whether its end is what is asked for: a full harvest is more than an increment, not the other way round."""
        same = (self.query.hash, self.max_items) == (asked.query.hash, asked.max_items)
        return same and (self.since is None or asked.since is not None)


def wanted(
    query: Query, scheduled: datetime | None = None, since: Since | None = None, max_items: int | None = None
) -> Unfinished:
    """A harvest that begins now, named by when its run was scheduled."""
    now = datetime.now(UTC)
    name = harvest_id(scheduled or now, query.hash)
    return Unfinished(harvest_id=name, query=query, started=now, since=since, max_items=max_items)


class Hold:
    """The lease of an unfinished harvest, renewed in a thread of its own until it is let go."""

    def __init__(self, blob: BlobClient, harvest: Unfinished, lease: BlobLeaseClient) -> None:
        self.harvest = harvest
        self._blob, self._lease = blob, lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._over.wait(_RENEW_SECONDS):
            try:
                self._lease.renew()
            except AzureError:
                continue  # the next attempt may get through; a lease that somebody else took stays lost

    def is_ours(self) -> bool:
        """Whether nobody else may have taken the harvest; also where that cannot be known.

        A lease that ran out is had back where nobody else had it since.
        """
        try:
            self._lease.renew()
        except HttpResponseError as error:
            return error.status_code not in (404, 409)
        except AzureError:
            return True
        return True

    def check(self) -> None:
        """Pass a harvest that is still this run's.

        Raises:
            HarvestTakenError: it is not.
        """
        if not self.is_ours():
            raise HarvestTakenError(self.harvest.harvest_id, LEASE_SECONDS)

    def release(self) -> None:
        """Let others at it."""
        self._over.set()
        self._thread.join()
        try:
            self._lease.release()
        except AzureError:
            return  # it ends by itself

    def finish(self) -> None:
        """Note that the harvest is over, whatever it has come to; unnoted, the next run finds it done."""
        self._over.set()
        self._thread.join()
        try:
            found(self._blob.delete_blob, lease=self._lease)
        except AzureError as error:
            get_run_logger().warning("harvest %s still counts as unfinished: %s", self.harvest.harvest_id, error)


@contextmanager
def held(azure: AzureClients, environment: Environment, harvest: Unfinished | str) -> Iterator[Hold]:
    """Begin a harvest, or go on with the unfinished one of the same query, or of that id; nobody else works on it.

    Raises:
        HarvestRunningError: somebody does, and goes on for longer than `running_harvest_wait_minutes`.
        NoSuchHarvestError: the harvest of that id is over, another one took its place, or it never began.
        HarvestTakenError: something failed, since somebody else has gone on with it.
    """
    hold = hold_harvest(azure, environment, harvest, str(uuid.uuid4()))
    try:
        yield hold
    except Exception:
        hold.check()  # who took it, and ended its job, may be behind any error
        raise
    except BaseException:  # Ctrl-C, a signal, a cancellation
        _say_what_is_kept(hold.harvest.harvest_id)
        raise
    finally:
        hold.release()


def _say_what_is_kept(name: str) -> None:
    kept = (
        f"what harvest {name} has brought so far is kept, and the next run of the same query goes on with it "
        f"(by hand: --resume {name})"
    )
    get_run_logger().warning("interrupted; %s", kept, extra={"kept": kept})


@azure_task("hold harvest")
def hold_harvest(
    azure: AzureClients, environment: Environment, harvest: Unfinished | str, lease_id: str | None = None
) -> Hold:
    """The lease of a harvest that begins, or of the unfinished one that it goes on with.

    `lease_id` is whatever the caller thinks up: who asks again since an answer got lost already has that lease.
    """
    name = harvest if isinstance(harvest, str) else harvest.harvest_id
    blob = _blob(azure, environment, name.rpartition("-")[2])
    deadline = time.monotonic() + max(LEASE_SECONDS + 5, azure.settings.running_harvest_wait_minutes * 60)
    while True:
        _place(blob, harvest)
        lease = _acquire(blob, lease_id, deadline)
        if lease is not None:
            return Hold(blob, _agree(blob, harvest, lease), lease)
        pause(azure.settings.poll_seconds)


def _place(blob: BlobClient, harvest: Unfinished | str) -> None:
    """See to it that there is a blob: only then there is something to lease."""
    if isinstance(harvest, str):
        _check_same(_read(blob), harvest)
        return
    try:
        blob.upload_blob(harvest.model_dump_json(), overwrite=False)
    except HttpResponseError as error:
        if error.status_code not in (409, 412):  # it is there, or leased
            raise


def _check_same(there: Unfinished | None, name: str) -> Unfinished:
    if there is None or there.harvest_id != name:
        raise NoSuchHarvestError(name)
    return there


def _acquire(blob: BlobClient, lease_id: str | None, deadline: float) -> BlobLeaseClient | None:
    """The blob's lease; None while somebody else has it, or when the blob is gone.

    Raises:
        HarvestRunningError: the deadline has passed.
    """
    try:
        return blob.acquire_lease(lease_duration=LEASE_SECONDS, lease_id=lease_id)
    except ResourceNotFoundError:
        return None
    except HttpResponseError as error:
        if code_of(error) not in ("LeaseAlreadyPresent", "LeaseIsBreakingAndCannotBeAcquired"):
            raise
    if time.monotonic() > deadline:
        running = _read(blob)
        raise HarvestRunningError(running.harvest_id if running else "of this query")
    return None


def _agree(blob: BlobClient, harvest: Unfinished | str, lease: BlobLeaseClient) -> Unfinished:
    """What is harvested under the lease: what is unfinished, if it is what is asked for."""
    there = _read(blob)
    if isinstance(harvest, str):
        return _check_same(there, harvest)
    if there and there.serves(harvest):
        if there.harvest_id != harvest.harvest_id:
            get_run_logger().warning("harvest %s of the same query is unfinished: it is gone on with", there.harvest_id)
        return there
    blob.upload_blob(harvest.model_dump_json(), overwrite=True, lease=lease)
    return harvest


def is_unfinished(azure: AzureClients, environment: Environment, name: str) -> bool:
    """Whether somebody may go on with the harvest of that id."""
    there = _read(_blob(azure, environment, name.rpartition("-")[2]))
    return there is not None and there.harvest_id == name


def is_held(azure: AzureClients, environment: Environment, name: str) -> bool:
    """Whether somebody works on the harvest of that id."""
    blob = _blob(azure, environment, name.rpartition("-")[2])
    properties = found(blob.get_blob_properties)
    return bool(properties) and properties.lease.state == "leased" and is_unfinished(azure, environment, name)


def _blob(azure: AzureClients, environment: Environment, query_hash: str) -> BlobClient:
    return azure.blobs(environment.blob_endpoint).get_blob_client(
        azure.settings.results_container, f"open/{query_hash}.json"
    )


def _read(blob: BlobClient) -> Unfinished | None:
    there = found(blob.download_blob)
    try:
        return Unfinished.model_validate_json(there.readall()) if there else None
    except ValidationError:
        return None  # nothing that one could go on with
