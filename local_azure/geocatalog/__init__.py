"""GeoCatalog."""

from starlette.applications import Starlette
from starlette.responses import JSONResponse

from local_azure.cloud import Cloud
from local_azure.wire import application


def app(cloud: Cloud) -> Starlette:
    """The HTTP application."""
    return application("geocatalog", [], lambda _, e: JSONResponse({"error": {"code": e.code, "message": e.message}}, e.status, e.headers))


def resource_id(cloud: Cloud) -> str:
    """ARM id of the seeded GeoCatalog."""
    return f"{cloud.subscription_scope}/resourceGroups/geocatalog/providers/Microsoft.Orbital/geoCatalogs/catalog"
