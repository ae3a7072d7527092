"""Copies within this service.

https://learn.microsoft.com/rest/api/storageservices/copy-blob, …/copy-blob-from-url, …/put-blob-from-url

Differences from Azure: a copy is always over when it is answered, and sources elsewhere are refused.
"""

import uuid
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import Response

from local_azure.blob.authorization import authorize
from local_azure.blob.blobs import check_change, content_headers, get_blob, publish
from local_azure.blob.call import Call, version_headers
from local_azure.blob.conditions import check_source
from local_azure.blob.permissions import Operation
from local_azure.clock import http_date
from local_azure.errors import ApiError
from local_azure.store import Document

_READ = Operation(get_blob, "containers/blobs/read", data=True, sas="r")


async def copy_blob(call: Call) -> Response:
    """Copy Blob, Copy Blob From URL, and Put Blob From URL, which a blob type tells apart."""
    source = _source(call)
    check_source(call.headers, source)
    check_change(call)
    blocks = [{**block, "file": call.state.files.copy(block["file"])} for block in source["blocks"]]
    copy = {
        "x-ms-copy-id": str(uuid.uuid4()),
        "x-ms-copy-status": "success",
        "x-ms-copy-source": call.headers["x-ms-copy-source"].partition("?")[0],
        "x-ms-copy-progress": f"{source['size']}/{source['size']}",
        "x-ms-copy-completion-time": http_date(call.cloud.clock.now()),
    }
    content = {**source["content"], **content_headers(call, with_request_headers=False)}
    try:
        blob = publish(call, blocks, content, metadata=call.metadata() or source["metadata"], copy=copy)
    except ApiError:
        call.state.files.discard(block["file"] for block in blocks)
        raise
    status = 201 if "x-ms-blob-type" in call.headers else 202
    shown = {name: copy[name] for name in ("x-ms-copy-id", "x-ms-copy-status")}
    return Response(status_code=status, headers={**version_headers(blob), **shown})


def _source(call: Call) -> Document:
    """The source, if whoever asks may read it: by its own authorization, or the caller's in the same account."""
    url = urlsplit(call.headers["x-ms-copy-source"])
    if url.netloc not in (urlsplit(call.cloud.addresses.blob).netloc, call.headers.get("host")):
        raise HTTPException(501)
    headers = {"x-ms-version": call.headers.get("x-ms-version", "")}
    callers = call.headers.get("authorization", "")
    if "x-ms-copy-source-authorization" in call.headers:
        headers["authorization"] = call.headers["x-ms-copy-source-authorization"]
    elif _account_of(url.path) == call.account_name:
        headers["authorization"] = callers
    source = call.inner("GET", url.path + (f"?{url.query}" if url.query else ""), headers)
    signed_by_key = "sig" not in call.query and callers.lower().startswith("sharedkey")
    if signed_by_key and source.account_name == call.account_name:
        # The caller signed his own request with the account's key, which opens every blob of the account.
        return source.blob
    try:
        authorize(source, _READ)
    except ApiError as error:
        raise ApiError(error.status, "CannotVerifyCopySource", error.message) from error
    return source.blob


def _account_of(path: str) -> str:
    return path.split("/")[1].lower()
