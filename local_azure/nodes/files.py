"""Resource files in, output files out.

https://learn.microsoft.com/azure/batch/resource-files and
https://learn.microsoft.com/azure/batch/batch-task-output-files

Differences from Azure: an address off loopback is not reachable; files are uploaded when the process
has ended by itself or by its time limit, not when the user terminated the task.
"""

import glob
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from string import Template

import httpx

from local_azure.nodes.blobs import DOWNLOAD, LIST, UPLOAD, Blobs, Purpose, blob_url
from local_azure.nodes.failure import TaskFailureError
from local_azure.nodes.identities import PoolIdentities
from local_azure.store import Document

_DEFAULT_MODE = "0770"
_WILDCARDS = set("*?[")


class Transfers:
    """Moves the files of a pool's tasks with the identities of that pool."""

    def __init__(self, client: httpx.AsyncClient, identities: PoolIdentities) -> None:
        self._client = client
        self._identities = identities

    async def fetch(self, resource_file: Document, folder: Path) -> None:
        """Bring one of `resourceFiles` into the working directory.

        Raises:
            TaskFailureError: it was refused, is not there, or does not fit.
        """
        if name := resource_file.get("autoStorageContainerName"):
            resource_file = {**resource_file, **self._identities.auto_storage(name)}
        blobs = self._blobs(resource_file, DOWNLOAD if resource_file.get("httpUrl") else LIST)
        async for url, path in _sources(blobs, resource_file):
            target = _inside(folder, path)
            await blobs.download(url, target)
            target.chmod(int(resource_file.get("fileMode") or _DEFAULT_MODE, 8))

    async def upload(self, output_file: Document, folder: Path, environment: Mapping[str, str]) -> None:
        """Put what one of `outputFiles` matches into its container; `fileuploadout.txt` lists it.

        Raises:
            TaskFailureError: a blob was refused.
        """
        container = output_file["destination"]["container"]
        headers = {header["name"]: header.get("value", "") for header in container.get("uploadHeaders") or ()}
        with (folder / "fileuploadout.txt").open("a") as done, (folder / "fileuploaderr.txt").open("a") as failed:
            try:
                blobs = self._blobs(container, UPLOAD)
                for source, name in _matches(
                    output_file["filePattern"], container.get("path"), folder / "wd", environment
                ):
                    await blobs.upload(source, blob_url(container["containerUrl"], name), headers)
                    done.write(f"{source} -> {name}\n")
            except TaskFailureError as failure:
                failed.write(f"{failure}\n")
                raise

    def _blobs(self, file: Document, purpose: Purpose) -> Blobs:
        identity = (file.get("identityReference") or {}).get("resourceId")
        token = self._identities.storage_token(identity) if identity else None
        if identity and not token:
            raise purpose.failure(403, f"the identity {identity} is not on the pool")
        return Blobs(self._client, token)


async def _sources(blobs: Blobs, resource_file: Document) -> AsyncIterator[tuple[str, str]]:
    """Address and place of each blob that a resource file stands for."""
    path = resource_file.get("filePath") or ""
    if url := resource_file.get("httpUrl"):
        yield url, path
        return
    container = resource_file["storageContainerUrl"]
    async for name in blobs.names(container, resource_file.get("blobPrefix") or ""):
        yield blob_url(container, name), f"{path}/{name}" if path else name


def _inside(folder: Path, path: str) -> Path:
    try:
        target = (folder / path).resolve()
        if folder.resolve() in target.parents:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
            return target
    except (ValueError, OSError):
        pass  # no file system takes such a name, or a file is where a folder should be
    raise TaskFailureError(
        "ResourceFileCreateFailed",
        "Failure encountered creating resource file",
        f"{path!r} is not a place for a file",
    )


def _matches(
    pattern: str, path: str | None, folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[Path, str]]:
    """Files that a pattern names, and the blobs they become."""
    pattern = Template(pattern).safe_substitute(environment)
    fixed = next((parent for parent in Path(pattern).parents if not _WILDCARDS & set(str(parent))), Path())
    # Path.glob refuses patterns with `..`, which is how the standard streams are named.
    matches = glob.glob(pattern, root_dir=folder, recursive=True, include_hidden=True)  # noqa: PTH207  # see above
    for found in sorted(matches):
        source = folder / found
        if not source.is_file():
            continue
        if _WILDCARDS & set(pattern):
            below = Path(found).relative_to(fixed).as_posix()
            yield source, f"{path.rstrip('/')}/{below}" if path else below
        else:
            yield source, path or source.name
