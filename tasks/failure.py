"""What a failed run says: one sentence in its state, and a page that shows what broke and what to do."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import httpx
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from spatiobatch.errors import ServiceError, SpatiobatchError
from spatiobatch.interruptions import covered_by, lose_none
from spatiobatch.text import in_markdown, plain_record
from tasks.clients import TRANSIENT_STATUSES, code_of
from tasks.credential import untrusted

_MOST_CHARACTERS = 20_000
P = ParamSpec("P")
R = TypeVar("R")

_ROLES = {
    "AuthorizationPermissionMismatch": "Storage Blob Data Contributor on the storage account",
    "PermissionDenied": "Azure Batch Data Contributor on the Batch account",
}
"""What whoever works here needs where a data plane answers 403; ARM's own message names the action and the scope."""


def explained(flow_function: Callable[P, R]) -> Callable[P, R]:
    """Have a flow fail with a sentence, whoever's error it is, and leave a page about it in Prefect.

    Its log lines, and its tasks', are plain.
    """

    @wraps(flow_function)
    def explaining(*arguments: P.args, **keywords: P.kwargs) -> R:
        """The flow; Prefect shows its own name and description."""
        lose_none()
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addFilter(plain_record)
        try:
            return flow_function(*arguments, **keywords)
        except SpatiobatchError as error:
            _leave_page(error)
            raise
        except AzureError as error:
            told = ServiceError(sentence_of(error) or str(error))
            _leave_page(told)
            raise told from error
        except Exception as error:
            if signal := covered_by(error):
                raise signal from None
            raise

    return explaining


def _leave_page(told: SpatiobatchError) -> None:
    """A version of the artifact `<flow>-failure`; what a node said goes below the sentence as it is."""
    quoted = ["", "```text", told.lines.replace("```", "'''")[-_MOST_CHARACTERS:], "```"] if told.lines else []
    lines = [f"# {in_markdown(flow_run.name)} failed", "", in_markdown(told.sentence), *quoted]
    try:
        create_markdown_artifact("\n".join(lines), f"{flow_run.flow_name}-failure", "What broke, and what to do")
    except httpx.HTTPError as error:
        get_run_logger().warning("the page about the failure could not be made: %s", error)


def sentence_of(error: Exception) -> str | None:
    """What Azure or Prefect said, and what to do; None for an error of anybody else."""
    if isinstance(error, AzureError) and untrusted(error):
        return (
            "The server's certificate is not trusted: name a file with the authority that signed it in ca_file "
            "(SPATIOBATCH_CA_FILE) or REQUESTS_CA_BUNDLE, or check the cloud's addresses."
        )
    if isinstance(error, ClientAuthenticationError) and error.response is None:
        return (
            "Azure does not know who you are: run az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and "
            f"AZURE_CLIENT_SECRET. ({_first_line(error.message)})"
        )
    if isinstance(error, HttpResponseError) and error.response is not None:
        return _answer(error)
    if isinstance(error, AzureError):
        return f"Azure cannot be reached, check the network and the cloud's addresses: {_first_line(error.message)}"
    if isinstance(error, PrefectException | httpx.HTTPStatusError):  # nobody else asks by httpx
        return f"Prefect failed: {_first_line(str(error)).rstrip('.')}."
    return None


def _answer(error: Any) -> str:
    request, code = error.response.request, code_of(error)
    said = _first_line(getattr(error.error, "message", None) or error.reason or "")
    status = f"{error.status_code} {code}".rstrip()
    address = request.url.split("?")[0]
    answer = f"Azure answered {request.method} {address} with {status}: {said.rstrip('.')}."
    if error.status_code == 401:
        return f"{answer} Sign in again (az login), as somebody of this subscription's tenant."
    if error.status_code == 403:
        return f"{answer} You need the role {_ROLES.get(code, 'that allows this')}; a new assignment takes ten minutes."
    if error.status_code in TRANSIENT_STATUSES:
        return f"{answer} It did so several times: run again later, https://azure.status.microsoft tells of outages."
    return answer


def _first_line(message: object) -> str:
    return str(getattr(message, "value", message)).strip().split("\n", 1)[0]
