"""Who is signed in, also while the token endpoint is out of order."""

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.identity import DefaultAzureCredential

from spatiobatch.errors import SignInError
from tasks.transport import Transport

_PAUSES_SECONDS = (2, 4, 8, 16)
_IMDS = "169.254.169.254"
"""Answers on machines of Azure, and nowhere else
(https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service)."""


class NoTokenError(SignInError, ClientAuthenticationError):  # type: ignore[misc]  # mypy does not follow the SDKs
    """A sentence of ours that is an error of Azure's as well, for whoever goes on without the call."""


class Credential:
    """Azure's chain of credentials, asked again while an endpoint is out of order, or when somebody had a token before.

    The chain gives up after some seconds, says the same of an identity that is not there as of an endpoint that is out
    of order, and remembers it; who is signed in nowhere is told at once.

    Args:
        options: of `DefaultAzureCredential`.
    """

    def __init__(self, **options: Any) -> None:
        self._endpoint = _TokenEndpoint()
        hooks = {"raw_request_hook": self._endpoint.asked, "raw_response_hook": self._endpoint.answered}
        self._make: Callable[[], Any] = lambda: DefaultAzureCredential(
            **options, **hooks, transport=Transport(**options)
        )
        self._chain = self._make()
        self._had_one = False
        self._one_at_a_time = threading.Lock()

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """An `AccessToken`.

        Raises:
            NoTokenError: the endpoint stayed out of order.
        """
        return self._asked("get_token", scopes, options)

    def get_token_info(self, *scopes: str, **options: Any) -> Any:
        """An `AccessTokenInfo`, which newer clients ask for."""
        return self._asked("get_token_info", scopes, options)

    def _asked(self, method: str, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
        with self._one_at_a_time:
            for pause in _PAUSES_SECONDS:
                try:
                    return self._token(method, scopes, options)
                except AzureError as error:
                    if untrusted(error) or not (self._endpoint.trouble or self._had_one):
                        raise
                time.sleep(pause)
                self._chain.close()
                self._chain = self._make()
            try:
                return self._token(method, scopes, options)
            except AzureError as error:
                if self._endpoint.trouble:
                    raise NoTokenError(self._endpoint.trouble) from error
                raise

    def _token(self, method: str, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
        self._endpoint.trouble = ""
        token = getattr(self._chain, method)(*scopes, **options)
        self._had_one = True
        return token


class _TokenEndpoint:
    """What became of the last request for a token; the chain itself does not tell."""

    def __init__(self) -> None:
        self.trouble = ""

    def asked(self, request: PipelineRequest[Any]) -> None:
        """Expect an answer, unless it is asked whether this is a machine of Azure's."""
        address = urlsplit(request.http_request.url)
        self.trouble = "" if address.hostname == _IMDS else f"{address.scheme}://{address.netloc} does not answer"

    def answered(self, answer: PipelineResponse[Any, Any]) -> None:
        """Note whether it is out of order."""
        address, status = urlsplit(answer.http_request.url), answer.http_response.status_code
        broken = status == 429 or status >= 500
        self.trouble = f"{address.scheme}://{address.netloc} answers with {status}" if broken else ""


def untrusted(error: BaseException) -> bool:
    """Whether a call ended since the server's certificate is signed by nobody whom we trust."""
    return "certificate verify failed" in str(error).lower()
