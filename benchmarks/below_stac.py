"""The generation of stac-fastapi-pgstac behind the service, served below `/stac`; runs alone, in its environment."""

from stac_fastapi.pgstac.app import app  # type: ignore[import-untyped]  # the newest makes it in a function

app.root_path = "/stac"  # the newest reads it from ROOT_PATH
