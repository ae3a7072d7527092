"""What Azure documents that it refuses, row by row; `test_local_refusals.py` sends each to local_azure.

A row's page says that the request is refused, and with which status. The error code is the page's where it names
codes, otherwise the one that the service is known to answer with.
"""

from collections.abc import Callable
from dataclasses import dataclass

from world import Answer, World


@dataclass(frozen=True)
class Refusal:
    """One request that is refused."""

    sentence: str
    call: Callable[[World], Answer]
    status: int
    code: str
    page: str
