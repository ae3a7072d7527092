"""What all answers of the blob service share: headers, XML, and the envelope of errors.

https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2
"""

import re
from urllib.parse import quote
from xml.etree import ElementTree

from starlette.requests import Request
from starlette.responses import Response

from local_azure.clock import Clock, ticks
from local_azure.errors import ApiError
from local_azure.wire import request_id

VERSION = "2026-10-06"
"""The service version that azure-storage-blob 12.31.1 asks for."""

_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class AuthenticationFailed(ApiError):
    """403 for a signature that does not hold, with the detail that Azure gives."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            403,
            "AuthenticationFailed",
            "Server failed to authenticate the request. Make sure the value of Authorization header is formed "
            "correctly including the signature.",
        )
        self.detail = detail


def finished(request: Request, response: Response) -> Response:
    """The response with the headers that every answer carries."""
    response.headers.setdefault("x-ms-request-id", request_id())
    response.headers["x-ms-version"] = request.headers.get("x-ms-version", VERSION)
    if "x-ms-client-request-id" in request.headers:
        response.headers["x-ms-client-request-id"] = request.headers["x-ms-client-request-id"]
    return response


def render(request: Request, error: ApiError) -> Response:
    """An error in the service's XML envelope; none for HEAD and 304."""
    headers = {"x-ms-error-code": error.code, "x-ms-request-id": request_id(), **error.headers}
    if request.method == "HEAD" or error.status == 304:
        return finished(request, Response(status_code=error.status, headers=headers))
    root = ElementTree.Element("Error")
    add(root, "Code", error.code)
    time = ticks(Clock().now())
    add(root, "Message", f"{error.message}\nRequestId:{headers['x-ms-request-id']}\nTime:{time}")
    if isinstance(error, AuthenticationFailed):
        add(root, "AuthenticationErrorDetail", error.detail)
    return finished(request, xml(root, error.status, headers))


def xml(root: ElementTree.Element, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An XML answer."""
    body = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(body, status, headers, media_type="application/xml")


def add(parent: ElementTree.Element, name: str, text: str = "") -> ElementTree.Element:
    """Append an element; text that XML cannot hold is percent-encoded, and marked so."""
    child = ElementTree.SubElement(parent, name)
    if _NOT_IN_XML.search(text):
        child.set("Encoded", "true")
        text = quote(text)
    child.text = text
    return child


def parsed(body: bytes) -> ElementTree.Element:
    """The root of an XML request body.

    Raises:
        ApiError: 400.
    """
    try:
        return ElementTree.fromstring(body)  # noqa: S314  # expat bounds entity expansion itself since 2.4.1
    except ElementTree.ParseError as error:
        raise ApiError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.") from error
