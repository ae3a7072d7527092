"""Login."""

from starlette.applications import Starlette
from starlette.responses import JSONResponse

from local_azure.cloud import Cloud
from local_azure.wire import application


def app(cloud: Cloud) -> Starlette:
    """The HTTP application."""
    return application("identity", [], lambda _, e: JSONResponse({"error": {"code": e.code, "message": e.message}}, e.status, e.headers))
