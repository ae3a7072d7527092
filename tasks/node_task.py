"""One of the node scripts as a Batch task."""

import shlex

from azure.batch.models import (
    BatchNodeIdentityReference,
    BatchTaskCreateOptions,
    EnvironmentSetting,
    OutputFile,
    OutputFileBlobContainerDestination,
    OutputFileDestination,
    OutputFileUploadConfiguration,
    ResourceFile,
)

from spatiobatch.settings import ScriptAccess
from tasks.clients import AzureClients
from tasks.environment import Environment, results
from tasks.storage import script_url

_RUN = {
    ".py": '"$AZ_BATCH_NODE_SHARED_DIR/bin/python" -I {script}',
    ".sh": "/bin/bash {script}",
}


def node_task(
    azure: AzureClients,
    environment: Environment,
    task_id: str,
    *,
    script: str,
    logs: str,
    variables: dict[str, str] | None = None,
) -> BatchTaskCreateOptions:
    """A task that runs a script of ours as the nodes' identity and leaves its output below `logs`.

    stdout.txt and stderr.txt are uploaded whatever becomes of the task, so that logs outlive nodes.
    """
    cloud, settings = azure.cloud, azure.settings
    identity = BatchNodeIdentityReference(resource_id=environment.identity_id)
    signed = settings.script_access is ScriptAccess.sas
    resource = ResourceFile(
        http_url=script_url(azure, environment.blob_endpoint, script, signed=signed),
        file_path=script,
        identity_reference=None if signed else identity,
    )
    command = _RUN[script[-3:]].format(script=script)
    surroundings = {
        "GEOCATALOG_URL": environment.geocatalog_url,
        "GEOCATALOG_API_VERSION": settings.geocatalog_api_version,
        "GEOCATALOG_SCOPE": cloud.required_geocatalog_scope(),
        "AZURE_CLIENT_ID": environment.client_id,
        "READ_TIMEOUT_SECONDS": f"{settings.read_timeout_seconds:g}",
        **(variables or {}),
    }
    return BatchTaskCreateOptions(
        id=task_id,
        command_line=f"/bin/bash -c {shlex.quote(command)}",
        resource_files=[resource],
        environment_settings=[EnvironmentSetting(name=name, value=value) for name, value in surroundings.items()],
        output_files=[_output(results_url(azure, environment), logs, identity)],
    )


def _output(container_url: str, logs: str, identity: BatchNodeIdentityReference) -> OutputFile:
    container = OutputFileBlobContainerDestination(container_url=container_url, path=logs, identity_reference=identity)
    return OutputFile(
        file_pattern="../std*.txt",
        destination=OutputFileDestination(container=container),
        upload_options=OutputFileUploadConfiguration(upload_condition="taskcompletion"),
    )


def results_url(azure: AzureClients, environment: Environment) -> str:
    """Address of the results container."""
    return str(results(azure, environment).url)
