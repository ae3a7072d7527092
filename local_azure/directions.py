"""What is said once everything is up: how to point clients at this cloud.

The Azure CLI's own page is https://learn.microsoft.com/cli/azure/manage-clouds-azure-cli.
"""

import shlex
from pathlib import Path

from local_azure.cloud import Cloud

_TEMPLATE = """\
local_azure: everything is up. For every client, in its own shell:

    set -a; . {env_file}; set +a

Azure CLI (docs/local-azure.md goes on from here):

    az cloud register --name local --endpoint-resource-manager "$LOCAL_AZURE_ARM_URL"
    az cloud set --name local
    az login --identity

Python SDKs, with azure.identity.ManagedIdentityCredential() as the credential:

    ResourceManagementClient(credential, os.environ["LOCAL_AZURE_SUBSCRIPTION_ID"], base_url=os.environ["LOCAL_AZURE_ARM_URL"], credential_scopes=["https://management.azure.com/.default"])
    BatchClient(os.environ["LOCAL_AZURE_BATCH_URL"] + "/<account>", credential, credential_scopes=["https://batch.core.windows.net//.default"])
    BlobServiceClient(os.environ["LOCAL_AZURE_BLOB_URL"] + "/<account>", credential)

GeoCatalog, for whoever has a role on it:

    az role assignment create --role "GeoCatalog Reader" --assignee $(az account show --query user.name -o tsv) --scope $LOCAL_AZURE_GEOCATALOG_ID
    curl -H "Authorization: Bearer $(az account get-access-token --resource https://geocatalog.spatio.azure.com --query accessToken -o tsv)" "$LOCAL_AZURE_GEOCATALOG_URL/stac/collections?api-version=2026-04-15"

Browser: trust the authority in {ca_file}; what needs no token is
    {arm}/metadata/endpoints?api-version=2022-09-01
    {login}/{tenant}/v2.0/.well-known/openid-configuration
and for all else an extension has to send the header of the curl line.
"""  # noqa: E501  # lines to copy


def directions(cloud: Cloud, env_file: Path) -> str:
    """Lines to read and to copy; they hold no secret."""
    return _TEMPLATE.format(
        env_file=shlex.quote(str(env_file.absolute())),
        ca_file=cloud.certificates.ca_file.resolve(),
        arm=cloud.addresses.arm,
        login=cloud.addresses.identity,
        tenant=cloud.tenant_id,
    )
