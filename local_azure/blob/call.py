"""One request to the blob service, taken apart, and the state that handlers work on."""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request

from local_azure.blob.files import Files, too_large
from local_azure.clock import http_date, parse_time, ticks
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document

_TICKS_PER_SECOND = 10**7
_TICKS_AT_EPOCH = 621_355_968_000_000_000
_METADATA = "x-ms-meta-"
_METADATA_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_LARGEST_METADATA_BYTES = 8 * 1024
_LARGEST_DOCUMENT_BYTES = 8 * 2**20
_MOST_NAME_CHARACTERS = 1024

_UNSUPPORTED_HEADERS = (
    "x-ms-content-crc64",
    "x-ms-structured-body",
    "x-ms-tags",
    "x-ms-if-tags",
    "x-ms-encryption-key",
    "x-ms-encryption-scope",
    "x-ms-immutability-policy-mode",
    "x-ms-legal-hold",
    "x-ms-source-content-md5",
)
_UNSUPPORTED_PARAMETERS = ("snapshot", "versionid")


class BlobState:
    """Containers, blobs, blocks not yet committed, and the files they are made of."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.accounts = cloud.store.table("storageAccounts")
        self.account_keys = cloud.store.table("storageKeys")
        self.containers = cloud.store.table("containers")
        self.deleted_containers = cloud.store.table("deletedContainers")
        self.blobs = cloud.store.table("blobs")
        self.staged_blocks = cloud.store.table("stagedBlocks")
        self.services = cloud.store.table("blobServices")
        self.secrets = cloud.store.table("blobSecrets")
        self.files = Files(cloud.store.folder / "blobs")
        self._last_version = 0

    def sweep(self) -> None:
        """Remove files that an earlier process left behind; for the start, before anything is received."""
        self.files.sweep(
            {block["file"] for blob in self.blobs.values() for block in blob["blocks"]}
            | {block["file"] for staged in self.staged_blocks.values() for block in staged.values()}
        )

    def stamp(self, document: Document) -> None:
        """Mark a container or blob as changed now: a new ETag, a new Last-Modified."""
        now = self.cloud.clock.now()
        version = int(now.timestamp() * _TICKS_PER_SECOND) + _TICKS_AT_EPOCH
        self._last_version = max(version, self._last_version + 1)
        document["etag"] = f'"0x{self._last_version:X}"'
        document["lastModified"] = ticks(now)

    def drop_blob(self, key: str) -> None:
        """Remove a blob and its blocks, committed or not, if they are there."""
        blocks = [*self.blobs.pop(key, {"blocks": []})["blocks"], *self.staged_blocks.pop(key, {}).values()]
        self.files.discard(block["file"] for block in blocks)

    def forget(self, account: str, container: str = "") -> None:
        """Remove a container with its blobs, or all that an account has."""
        prefix = f"{account}/{container}/" if container else f"{account}/"
        keys = {key for table in (self.blobs, self.staged_blocks) for key in table if key.startswith(prefix)}
        for key in keys:
            self.drop_blob(key)
        for table in (self.containers, self.deleted_containers):
            for key in [key for key in table if f"{key}/".startswith(prefix)]:
                del table[key]
        if not container:
            self.secrets.pop(account, None)
            self.services.pop(account, None)


class Call:
    """What a request addresses and carries.

    The path is `/<account>/<container>/<blob>`; a blob's name may hold slashes, and is
    case-sensitive.
    """

    def __init__(self, state: BlobState, request: Request) -> None:
        self.state = state
        self.cloud = state.cloud
        self.request = request
        self.headers = request.headers
        self.query = request.query_params
        self.raw_path: str = request.scope["raw_path"].decode("ascii")
        account, _, rest = self.raw_path.removeprefix("/").partition("/")
        container, _, blob = rest.partition("/")
        self.account_name = unquote(account).lower()
        self.container_name = unquote(container)
        self.blob_name = unquote(blob)

    @property
    def account(self) -> Document:
        """The storage account.

        Raises:
            ApiError: 404 where there is none; on Azure its host name would not resolve.
        """
        if self.account_name not in self.state.accounts:
            raise ApiError(404, "ResourceNotFound", f"The storage account {self.account_name} does not exist.")
        return self.state.accounts[self.account_name]

    @property
    def scope(self) -> str:
        """The ARM id at which access is decided."""
        account = str(self.account["id"])
        return f"{account}/blobServices/default/containers/{self.container_name}" if self.container_name else account

    @property
    def container_key(self) -> str:
        """Key of the container."""
        return f"{self.account_name}/{self.container_name}"

    @property
    def container(self) -> Document:
        """The container.

        Raises:
            ApiError: 404.
        """
        if self.container_key not in self.state.containers:
            raise ApiError(404, "ContainerNotFound", "The specified container does not exist.")
        return self.state.containers[self.container_key]

    @property
    def blob_key(self) -> str:
        """Key of the blob.

        Raises:
            ApiError: 400 for a name longer than the service takes.
        """
        if len(self.blob_name) > _MOST_NAME_CHARACTERS:
            raise ApiError(400, "InvalidUri", "The requested URI does not represent any resource on the server.")
        return f"{self.container_key}/{self.blob_name}"

    @property
    def blob_or_none(self) -> Document | None:
        """The blob if it exists; its container must.

        Raises:
            ApiError: 404 where the container is missing.
        """
        return self.state.blobs.get(self.blob_key) if self.container else None

    @property
    def blob(self) -> Document:
        """The blob.

        Raises:
            ApiError: 404.
        """
        blob = self.blob_or_none
        if blob is None:
            raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
        return blob

    @cached_property
    def operation(self) -> tuple[str, str, str]:
        """What the request asks for: level, method, and `comp` with `+copy` for a copy."""
        restype, comp = self.query.get("restype", ""), self.query.get("comp", "")
        if restype == "account":
            level = "account"
        elif self.blob_name:
            level = "blob"
        elif self.container_name:
            level = restype
        else:
            level = "service"
        return level, self.request.method, comp + ("+copy" if "x-ms-copy-source" in self.headers else "")

    def inner(self, method: str, target: str, headers: Mapping[str, str]) -> "Call":
        """A request without a body that this one carries within itself.

        Args:
            method: its method.
            target: path and query, encoded.
            headers: its headers.
        """
        path, _, query = target.partition("?")
        scope = {
            **self.request.scope,
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
        return Call(self.state, Request(scope))

    def refuse_what_is_missing(self) -> None:
        """Fail loudly where ignoring a header or parameter would be a soft success.

        Raises:
            HTTPException: 501.
        """
        if any(name in self.headers for name in _UNSUPPORTED_HEADERS) or any(
            self.query.get(name) for name in _UNSUPPORTED_PARAMETERS
        ):
            raise HTTPException(501)

    async def document(self) -> bytes:
        """A body that is an XML document or a batch, in memory.

        Raises:
            ApiError: 413, or 400 when it differs from its MD5.
        """
        body = bytearray()
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > _LARGEST_DOCUMENT_BYTES:
                raise too_large(_LARGEST_DOCUMENT_BYTES)
        self.check_md5(base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode())
        return bytes(body)

    def check_md5(self, actual: str) -> None:
        """Compare the body's MD5 with `Content-MD5`, where that was sent.

        Raises:
            ApiError: 400.
        """
        if self.headers.get("content-md5", actual) != actual:
            raise ApiError(
                400,
                "Md5Mismatch",
                "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
            )

    def metadata(self) -> dict[str, str]:
        """The metadata that the request sets.

        Raises:
            ApiError: 400 for a name that is no identifier, or for too much of it.
        """
        found = {name[len(_METADATA) :]: value for name, value in self.headers.items() if name.startswith(_METADATA)}
        if not all(_METADATA_NAME.match(name) for name in found):
            raise ApiError(
                400, "InvalidMetadata", "The metadata specified is invalid. It has characters that are not permitted."
            )
        if sum(len(name) + len(value) for name, value in found.items()) > _LARGEST_METADATA_BYTES:
            raise ApiError(
                400, "MetadataTooLarge", "The metadata specified exceeds the maximum permissible limit (8KB)."
            )
        return found

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from the query.

        Raises:
            ApiError: 400 when it is none, or smaller than `least`; larger ones count as `most`.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isdecimal() or int(text) < least:
            raise ApiError(
                400, "OutOfRangeQueryParameterValue", f"The value of the query parameter {name} is out of range."
            )
        return min(int(text), most)


def version_headers(document: Document) -> dict[str, str]:
    """`ETag` and `Last-Modified` of a container or blob."""
    return {"ETag": document["etag"], "Last-Modified": http_date(parse_time(document["lastModified"]))}


def metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata as it is answered."""
    return {_METADATA + name: value for name, value in metadata.items()}


def in_future(moment: str, state: BlobState) -> timedelta:
    """How long it is until that moment; nothing or less when it has passed."""
    return parse_time(moment) - state.cloud.clock.now()
