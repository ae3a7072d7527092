"""Operations on block blobs.

https://learn.microsoft.com/rest/api/storageservices/operations-on-blobs
"""

import base64
import hashlib
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from local_azure.blob.call import Call, metadata_headers, version_headers
from local_azure.blob.conditions import check_read, check_write
from local_azure.blob.leases import check_lease, lease_headers, settle_lease
from local_azure.clock import http_date, parse_time
from local_azure.errors import ApiError
from local_azure.store import Document

_LARGEST_PUT_BYTES = 5000 * 2**20
# https://learn.microsoft.com/rest/api/storageservices/put-blob

_DEFAULT_TYPE = "application/octet-stream"
_TIERS = ("Hot", "Cool", "Cold", "Archive")
_LARGEST_RANGE_WITH_MD5 = 4 * 2**20
_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")
_CONTENT_HEADERS = (
    "Content-Type",
    "Content-Encoding",
    "Content-Language",
    "Cache-Control",
    "Content-Disposition",
    "Content-MD5",
)
_SAS_OVERRIDES = {
    "rscc": "Cache-Control",
    "rscd": "Content-Disposition",
    "rsce": "Content-Encoding",
    "rscl": "Content-Language",
    "rsct": "Content-Type",
}


async def put_blob(call: Call) -> Response:
    """Put Blob, for block blobs."""
    if call.headers.get("x-ms-blob-type") != "BlockBlob":
        raise HTTPException(501)
    if "content-length" not in call.headers:
        raise ApiError(411, "MissingContentLengthHeader", "Content-Length HTTP header was not specified.")
    check_change(call)
    received = await call.state.files.receive(call.request.stream(), _LARGEST_PUT_BYTES)
    try:
        call.check_md5(received.md5)
        content = {"Content-MD5": received.md5, **content_headers(call, with_request_headers=True)}
        blob = publish(call, [{"id": None, "file": received.file, "size": received.size}], content)
    except ApiError:
        call.state.files.discard([received.file])
        raise
    return Response(
        status_code=201,
        headers={**version_headers(blob), "Content-MD5": received.md5, "x-ms-request-server-encrypted": "true"},
    )


def check_change(call: Call) -> Document | None:
    """The blob that a write would replace, after its lease and the request's conditions.

    Raises:
        ApiError: 404, 409 or 412.
    """
    blob = call.blob_or_none
    check_write(call.headers, blob, creating=True)
    if blob is not None:
        check_lease(call.headers, blob, call.state, writing=True, kind="Blob")
    elif "x-ms-lease-id" in call.headers:
        raise ApiError(412, "LeaseNotPresentWithBlobOperation", "There is currently no lease on the blob.")
    return blob


def content_headers(call: Call, *, with_request_headers: bool) -> dict[str, str]:
    """The blob's own HTTP headers from `x-ms-blob-…`, or from the request's own."""
    found = {}
    for name in _CONTENT_HEADERS:
        value = call.headers.get(f"x-ms-blob-{name.lower()}")
        if value is None and with_request_headers:
            value = call.headers.get(name)
        if value:
            found[name] = value
    return found


def publish(call: Call, blocks: list[Document], content: dict[str, str], **more: Any) -> Document:
    """Make these blocks the blob, in one step, if the conditions still hold.

    Raises:
        ApiError: 404, 409 or 412, when somebody else was faster.
    """
    state, key = call.state, call.blob_key
    replaced = check_change(call) or {"blocks": []}
    settle_lease(replaced, state)
    blob: Document = {
        "name": call.blob_name,
        "blocks": blocks,
        "size": sum(block["size"] for block in blocks),
        "content": {"Content-Type": _DEFAULT_TYPE, **content},
        "metadata": call.metadata(),
        "tier": tier(call),
        **({"lease": replaced["lease"]} if "lease" in replaced else {}),
        **more,
    }
    state.stamp(blob)
    blob["created"] = blob["lastModified"]
    kept = {block["file"] for block in blocks}
    staged = state.staged_blocks.pop(key, {})
    state.blobs[key] = blob
    state.files.discard({block["file"] for block in [*replaced["blocks"], *staged.values()]} - kept)
    return blob


def tier(call: Call) -> str | None:
    """The access tier that the request sets; None where the account's default applies.

    Raises:
        ApiError: 400.
    """
    asked = call.headers.get("x-ms-access-tier")
    if asked is not None and asked not in _TIERS:
        raise ApiError(
            400, "InvalidHeaderValue", "The value for the header x-ms-access-tier is not in the correct format."
        )
    return asked


