"""The picture of an item harvest: where and when the items lie, as a file of the archive and as a Prefect artifact."""

import base64
from collections.abc import Mapping

from azure.storage.blob import ContentSettings
from prefect.artifacts import create_image_artifact
from prefect.logging import get_run_logger

from spatiobatch.manifest import Layout, Manifest
from tasks.clients import AzureClients, attempted, azure_task
from tasks.compaction import Compaction
from tasks.environment import Environment, results
from tasks.picture.density import density_of
from tasks.picture.timeline import timeline_of
from tasks.picture.words import words_of

_MOST_PNG_BYTES = 67_000
"""Base64 makes 90 KB of it, which Prefect's UI shows without stalling."""


def keep_picture(
    azure: AzureClients, environment: Environment, manifest: Manifest, compactions: Mapping[str, Compaction]
) -> str | None:
    """Keep a picture of the items; its file's path, or None where there are no items or the picture failed.

    A harvest without its picture is whole, so that a failure is a warning and nothing else.
    """
    if not compactions:
        return None
    state = attempted(draw_picture, azure, environment, manifest, compactions)
    if state.is_completed():
        return state.result()
    get_run_logger().warning("The harvest goes on without a picture: %s", state.message)
    return None


@azure_task("draw picture")
def draw_picture(
    azure: AzureClients, environment: Environment, manifest: Manifest, compactions: Mapping[str, Compaction]
) -> str:
    """Draw the picture, put it into the archive and create the artifact; returns the file's path."""
    from tasks.picture.page import draw, png, svg  # noqa: PLC0415  # Matplotlib takes a second

    density = density_of(report.footprints for report in compactions.values())
    figure = draw(words_of(manifest, compactions), density, timeline_of(compactions))
    path = Layout(manifest.harvest_id).picture
    container = results(azure, environment)
    settings = ContentSettings(content_type="image/svg+xml")
    container.upload_blob(path, svg(figure), overwrite=True, content_settings=settings)
    image = base64.b64encode(png(figure, _MOST_PNG_BYTES)).decode()
    key = f"harvest-{manifest.query.hash}-picture"
    create_image_artifact(f"data:image/png;base64,{image}", key, f"Where and when: harvest {manifest.harvest_id}")
    return path
