"""The archive of an item harvest: receipts, a copy in a folder, and which harvest is a query's latest."""

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from azure.batch.models import BatchTaskCounts
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.storage.blob import BlobClient, ContainerClient, StorageStreamDownloader
from prefect.logging import get_run_logger
from pydantic import TypeAdapter, ValidationError

from spatiobatch.errors import OutputError, ServiceError, UnreadableFileError
from spatiobatch.manifest import Latest, Layout, Manifest
from spatiobatch.names import path_segment
from spatiobatch.query import first_problem
from spatiobatch.receipts import Receipt
from tasks.clients import AzureClients, azure_task, found
from tasks.environment import Environment, results

LATEST = "latest.json"
_LATEST = TypeAdapter(dict[str, Latest])
_RECEIPT, _ARCHIVE = ".receipt.json", ".ndjson.zst"
_ARRIVING_SECONDS = 5
_LATEST_ATTEMPTS = 10
MOST_READERS = 10
"""Blobs that are read at once, over as many connections as the SDK's transport keeps."""
_DOWNLOADS = 4
"""Files at once; of each, the SDK holds up to 32 MB in memory."""


def shard_path(collection: str, name: str) -> str:
    """Where a shard's items and its receipt are, below the harvest and before their suffixes."""
    return f"items/{path_segment(collection)}/{name}"


@azure_task("read receipts")
def read_receipts(
    azure: AzureClients, environment: Environment, harvest_id: str, known: Sequence[Receipt] = ()
) -> list[Receipt]:
    """All receipts of a harvest; those that are known are not read again.

    One that cannot be read, or is not of the archive beside it, is none, so that its shard is harvested again.
    """
    container = results(azure, environment)
    names = {receipt.name for receipt in known}
    sizes = {blob.name: blob.size for blob in container.list_blobs(f"{Layout(harvest_id).root}/items/")}
    paths = [path for path in sizes if path.endswith(_RECEIPT) and _shard_of(path) not in names]
    receipts = list(known)
    with ThreadPoolExecutor(MOST_READERS) as readers:
        for path, content in zip(paths, readers.map(partial(_content, container), paths), strict=True):
            try:
                receipt = Receipt.model_validate_json(content)
                _check_fits(receipt, harvest_id, path, partial(_size, container, sizes))
                receipts.append(receipt)
            except ValueError as error:
                problem = first_problem(error) if isinstance(error, ValidationError) else error
                get_run_logger().warning("%s does not count, its shard is harvested again: %s", path, problem)
    return receipts


def _check_fits(receipt: Receipt, harvest_id: str, path: str, size: Callable[[str], int | None]) -> None:
    """Refuse a receipt that is not of this harvest, of the shard that it lies beside, or of its archive."""
    if receipt.harvest_id not in (harvest_id, None):
        raise ValueError(f"it is of harvest {receipt.harvest_id}")
    shard = f"{Layout(harvest_id).root}/{shard_path(receipt.collection, receipt.name)}"
    if path != f"{shard}{_RECEIPT}":
        raise ValueError(f"it is of shard {shard}")
    there = size(f"{shard}{_ARCHIVE}")
    if there is None:
        raise ValueError("there is no archive beside it")
    if receipt.archive and receipt.archive.size != there:
        raise ValueError(f"the archive beside it has {there} bytes, not {receipt.archive.size}")


def _size(container: ContainerClient, sizes: Mapping[str, int], path: str) -> int | None:
    """Of a blob; one that came while others were listed is asked for."""
    if path in sizes:
        return sizes[path]
    there = found(container.get_blob_client(path).get_blob_properties)
    return there.size if there else None


class Arriving:
    """Reads receipts while their round goes on, so that few are left to be read at its end."""

    def __init__(
        self, azure: AzureClients, environment: Environment, harvest_id: str, known: Sequence[Receipt]
    ) -> None:
        self.receipts = list(known)
        self._read = partial(read_receipts.fn, azure, environment, harvest_id)
        self._next_look = time.monotonic() + _ARRIVING_SECONDS

    def look(self, _counts: BatchTaskCounts) -> None:
        """Read what has come if some seconds have passed."""
        if time.monotonic() >= self._next_look:
            self.receipts = self._read(self.receipts)
            self._next_look = time.monotonic() + _ARRIVING_SECONDS


