"""The output of a harvest: in the results container, and in a folder where one is named."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from azure.storage.blob import ContentSettings
from prefect import task

from spatiobatch.errors import OutputError
from spatiobatch.manifest import Layout, Manifest
from tasks.clients import AzureClients, azure_task
from tasks.environment import Environment


def harvest_files(collections: list[dict[str, Any]], manifest: Manifest) -> dict[str, bytes]:
    """The files of a collections harvest by their path; the manifest comes last, since it says that all is there."""
    layout = Layout(manifest.harvest_id)
    return {
        layout.collections: json.dumps({"collections": collections}, ensure_ascii=False, indent=1).encode(),
        layout.manifest: manifest.model_dump_json(indent=1).encode(),
    }


@azure_task("publish results")
def publish(azure: AzureClients, environment: Environment, files: dict[str, bytes]) -> str:
    """Upload the files in their order; returns the address of the last one."""
    container = azure.blobs(environment.blob_endpoint).get_container_client(azure.settings.results_container)
    address = ""
    for path, content in files.items():
        blob = container.get_blob_client(path)
        blob.upload_blob(content, overwrite=True, content_settings=ContentSettings(content_type="application/json"))
        address = str(blob.url)
    return address


@task(name="write output")
def write_output(output: Path, files: dict[str, bytes]) -> Path:
    """Write the files below a folder, each whole or not at all; returns the path of the last one.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = output
    try:
        for path, content in files.items():
            target = output / path
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.part")
            partial.write_bytes(content)
            partial.replace(target)
    except OSError as error:
        raise OutputError(output, os.strerror(error.errno or 0)) from error
    return target


def check_output(output: Path) -> None:
    """Find out before anything is started whether the output folder can be written.

    Raises:
        OutputError: it cannot.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise OutputError(output, os.strerror(error.errno or 0)) from error
