"""Blocks, and the lists that make blobs of them.

https://learn.microsoft.com/rest/api/storageservices/put-block, …/put-block-list, …/get-block-list
"""

import base64
import binascii
from collections.abc import Iterable
from xml.etree import ElementTree

from starlette.responses import Response

from local_azure.blob.answers import add, parsed, xml
from local_azure.blob.blobs import check_change, content_headers, publish
from local_azure.blob.call import Call, version_headers
from local_azure.blob.conditions import check_read
from local_azure.blob.leases import check_lease
from local_azure.errors import ApiError
from local_azure.store import Document

_LARGEST_BLOCK_BYTES = 4000 * 2**20
_MOST_BLOCKS = 50_000
_LONGEST_ID_BYTES = 64


async def put_block(call: Call) -> Response:
    """Put Block."""
    block_id = _block_id(call)
    if "content-length" not in call.headers:
        raise ApiError(411, "MissingContentLengthHeader", "Content-Length HTTP header was not specified.")
    _check_staging(call)
    received = await call.state.files.receive(call.request.stream(), _LARGEST_BLOCK_BYTES)
    try:
        call.check_md5(received.md5)
        staged = _check_staging(call)
        _check_id_length(block_id, staged)
    except ApiError:
        call.state.files.discard([received.file])
        raise
    replaced = staged.get(block_id)
    staged[block_id] = {"id": block_id, "file": received.file, "size": received.size}
    call.state.staged_blocks[call.blob_key] = staged
    if replaced:
        call.state.files.discard([replaced["file"]])
    return Response(status_code=201, headers={"Content-MD5": received.md5, "x-ms-request-server-encrypted": "true"})


def _check_staging(call: Call) -> Document:
    blob = call.blob_or_none
    if blob is not None:
        check_lease(call.headers, blob, call.state, writing=True, kind="Blob")
    return call.state.staged_blocks.get(call.blob_key, {})


def _block_id(call: Call) -> str:
    text = call.query.get("blockid", "")
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if not 1 <= len(raw) <= _LONGEST_ID_BYTES:
        raise ApiError(
            400,
            "InvalidQueryParameterValue",
            "Value for one of the query parameters specified in the request URI is invalid: blockid.",
        )
    return text


def _check_id_length(block_id: str, staged: Iterable[str]) -> None:
    if any(len(base64.b64decode(other)) != len(base64.b64decode(block_id)) for other in staged):
        raise ApiError(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid.")


async def put_block_list(call: Call) -> Response:
    """Put Block List."""
    body = await call.document()
    blob = check_change(call)
    blocks = _listed(call, parsed(body), blob)
    published = publish(call, blocks, content_headers(call, with_request_headers=False))
    return Response(status_code=201, headers={**version_headers(published), "x-ms-request-server-encrypted": "true"})


def _listed(call: Call, listing: ElementTree.Element, blob: Document | None) -> list[Document]:
    staged = call.state.staged_blocks.get(call.blob_key, {})
    committed = {block["id"]: block for block in (blob["blocks"] if blob else [])}
    sources = {"Committed": committed, "Uncommitted": staged, "Latest": {**committed, **staged}}
    if len(listing) > _MOST_BLOCKS:
        raise ApiError(400, "BlockListTooLong", f"The block list may not contain more than {_MOST_BLOCKS} blocks.")
    blocks = []
    for element in listing:
        block = sources.get(element.tag, {}).get((element.text or "").strip())
        if block is None:
            raise ApiError(400, "InvalidBlockList", "The specified block list is invalid.")
        blocks.append(block)
    return blocks


async def get_block_list(call: Call) -> Response:
    """Get Block List."""
    blob = call.blob_or_none
    staged = call.state.staged_blocks.get(call.blob_key, {})
    if blob is None and not staged:
        raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
    headers = {"x-ms-blob-content-length": "0"}
    if blob is not None:
        check_lease(call.headers, blob, call.state, writing=False, kind="Blob")
        check_read(call.headers, blob)
        headers = {"x-ms-blob-content-length": str(blob["size"]), **version_headers(blob)}
    kind = call.query.get("blocklisttype", "committed").lower()
    root = ElementTree.Element("BlockList")
    if kind in ("committed", "all"):
        committed = [block for block in (blob["blocks"] if blob else []) if block["id"] is not None]
        _add_blocks(root, "CommittedBlocks", committed)
    if kind in ("uncommitted", "all"):
        _add_blocks(root, "UncommittedBlocks", staged.values())
    return xml(root, headers=headers)


def _add_blocks(root: ElementTree.Element, name: str, blocks: Iterable[Document]) -> None:
    listing = add(root, name)
    for block in blocks:
        element = add(listing, "Block")
        add(element, "Name", block["id"])
        add(element, "Size", str(block["size"]))
