"""The blob requests of a node, and what their refusals are called in a task's `failureInfo`."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit, urlunsplit
from xml.etree import ElementTree as ET

import httpx

from local_azure.nodes.failure import SERVER_ERROR, TaskFailureError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STORAGE_VERSION = "2023-11-03"
_ATTEMPTS = 3
"""How often a request is made that the server failed (5xx) or dropped; a refusal (4xx) is final."""
_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Purpose:
    """What a request is for: the codes of its failures."""

    denied: tuple[str, str]
    missing: tuple[str, str]
    other: tuple[str, str]

    def failure(self, status: int, detail: str) -> TaskFailureError:
        """The failure that an HTTP status (0 without an answer) stands for."""
        if status in (401, 403):
            return TaskFailureError(*self.denied, detail)
        if status == 404:
            return TaskFailureError(*self.missing, detail)
        return TaskFailureError(*self.other, detail, category=SERVER_ERROR)


DOWNLOAD = Purpose(
    ("BlobAccessDenied", "Access for one of the specified Azure Blob(s) is denied"),
    ("BlobNotFound", "One of the specified Azure Blob(s) is not found"),
    ("BlobDownloadMiscError", "Miscellaneous error encountered while downloading one of the specified Azure Blob(s)"),
)
LIST = Purpose(
    ("ResourceContainerAccessDenied", "Access for one of the specified Azure Blob container(s) is denied"),
    ("ResourceContainerNotFound", "One of the specified Azure Blob container(s) is not found"),
    ("ResourceContainerListMiscError", "Miscellaneous error encountered while listing one of the specified containers"),
)
UPLOAD = Purpose(
    ("FileUploadAccessDenied", "Access was denied while attempting to upload an output file"),
    ("FileUploadContainerNotFound", "One of the specified Azure container(s) was not found while attempting to upload"),
    ("FileUploadMiscError", "Miscellaneous error encountered while uploading an output file"),
)


class Blobs:
    """Requests with one access token, or with what the URL itself carries (a SAS, or nothing)."""

    def __init__(self, client: httpx.AsyncClient, token: str | None) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}", "x-ms-version": _STORAGE_VERSION} if token else {}

    async def download(self, url: str, target: Path) -> None:
        """Write what is at that address to a file.

        Raises:
            TaskFailureError: refused, missing or not to be had.
        """
        response = await self._request(DOWNLOAD, "GET", url)
        target.write_bytes(response.content)

    async def names(self, container: str, prefix: str) -> AsyncIterator[str]:
        """The blobs of a container.

        Raises:
            TaskFailureError: it may not be listed, or is not there.
        """
        query = {"restype": "container", "comp": "list", "prefix": prefix}
        while True:
            answer = ET.fromstring((await self._request(LIST, "GET", container, query)).content)  # noqa: S314  # our own
            for name in answer.iterfind("Blobs/Blob/Name"):
                yield name.text or ""
            query["marker"] = answer.findtext("NextMarker") or ""
            if not query["marker"]:
                return

    async def upload(self, source: Path, url: str, headers: Mapping[str, str]) -> None:
        """Make a block blob of a file.

        Raises:
            TaskFailureError: refused, or there is no such container.
        """
        with source.open("rb") as file:
            if source.stat().st_size <= _BLOCK_BYTES:
                put = {**headers, "x-ms-blob-type": "BlockBlob"}
                await self._request(UPLOAD, "PUT", url, content=file.read(), headers=put)
            else:
                await self._upload_blocks(file, url, headers)

    async def _upload_blocks(self, file: IO[bytes], url: str, headers: Mapping[str, str]) -> None:
        ids: list[str] = []
        while block := file.read(_BLOCK_BYTES):
            ids.append(base64.b64encode(f"{len(ids):08}".encode()).decode())
            await self._request(UPLOAD, "PUT", url, {"comp": "block", "blockid": ids[-1]}, content=block)
        latest = "".join(f"<Latest>{name}</Latest>" for name in ids)
        content = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{latest}</BlockList>'.encode()
        await self._request(UPLOAD, "PUT", url, {"comp": "blocklist"}, content=content, headers=headers)

    async def _request(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        address = httpx.URL(url)
        shown = str(address.copy_with(query=None))
        if address.host not in _LOOPBACK:
            raise purpose.failure(0, f"{shown} cannot be reached from a local node")
        address = address.copy_merge_params(query or {})
        for attempt in range(_ATTEMPTS):
            await asyncio.sleep(attempt / 2)
            try:
                response = await self._client.request(
                    method, address, content=content, headers={**self._headers, **(headers or {})}
                )
            except httpx.TransportError as error:
                failure = purpose.failure(0, f"{method} {shown}: {error!r}")
                continue
            if response.is_success:
                return response
            failure = purpose.failure(response.status_code, f"{method} {shown}: {response.status_code}")
            if response.status_code < 500:
                break
        raise failure


def blob_url(container: str, name: str) -> str:
    """Address of a blob in a container whose own address may carry a SAS."""
    parts = urlsplit(container)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))
