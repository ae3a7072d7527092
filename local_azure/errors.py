"""The one exception that handlers raise; each service renders it in its own envelope."""

from collections.abc import Mapping


class ApiError(Exception):
    """An answer that is an error: HTTP status, the service's error code, and a message."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
