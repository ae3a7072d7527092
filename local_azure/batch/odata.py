"""What lists understand: `$filter`, `$select`, `maxresults` and the skip token.

https://learn.microsoft.com/rest/api/batchservice/odata-filters-in-batch. The filter has comparisons of
properties with text, numbers, booleans and `datetime'…'`, `startswith`, `and`, `or`, `not` and parentheses.
`$expand` is accepted; the only thing that could be expanded are statistics, which the service no longer keeps.
"""

import operator
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from starlette.requests import Request

from local_azure.batch.refusals import invalid_query
from local_azure.clock import parse_time
from local_azure.store import Document

LARGEST_PAGE = 1000

Predicate = Callable[[Document], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<date>datetime(?:offset)?'[^']*')|(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)(?![\w-])"
    r"|(?P<word>[\w/]+)|(?P<mark>[(),]))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


class Listing:
    """The OData part of one request's query."""

    def __init__(self, request: Request) -> None:
        query = request.query_params
        self._filter = parse_filter(query["$filter"]) if query.get("$filter") else None
        self._select = [name.strip() for name in query.get("$select", "").split(",") if name.strip()]
        self._skip = _whole(query.get("$skiptoken", "0"), "$skiptoken", 0)
        self._most = _whole(query.get("maxresults", str(LARGEST_PAGE)), "maxresults", 1)

    def page(self, documents: Iterable[Document]) -> tuple[list[Document], str]:
        """This page of what the filter lets through, and the token of the next; empty if there is none.

        The token counts all documents, not those that match: what matches changes while a client pages.
        """
        found: list[Document] = []
        for position, document in enumerate(islice(documents, self._skip, None), self._skip):
            if self._filter is None or self._filter(document):
                if len(found) == self._most:
                    return found, str(position)
                found.append(self.select(document))
        return found, ""

    def select(self, document: Document) -> Document:
        """The document with the properties that were asked for."""
        if not self._select:
            return document
        return {name: value for name, value in document.items() if name in self._select}


def _whole(text: str, name: str, least: int) -> int:
    if not text.isdigit() or not least <= int(text) or (name == "maxresults" and int(text) > LARGEST_PAGE):
        raise invalid_query(name, text, f"The value must be between {least} and {LARGEST_PAGE}.")
    return int(text)


def parse_filter(text: str) -> Predicate:
    """The predicate that an OData filter states.

    Raises:
        ApiError: 400, it can't be understood.
    """
    return _Parser(text).whole()


class _Parser:
    """Recursive descent; `or` binds loosest."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if not match or not match.lastgroup:
                raise self._refusal()
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def whole(self) -> Predicate:
        """The whole text as one expression."""
        predicate = self._either()
        if self._tokens:
            raise self._refusal()
        return predicate

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return lambda document: any(part(document) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._term()]
        while self._take("and"):
            parts.append(self._term())
        return lambda document: all(part(document) for part in parts)

    def _term(self) -> Predicate:
        if self._take("not"):
            negated = self._term()
            return lambda document: not negated(document)
        if self._take("("):
            inside = self._either()
            self._expect(")")
            return inside
        if self._take("startswith"):
            self._expect("(")
            path = self._next("word")
            self._expect(",")
            prefix = str(self._value())
            self._expect(")")
            return lambda document: str(_property(document, path) or "").startswith(prefix)
        return self._comparison()

    def _comparison(self) -> Predicate:
        path, sign = self._next("word"), self._next("word")
        if sign not in _COMPARISONS:
            raise self._refusal()
        compare, wanted = _COMPARISONS[sign], self._value()

        def holds(document: Document) -> bool:
            found = _property(document, path)
            if found is None:
                return sign == "ne"
            try:
                return compare(found if isinstance(wanted, str | bool | float) else parse_time(found), wanted)
            except (TypeError, ValueError) as error:
                raise self._refusal() from error

        return holds

    def _value(self) -> Any:
        kind, token = self._tokens.pop(0) if self._tokens else ("", "")
        match kind:
            case "text":
                return token[1:-1].replace("''", "'")
            case "number":
                return float(token)
            case "date":
                return parse_time(token.split("'")[1])
            case "word" if token in ("true", "false"):
                return token.startswith("t")
        raise self._refusal()

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0][0] in ("word", "mark") and self._tokens[0][1] == token:
            del self._tokens[0]
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._refusal()

    def _next(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise self._refusal()
        return self._tokens.pop(0)[1]

    def _refusal(self) -> Exception:
        return invalid_query("$filter", self._text, "The filter can't be understood.")


def _property(document: Document, path: str) -> Any:
    value: Any = document
    for name in path.split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return value
