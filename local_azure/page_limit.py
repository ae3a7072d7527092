"""`--geocatalog-limit`: how many items a page of the GeoCatalog has at most, and what becomes of a search for more.

The client's documentation names 10,000, to which a larger limit is clamped; pcstac, which the service resembles,
refuses more than 1,000 (https://github.com/microsoft/planetary-computer-apis). Nobody has recorded it.
"""

import re
from typing import NamedTuple

from local_azure.errors import ApiError

LARGEST = 10_000
_SPECIFICATION = re.compile(r"([0-9]{1,5}):(refuse|clamp)")


class PageLimitError(ValueError):
    """A `--geocatalog-limit` that cannot be understood; its text says what to write."""


class PageLimit(NamedTuple):
    """The largest page, and whether a larger one is refused or cut to it."""

    items: int
    refuses: bool

    def size(self, asked: int) -> int:
        """How large the page is that somebody asked for.

        Raises:
            ApiError: 400, it is too large.
        """
        if asked > self.items and self.refuses:
            raise ApiError(400, "BadRequestError", f"Limit: Input Should Be Less Than Or Equal To {self.items}")
        return min(asked, self.items)


DEFAULT_PAGE_LIMIT = PageLimit(1000, refuses=True)


def parse_page_limit(text: str) -> PageLimit:
    """The limit that `1000:refuse` or `10000:clamp` describes.

    Raises:
        PageLimitError: it is neither, or its number is not between 1 and 10,000.
    """
    found = _SPECIFICATION.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= LARGEST:
        raise PageLimitError(f"--geocatalog-limit {text!r}: write N:refuse or N:clamp, N from 1 to {LARGEST}")
    return PageLimit(int(found[1]), found[2] == "refuse")