@azure_task("discard receipts")
def discard_receipts(
    azure: AzureClients, environment: Environment, harvest_id: str, receipts: Iterable[Receipt]
) -> None:
    """Have shards owed again."""
    container, root = results(azure, environment), Layout(harvest_id).root
    for receipt in receipts:
        found(container.delete_blob, f"{root}/{shard_path(receipt.collection, receipt.name)}{_RECEIPT}")


def _shard_of(path: str) -> str:
    return PurePosixPath(path).name.split(".")[0]


def _content(container: ContainerClient, path: str) -> bytes:
    return bytes(container.download_blob(path).readall())


@azure_task("download archive")
def download(
    azure: AzureClients, environment: Environment, harvest_id: str, counted: Iterable[Receipt], output: Path
) -> Path:
    """Copy the archive into a folder, in the same layout; returns the manifest's path, which is written last.

    Of the shards, those whose receipts count; a file is there whole or not at all.

    Raises:
        OutputError: the folder cannot be written, or a name would leave it or is none.
    """
    container, layout = results(azure, environment), Layout(harvest_id)
    items = {
        f"{layout.root}/{shard_path(receipt.collection, receipt.name)}{suffix}"
        for receipt in counted
        for suffix in (_RECEIPT, _ARCHIVE)
    }
    rest = (f"{layout.root}/items/", f"{layout.root}/control/", layout.manifest)
    listed = container.list_blob_names(name_starts_with=f"{layout.root}/")
    paths = [path for path in listed if path in items or not path.startswith(rest)]
    save = partial(_save, container, output)
    with ThreadPoolExecutor(_DOWNLOADS) as downloads:
        list(downloads.map(save, paths))
    return save(layout.manifest)


def _save(container: ContainerClient, output: Path, path: str) -> Path:
    if ".." in path.split("/") or "\0" in path:
        raise OutputError(output, f"the archive has a file {path!r}, which has no place in it")
    target = output / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial_file = target.with_name(f"{target.name}.part")
        with partial_file.open("wb") as file:
            container.download_blob(path, max_concurrency=1).readinto(file)
        partial_file.replace(target)
    except OSError as error:
        raise OutputError(output, os.strerror(error.errno) if error.errno else str(error)) from error
    return target


@azure_task("publish latest")
def publish_latest(azure: AzureClients, environment: Environment, manifest: Manifest) -> None:
    """Note in `latest.json` that this is its query's last harvest; a full one starts a new row of increments.

    It is replaced only as it was read, so that harvests that end at the same time both get in.

    Raises:
        ServiceError: others were first, ten times in a row.
    """
    blob = results(azure, environment).get_blob_client(LATEST)
    for _ in range(_LATEST_ATTEMPTS):
        try:
            return _replace(blob, manifest)
        except (ResourceModifiedError, ResourceExistsError):
            time.sleep(random.uniform(0, 1))  # noqa: S311  # it spreads load and guards nothing
    raise ServiceError(
        f"{LATEST} could not be replaced, since it changed {_LATEST_ATTEMPTS} times meanwhile: the harvest "
        f"{manifest.harvest_id} is kept, but the next increment does not know it. Harvest again."
    )


def read_latest(container: ContainerClient) -> dict[str, Latest]:
    """By query hash, the last harvests that are complete.

    Raises:
        UnreadableFileError: that is not what the file says.
    """
    return _latest_in(found(container.download_blob, LATEST))


def _latest_in(there: StorageStreamDownloader[bytes] | None) -> dict[str, Latest]:
    try:
        return _LATEST.validate_json(there.readall()) if there else {}
    except ValidationError as error:
        remedy = "put an earlier version of it back, or delete it, so that the next harvests are compared with none"
        raise UnreadableFileError(LATEST, first_problem(error), remedy) from error


def _replace(blob: BlobClient, manifest: Manifest) -> None:
    there = found(blob.download_blob)
    latest = _latest_in(there)
    earlier = latest.get(manifest.query.hash, Latest())
    later = earlier.followed_by(manifest)
    if manifest.harvest_id not in later.harvests:
        gone = "increment %s follows %s, which is not the last harvest any more: latest.json goes without it"
        get_run_logger().warning(gone, manifest.harvest_id, manifest.base)
    latest[manifest.query.hash] = later
    condition: dict[str, Any] = (
        {"etag": there.properties.etag, "match_condition": MatchConditions.IfNotModified, "overwrite": True}
        if there
        else {"overwrite": False}
    )
    blob.upload_blob(_LATEST.dump_json(latest, indent=1), **condition)
