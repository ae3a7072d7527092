"""The SDK clients of one environment, and which of their errors are worth another try."""

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

import jwt
from azure.batch import BatchClient
from azure.core.exceptions import (
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline import PipelineResponse
from azure.core.rest import HttpResponse
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.batch import BatchManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.storage import StorageManagementClient
from azure.storage.blob import BlobServiceClient
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from spatiobatch.settings import Settings
from tasks.credential import Credential, untrusted
from tasks.transport import Transport

TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}
_PATIENCE = {"connection_timeout": 20, "retry_total": 3, "retry_backoff_max": 20}

P = ParamSpec("P")
R = TypeVar("R")


class AzureClients:
    """The operator's way to one environment. Clients are made when first used, and token scopes always said."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cloud = settings.endpoints

    @cached_property
    def credential(self) -> Credential:
        """Environment, managed identity or `az login`, whichever is there first."""
        return Credential(
            authority=self.cloud.login,
            disable_instance_discovery=True,
            read_timeout=self.settings.read_timeout_seconds,  # its own is five minutes
            **self._tls,
        )

    @cached_property
    def resources(self) -> ResourceManagementClient:
        """Resource groups, providers and generic resources."""
        return ResourceManagementClient(self.credential, self.settings.subscription_id, **self._arm)

    @cached_property
    def storage(self) -> StorageManagementClient:
        """Storage accounts."""
        return StorageManagementClient(self.credential, self.settings.subscription_id, **self._arm)

    @cached_property
    def authorization(self) -> AuthorizationManagementClient:
        """Role assignments."""
        return AuthorizationManagementClient(
            self.credential, self.settings.subscription_id, api_version="2022-04-01", **self._arm
        )

    @cached_property
    def identities(self) -> ManagedServiceIdentityClient:
        """User-assigned identities."""
        return ManagedServiceIdentityClient(self.credential, self.settings.subscription_id, **self._arm)

    @cached_property
    def batch_management(self) -> BatchManagementClient:
        """Batch accounts and pools."""
        return BatchManagementClient(self.credential, self.settings.subscription_id, **self._arm)

    def batch(self, endpoint: str) -> BatchClient:
        """Jobs and tasks of the account at that endpoint."""
        return BatchClient(
            f"https://{endpoint}",
            self.credential,
            credential_scopes=[self.cloud.batch_scope],
            **self._patience,
        )

    def blobs(self, endpoint: str) -> BlobServiceClient:
        """Blobs of the account at that endpoint."""
        patience = {**self._patience, "initial_backoff": 1, "increment_base": 2}  # its own first pause is 15 seconds
        return BlobServiceClient(endpoint, self.credential, **patience)

    @cached_property
    def operator(self) -> tuple[str, str]:
        """Object id and principal type of who is signed in, as the token says."""
        token = self.credential.get_token(self.cloud.arm_scope).token
        claims = jwt.decode(token, options={"verify_signature": False})
        return claims["oid"], "User" if claims.get("idtyp") == "user" else "ServicePrincipal"

    @property
    def _arm(self) -> dict[str, Any]:
        return {
            "base_url": self.cloud.arm,
            "credential_scopes": [self.cloud.arm_scope],
            "polling_interval": self.settings.poll_seconds,
            **self._patience,
        }

    @property
    def _patience(self) -> dict[str, Any]:
        wire = {**_PATIENCE, "read_timeout": self.settings.read_timeout_seconds, **self._tls}
        return {**wire, "transport": Transport(**wire), "raw_response_hook": _read_to_its_end}

    @property
    def _tls(self) -> dict[str, Any]:
        verify = self.cloud.ca_file or os.environ.get("REQUESTS_CA_BUNDLE")
        return {"connection_verify": str(verify)} if verify else {}


def _read_to_its_end(answer: PipelineResponse[Any, Any]) -> None:
    """Read what the SDKs leave unread: an error before they ask again, and the nothing of an empty blob.

    A connection with something unread is neither used again nor closed; their siblings had to learn it, too:
    https://github.com/Azure/azure-sdk-for-net/issues/13546. Clients of the older kind, as that of role assignments,
    have read all of it already.
    """
    response = answer.http_response
    if isinstance(response, HttpResponse) and response.status_code >= 400:
        response.read()
    elif response.headers.get("Content-Length") == "0":
        response.internal_response.raw.drain_conn()  # its reader would take it for consumed


def transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later.

    Statuses that Azure documents as passing, connections that broke, answers that were cut short; a new identity that
    Entra has not yet spread to where roles are assigned.
    """
    if isinstance(error, ServiceRequestError | ServiceResponseError | DecodeError):
        return not untrusted(error)
    if isinstance(error, HttpResponseError):
        return error.status_code in TRANSIENT_STATUSES or code_of(error) == "PrincipalNotFound"
    return False


def _worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, BaseException) and transient(state.data)


def azure_task(name: str, retries: int = 4) -> Callable[[Callable[P, R]], Task[P, R]]:
    """The policy of every task that calls Azure.

    The SDKs try three times by themselves; on top of that, after 2, 4, 8, … seconds, and on transient errors
    only. Nothing is cached: whether a step has something to do is Azure's answer, not Prefect's.
    """
    return task(
        name=name,
        retries=retries,
        retry_delay_seconds=exponential_backoff(2),
        retry_jitter_factor=0.5,
        retry_condition_fn=_worth_another_try,
        cache_policy=NO_CACHE,
    )


def attempted(step: Task[P, R], *arguments: P.args, **keywords: P.kwargs) -> State[R]:
    """The state that a step ends in, if it is none that the run depends on; what ends the run, as Ctrl-C does, goes on.

    Prefect takes both for a state to return.
    """
    state: State[R] = step(*arguments, return_state=True, **keywords)
    if state.is_crashed():
        state.result()
    return state


def code_of(error: HttpResponseError) -> str:
    """The service's error code, from whichever envelope it came in."""
    inner = getattr(error, "error_code", None) or getattr(error.error, "code", None)
    return str(getattr(inner, "value", inner) or "")


def found(call: Any, *arguments: Any, **keywords: Any) -> Any:
    """What a read answers, or None for what is not there."""
    try:
        return call(*arguments, **keywords)
    except ResourceNotFoundError:
        return None


def refused(error: HttpResponseError) -> bool:
    """Whether the operator, or a node's identity, was not let in; who has no token yet has not been at the door."""
    return error.status_code in (401, 403) or (
        isinstance(error, ClientAuthenticationError) and error.response is not None
    )
