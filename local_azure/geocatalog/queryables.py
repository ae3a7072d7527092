"""What searches are told that they can ask for, as Azure/azure-sdk-assets recorded it of a collection."""

from typing import Any

from stac_fastapi.extensions.filter.client import AsyncBaseFiltersClient

from local_azure.geocatalog.catalog import Catalog
from local_azure.geocatalog.links import Links
from local_azure.store import Document


class Queryables(AsyncBaseFiltersClient):
    """The queryables that pgstac starts with; any other property can be queried too."""

    def __init__(self, catalog: Catalog, root: str) -> None:
        super().__init__()
        self._catalog = catalog
        self._links = Links(root)

    async def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> Document:
        """The JSON schema of the queryables."""
        if collection_id is not None:
            self._catalog.collection(collection_id)
        item = "https://schemas.stacspec.org/v1.0.0/item-spec/json-schema/item.json"
        return {
            "$id": self._links.address(kwargs["request"]),
            "type": "object",
            "title": "STAC Queryables.",
            "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {
                "id": {
                    "$ref": f"{item}#/definitions/core/allOf/2/properties/id",
                    "title": "Item ID",
                    "description": "Item identifier",
                },
                "datetime": {
                    "type": "string",
                    "title": "Acquired",
                    "format": "date-time",
                    "pattern": r"(\+00:00|Z)$",
                    "description": "Datetime",
                },
                "geometry": {
                    "$ref": "https://geojson.org/schema/Feature.json",
                    "title": "Item Geometry",
                    "description": "Item Geometry",
                },
            },
            "additionalProperties": True,
        }
