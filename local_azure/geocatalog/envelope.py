"""The service's envelope for errors: `{"error": {"code", "message"}}`, the code in `x-ms-error-code` too.

Recorded by Azure/azure-sdk-assets of reads and writes alike. Of the codes, `ResourceNotFound` and `BadRequestError` are
recorded with the texts of a collection, an item and a body that is not there; no other text is.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local_azure.errors import ApiError


def render(request: Request, error: ApiError) -> Response:
    """The answer that an error is."""
    body = {"error": {"code": error.code, "message": error.message}}
    return JSONResponse(body, error.status, {**error.headers, "x-ms-error-code": error.code})


def bad_request(message: str) -> ApiError:
    """A question that cannot be understood."""
    return ApiError(400, "BadRequestError", message)


def no_collection(collection_id: str) -> ApiError:
    """A collection that is not there."""
    sentence = f"Collection '{collection_id}' not found. Please verify the collection ID and try again."
    return ApiError(404, "ResourceNotFound", sentence)


def no_item(path: str, collection_id: str, item_id: str) -> ApiError:
    """An item that is not there, at a path that begins with `/stac`."""
    parameters = {"collection_id": collection_id, "item_id": item_id}
    sentence = f"Resource not found at '{path}' with parameters {parameters}. Check the parameters and try again."
    return ApiError(404, "ResourceNotFound", sentence)
