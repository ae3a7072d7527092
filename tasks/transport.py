"""How the operator's requests go out."""

import requests
from azure.core.pipeline.transport import RequestsTransport


class Transport(RequestsTransport):  # type: ignore[misc]  # mypy does not follow the SDKs
    """Takes proxies and certificates from the environment, and no credentials.

    Where neither request nor session has an `auth`, `requests` replaces the token by what a .netrc has for the host
    (https://requests.readthedocs.io/en/latest/user/authentication/#netrc-authentication) or the address as user info.
    """

    def open(self) -> None:
        """Make the session if there is none."""
        super().open()
        self.session.auth = _as_it_is


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
