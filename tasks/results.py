"""The archive of a harvest in the results container."""

from azure.storage.blob import ContentSettings

from spatiobatch.manifest import Layout, Manifest
from tasks.clients import AzureClients, azure_task
from tasks.environment import Environment, results


def harvest_files(collections: bytes, manifest: Manifest) -> dict[str, bytes]:
    """The files of a collections harvest by their path; the manifest comes last, since it says that all is there."""
    layout = Layout(manifest.harvest_id)
    return {layout.collections: collections, layout.manifest: manifest.model_dump_json(indent=1).encode()}


@azure_task("publish results")
def publish(azure: AzureClients, environment: Environment, files: dict[str, bytes]) -> str:
    """Upload the files in their order; returns the address of the last one."""
    container = results(azure, environment)
    address = ""
    for path, content in files.items():
        blob = container.get_blob_client(path)
        blob.upload_blob(content, overwrite=True, content_settings=ContentSettings(content_type="application/json"))
        address = str(blob.url)
    return address
