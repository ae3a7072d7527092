"""Blob storage, as azure-storage-blob 12.31.1 and `az storage` call it.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api

Differences from Azure:

- An account is at `<root>/<account>`, not at a host of its own; one that does not exist is a 404.
- Block blobs only: no append or page blobs, snapshots, versions, soft delete, tags or encryption by the
  client. A request for one of these is a 501.
- No public access, whatever the account says; no stored access policies.
- A container is gone with its blobs as soon as its deletion is answered. Its name stays taken for 30 seconds,
  as on Azure, unless the clock is instant.
- Names of metadata come back in lower case, as HTTP servers hand them on.
- CRC-64 checksums are refused rather than left unchecked; MD5 is checked.
"""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_azure.blob.answers import finished, render
from local_azure.blob.authorization import authorize
from local_azure.blob.batching import BATCHABLE, run_batch
from local_azure.blob.blobs import (
    get_blob,
    get_blob_metadata,
    get_blob_properties,
    put_blob,
    set_blob_metadata,
    set_blob_properties,
)
from local_azure.blob.blocks import get_block_list, put_block, put_block_list
from local_azure.blob.call import BlobState, Call
from local_azure.blob.containers import (
    create_container,
    delete_container,
    get_container_properties,
    set_container_metadata,
)
from local_azure.blob.copying import copy_blob
from local_azure.blob.leases import lease_blob, lease_container
from local_azure.blob.listing import list_blobs, list_containers
from local_azure.blob.permissions import Operation
from local_azure.blob.service import get_account_information, get_service_properties, get_user_delegation_key
from local_azure.cloud import Cloud
from local_azure.wire import application

_CONTAINERS = "containers"
_BLOBS = "containers/blobs"

# What each takes: "Permissions for calling data operations" in
# https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory and
# https://learn.microsoft.com/rest/api/storageservices/create-account-sas
_OPERATIONS = {
    ("service", "GET", "list"): Operation(list_containers, f"{_CONTAINERS}/read", sas="l"),
    ("service", "GET", "properties"): Operation(get_service_properties, "read", sas="r"),
    ("service", "POST", "userdelegationkey"): Operation(
        get_user_delegation_key, "generateUserDelegationKey/action", needs_token=True
    ),
    ("service", "POST", "batch"): Operation(run_batch, f"{_CONTAINERS}/write", sas="d"),
    ("account", "GET", "properties"): Operation(get_account_information, "getInfo/action", sas="rwdlacup"),
    ("account", "HEAD", "properties"): Operation(get_account_information, "getInfo/action", sas="rwdlacup"),
    ("container", "PUT", ""): Operation(create_container, f"{_CONTAINERS}/write", sas="cw"),
    ("container", "GET", ""): Operation(get_container_properties, f"{_CONTAINERS}/read", sas="r"),
    ("container", "HEAD", ""): Operation(get_container_properties, f"{_CONTAINERS}/read", sas="r"),
    ("container", "GET", "metadata"): Operation(get_container_properties, f"{_CONTAINERS}/read", sas="r"),
    ("container", "HEAD", "metadata"): Operation(get_container_properties, f"{_CONTAINERS}/read", sas="r"),
    ("container", "PUT", "metadata"): Operation(set_container_metadata, f"{_CONTAINERS}/write", sas="w"),
    ("container", "DELETE", ""): Operation(delete_container, f"{_CONTAINERS}/delete", sas="d"),
    ("container", "PUT", "lease"): Operation(lease_container, f"{_CONTAINERS}/write", sas="w"),
    ("container", "GET", "list"): Operation(list_blobs, f"{_BLOBS}/read", data=True, sas="l"),
    ("container", "POST", "batch"): Operation(run_batch, f"{_CONTAINERS}/write", sas="d"),
    ("blob", "PUT", ""): Operation(put_blob, f"{_BLOBS}/write", data=True, sas="w", creates=True),
    ("blob", "PUT", "block"): Operation(put_block, f"{_BLOBS}/write", data=True, sas="w"),
    ("blob", "PUT", "blocklist"): Operation(put_block_list, f"{_BLOBS}/write", data=True, sas="w"),
    ("blob", "PUT", "+copy"): Operation(copy_blob, f"{_BLOBS}/write", data=True, sas="w", creates=True),
    **BATCHABLE,
    ("blob", "GET", "blocklist"): Operation(get_block_list, f"{_BLOBS}/read", data=True, sas="r"),
    ("blob", "GET", ""): Operation(get_blob, f"{_BLOBS}/read", data=True, sas="r"),
    ("blob", "HEAD", ""): Operation(get_blob_properties, f"{_BLOBS}/read", data=True, sas="r"),
    ("blob", "GET", "metadata"): Operation(get_blob_metadata, f"{_BLOBS}/read", data=True, sas="r"),
    ("blob", "HEAD", "metadata"): Operation(get_blob_metadata, f"{_BLOBS}/read", data=True, sas="r"),
    ("blob", "PUT", "metadata"): Operation(set_blob_metadata, f"{_BLOBS}/write", data=True, sas="w"),
    ("blob", "PUT", "properties"): Operation(set_blob_properties, f"{_BLOBS}/write", data=True, sas="w"),
    ("blob", "PUT", "lease"): Operation(lease_blob, f"{_BLOBS}/write", data=True, sas="w"),
}


def app(cloud: Cloud) -> Starlette:
    """The HTTP application."""
    state = BlobState(cloud)
    state.sweep()

    async def dispatch(request: Request) -> Response:
        call = Call(state, request)
        operation = _OPERATIONS.get(call.operation)
        if operation is None:
            raise HTTPException(501)
        call.refuse_what_is_missing()
        authorize(call, operation)
        return finished(request, await operation.handler(call))

    methods = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]
    return application("blob", [Route("/{path:path}", dispatch, methods=methods)], render)
