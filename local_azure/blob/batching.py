"""Blob Batch: several deletes or tier changes in one request.

https://learn.microsoft.com/rest/api/storageservices/blob-batch
"""

import uuid
from email.message import Message
from email.parser import BytesParser
from http import HTTPStatus

from starlette.responses import Response

from local_azure.blob.answers import finished, render
from local_azure.blob.authorization import authorize
from local_azure.blob.blobs import delete_blob, set_blob_tier
from local_azure.blob.call import Call
from local_azure.blob.permissions import Operation
from local_azure.errors import ApiError

BATCHABLE = {
    ("blob", "DELETE", ""): Operation(delete_blob, "containers/blobs/delete", data=True, sas="d"),
    ("blob", "PUT", "tier"): Operation(set_blob_tier, "containers/blobs/write", data=True, sas="w"),
}
"""The operations that a batch may hold."""

_MOST_PARTS = 256


async def run_batch(call: Call) -> Response:
    """Carry out each part with its own credentials; each has its own answer."""
    head = f"Content-Type: {call.headers.get('content-type', '')}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + await call.document())
    parts = list(message.walk())[1:]
    if not parts:
        raise ApiError(400, "InvalidInput", "One of the request inputs is not valid: no multipart/mixed body.")
    if len(parts) > _MOST_PARTS:
        raise ApiError(400, "ExceedsMaxBatchRequestCount", f"A batch holds at most {_MOST_PARTS} requests.")
    boundary = f"batchresponse_{uuid.uuid4()}"
    body = b""
    for part in parts:
        answer = await _run_part(call, _text(part))
        body += f"--{boundary}\r\nContent-Type: application/http\r\n".encode()
        body += f"Content-ID: {part['Content-ID']}\r\n\r\n".encode() + _serialized(answer) + b"\r\n"
    return Response(body + f"--{boundary}--\r\n".encode(), 202, media_type=f"multipart/mixed; boundary={boundary}")


def _text(part: "Message[str, str]") -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


async def _run_part(outer: Call, text: bytes) -> Response:
    line, _, rest = text.lstrip().partition(b"\n")
    try:
        method, target, *_ = line.decode("ascii").split()
    except ValueError as error:
        raise ApiError(400, "InvalidInput", "One of the request inputs is not valid: no request line.") from error
    call = outer.inner(method, target, dict(BytesParser().parsebytes(rest, headersonly=True).items()))
    call.refuse_what_is_missing()
    try:
        operation = BATCHABLE.get(call.operation)
        if operation is None or call.account_name != outer.account_name:
            raise ApiError(400, "InvalidInput", f"A batch cannot hold {method} {call.raw_path}.")
        authorize(call, operation)
        return finished(call.request, await operation.handler(call))
    except ApiError as error:
        return render(call.request, error)


def _serialized(answer: Response) -> bytes:
    lines = [f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + bytes(answer.body)
