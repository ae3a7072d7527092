"""Who is signed in, also while the token endpoint is out of order."""

import threading
import time
from collections.abc import Callable
from typing import Any

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential

_PAUSES_SECONDS = (2, 4, 8, 16)


class Credential:
    """Azure's chain of credentials, asked again when somebody who had a token gets none.

    The chain gives up after some seconds, says the same of an identity that is not there as of an endpoint that is out
    of order, and remembers it; who never had a token is told at once.

    Args:
        options: of `DefaultAzureCredential`.
    """

    def __init__(self, **options: Any) -> None:
        self._make: Callable[[], Any] = lambda: DefaultAzureCredential(**options)
        self._chain = self._make()
        self._had_one = False
        self._one_at_a_time = threading.Lock()

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """An `AccessToken`."""
        return self._asked("get_token", scopes, options)

    def get_token_info(self, *scopes: str, **options: Any) -> Any:
        """An `AccessTokenInfo`, which newer clients ask for."""
        return self._asked("get_token_info", scopes, options)

    def _asked(self, method: str, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
        with self._one_at_a_time:
            for pause in _PAUSES_SECONDS if self._had_one else ():
                try:
                    return getattr(self._chain, method)(*scopes, **options)
                except ClientAuthenticationError:
                    time.sleep(pause)
                    self._chain.close()
                    self._chain = self._make()
            token = getattr(self._chain, method)(*scopes, **options)
            self._had_one = True
            return token
