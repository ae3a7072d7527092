"""Blob content on disk: immutable files with random names, of which blobs and blocks are made."""

import base64
import hashlib
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import ClientDisconnect

from local_azure.errors import ApiError
from local_azure.store import Document

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Received:
    """A request body that is safely on disk."""

    file: str
    size: int
    md5: str
    """Base64, as in `Content-MD5`."""


class Files:
    """A folder of content files.

    A file is written under a temporary name, renamed when it is whole, and never changed after.
    One that is being read is removed only when its last reader has finished.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._readers: Counter[str] = Counter()
        self._doomed: set[str] = set()

    async def receive(self, stream: AsyncIterable[bytes], largest_bytes: int) -> Received:
        """Write a body to a new file as it arrives.

        Raises:
            ApiError: 413 when it is larger than allowed, 400 when the client went away.
        """
        name = uuid.uuid4().hex
        partial = self._folder / f"{name}.part"
        size, digest = 0, hashlib.md5(usedforsecurity=False)
        try:
            with partial.open("wb") as file:
                async for chunk in stream:
                    size += len(chunk)
                    if size > largest_bytes:
                        raise too_large(largest_bytes)
                    digest.update(chunk)
                    file.write(chunk)
            partial.rename(self._folder / name)
        except ClientDisconnect as error:
            raise ApiError(
                400, "InvalidInput", "The client closed the connection before the body was whole."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return Received(name, size, base64.b64encode(digest.digest()).decode())

    def pin(self, blocks: list[Document]) -> list[Document]:
        """Keep the files of these blocks until `read` has finished with them."""
        self._readers.update(block["file"] for block in blocks)
        return blocks

    async def read(self, pinned: list[Document], start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes `start` to `start + length` of the blocks in a row; releases them at the end."""
        try:
            for block in pinned:
                take = min(length, block["size"] - start)
                if take > 0:
                    with (self._folder / block["file"]).open("rb") as file:
                        file.seek(start)
                        for offset in range(0, take, _CHUNK_BYTES):
                            yield file.read(min(_CHUNK_BYTES, take - offset))
                    length -= take
                start = max(0, start - block["size"])
        finally:
            self._release(pinned)

    def copy(self, file: str) -> str:
        """Another name for the same content."""
        name = uuid.uuid4().hex
        os.link(self._folder / file, self._folder / name)
        return name

    def discard(self, files: Iterable[str]) -> None:
        """Remove files that nothing refers to any more, once nobody reads them."""
        for name in set(files):
            if self._readers[name]:
                self._doomed.add(name)
            else:
                (self._folder / name).unlink(missing_ok=True)

    def sweep(self, keep: set[str]) -> None:
        """Remove what an earlier process left: unfinished uploads, and files nothing refers to."""
        for path in self._folder.iterdir():
            if path.name not in keep:
                path.unlink()

    def _release(self, blocks: list[Document]) -> None:
        self._readers.subtract(block["file"] for block in blocks)
        self._readers += Counter()
        finished = {name for name in self._doomed if not self._readers[name]}
        self._doomed -= finished
        self.discard(finished)


def too_large(largest_bytes: int) -> ApiError:
    """413, with the limit."""
    return ApiError(
        413,
        "RequestBodyTooLarge",
        f"The request body is too large and exceeds the maximum permissible limit of {largest_bytes} bytes.",
    )