async def get_blob(call: Call) -> Response:
    """Get Blob, whole or a range."""
    blob = _readable(call)
    headers = {**_properties(call, blob), **_overrides(call), "Accept-Ranges": "bytes"}
    wanted = _range(call, blob["size"])
    if wanted is None:
        pinned = call.state.files.pin(blob["blocks"])
        return StreamingResponse(call.state.files.read(pinned, 0, blob["size"]), headers=headers)
    first, last = wanted
    whole_md5 = headers.pop("Content-MD5", None)
    if whole_md5:
        headers["x-ms-blob-content-md5"] = whole_md5
    if call.headers.get("x-ms-range-get-content-md5", "").lower() == "true":
        headers["Content-MD5"] = await _range_md5(call, blob, first, last)
    headers["Content-Range"] = f"bytes {first}-{last}/{blob['size']}"
    headers["Content-Length"] = str(last - first + 1)
    pinned = call.state.files.pin(blob["blocks"])
    return StreamingResponse(call.state.files.read(pinned, first, last - first + 1), 206, headers)


async def get_blob_properties(call: Call) -> Response:
    """Get Blob Properties."""
    blob = _readable(call)
    return Response(headers={**_properties(call, blob), **_overrides(call)})


async def get_blob_metadata(call: Call) -> Response:
    """Get Blob Metadata."""
    blob = _readable(call)
    return Response(headers={**version_headers(blob), **metadata_headers(blob["metadata"])})


async def set_blob_metadata(call: Call) -> Response:
    """Set Blob Metadata."""
    blob = _changeable(call)
    blob["metadata"] = call.metadata()
    return _changed(call, blob)


async def set_blob_properties(call: Call) -> Response:
    """Set Blob Properties: the HTTP headers, all of them at once."""
    blob = _changeable(call)
    blob["content"] = {"Content-Type": _DEFAULT_TYPE, **content_headers(call, with_request_headers=False)}
    return _changed(call, blob)


async def set_blob_tier(call: Call) -> Response:
    """Set Blob Tier, at once."""
    blob = _changeable(call)
    blob["tier"] = tier(call) or "Hot"
    call.state.blobs[call.blob_key] = blob
    return Response()


async def delete_blob(call: Call) -> Response:
    """Delete Blob, for good: there is no soft delete."""
    _changeable(call)
    call.state.drop_blob(call.blob_key)
    return Response(status_code=202, headers={"x-ms-delete-type-permanent": "true"})


def _readable(call: Call) -> Document:
    blob = call.blob
    check_lease(call.headers, blob, call.state, writing=False, kind="Blob")
    check_read(call.headers, blob)
    return blob


def _changeable(call: Call) -> Document:
    blob = call.blob
    check_write(call.headers, blob)
    check_lease(call.headers, blob, call.state, writing=True, kind="Blob")
    return blob


def _changed(call: Call, blob: Document) -> Response:
    settle_lease(blob, call.state)
    call.state.stamp(blob)
    call.state.blobs[call.blob_key] = blob
    return Response(headers=version_headers(blob))


def _properties(call: Call, blob: Document) -> dict[str, str]:
    return {
        **version_headers(blob),
        **metadata_headers(blob["metadata"]),
        **lease_headers(blob, call.state),
        **blob["content"],
        **blob.get("copy", {}),
        "Content-Length": str(blob["size"]),
        "x-ms-blob-type": "BlockBlob",
        "x-ms-creation-time": http_date(parse_time(blob["created"])),
        "x-ms-access-tier": blob["tier"] or "Hot",
        **({} if blob["tier"] else {"x-ms-access-tier-inferred": "true"}),
        "x-ms-server-encrypted": "true",
    }


def _overrides(call: Call) -> dict[str, str]:
    return {
        header: call.query[name]
        for name, header in _SAS_OVERRIDES.items()
        if name in call.query and "sig" in call.query
    }


def _range(call: Call, size: int) -> tuple[int, int] | None:
    """First and last byte; None for the whole blob, as for a range Azure does not understand."""
    found = _RANGE.match(call.headers.get("x-ms-range", call.headers.get("range", "")))
    if not found:
        return None
    first, last = int(found[1]), min(int(found[2] or size), size - 1)
    if found[2] and int(found[2]) < first:
        return None
    if first >= size:
        raise ApiError(
            416,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
            {"Content-Range": f"bytes */{size}"},
        )
    return first, last


async def _range_md5(call: Call, blob: Document, first: int, last: int) -> str:
    if last - first + 1 > _LARGEST_RANGE_WITH_MD5:
        raise ApiError(400, "InvalidHeaderValue", "x-ms-range-get-content-md5 is for ranges of at most 4 MiB.")
    digest = hashlib.md5(usedforsecurity=False)
    async for chunk in call.state.files.read(call.state.files.pin(blob["blocks"]), first, last - first + 1):
        digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()
