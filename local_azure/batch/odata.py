"""What lists understand: `$filter`, `$select`, `maxresults` and the skip token.

https://learn.microsoft.com/rest/api/batchservice/odata-filters-in-batch. The filter has comparisons of the
properties in `filterable` with text, numbers, booleans and `datetime'…'`, `startswith`, `and`, `or` and parentheses.
`$expand` takes `stats`, the only thing that could be expanded, and which this service does not keep.

Difference from Batch: what `$select` names and is not there is passed over; no page says what the service does.
"""

import operator
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import Any

from starlette.requests import Request

from local_azure.batch.filterable import FILTERABLE, Filterable
from local_azure.batch.refusals import invalid_query, out_of_range
from local_azure.clock import parse_time
from local_azure.store import Document

LARGEST_PAGE = 1000

Predicate = Callable[[Document], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<date>(?i:datetime(?:offset)?)'[^']*')|(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)(?![\w-])"
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
    """The OData part of the query of one request for documents of some `kind`."""

    def __init__(self, request: Request, kind: str) -> None:
        query = request.query_params
        self._filter = parse_filter(query["$filter"], kind) if query.get("$filter") else None
        if query.get("$expand", "stats") != "stats":
            raise invalid_query("$expand", query["$expand"], "Only stats can be expanded.")
        self._select = [name.strip() for name in query.get("$select", "").split(",") if name.strip()]
        self._skip = _whole(query.get("$skiptoken", "0"), "$skiptoken")
        self._most = _whole(query.get("maxresults", str(LARGEST_PAGE)), "maxresults")
        if not 1 <= self._most <= LARGEST_PAGE:
            raise out_of_range("maxresults", self._most, 1, LARGEST_PAGE)

    def page(
        self, documents: Iterable[Document], answered: Callable[[Document], Document]
    ) -> tuple[list[Document], str]:
        """This page of what the filter lets through, as it is answered; and the token of the next, if there is one.

        The token counts all documents, not those that match: what matches changes while a client pages.
        """
        found: list[Document] = []
        for position, document in enumerate(islice(documents, self._skip, None), self._skip):
            if self._filter is None or self._filter(document):
                if len(found) == self._most:
                    return found, str(position)
                found.append(self.select(answered(document)))
        return found, ""

    def select(self, document: Document) -> Document:
        """The document with the properties that were asked for."""
        if not self._select:
            return document
        return {name: value for name, value in document.items() if name in self._select}


def _whole(text: str, name: str) -> int:
    if not text.isdigit():
        raise invalid_query(name, text, "The value must be a whole number.")
    return int(text)


def parse_filter(text: str, kind: str) -> Predicate:
    """The predicate that an OData filter of documents of this kind states.

    Raises:
        ApiError: 400, it can't be understood.
    """
    return _Parser(text, FILTERABLE[kind]).whole()


class _Parser:
    """Recursive descent; `or` binds loosest."""

    def __init__(self, text: str, filterable: dict[str, Filterable]) -> None:
        self._text = text
        self._filterable = filterable
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
        if self._take("("):
            inside = self._either()
            self._expect(")")
            return inside
        if self._take("startswith"):
            return self._start()
        return self._comparison()

    def _start(self) -> Predicate:
        self._expect("(")
        path = self._next("word")
        self._expect(",")
        prefix = str(self._value(path, "startswith"))
        self._expect(")")
        return lambda document: str(_property(document, path) or "").startswith(prefix)

    def _comparison(self) -> Predicate:
        path, sign = self._next("word"), self._next("word")
        wanted = self._value(path, sign)
        compare = _COMPARISONS[sign]

        def holds(document: Document) -> bool:
            found = _property(document, path)
            if found is None:
                return sign == "ne"
            return compare(parse_time(found) if isinstance(wanted, datetime) else found, wanted)

        return holds

    def _value(self, path: str, sign: str) -> str | float | bool | datetime:
        """What a property is compared with, if that property can be compared in this way."""
        known = self._filterable.get(path)
        if known is None or sign not in known.operators:
            raise invalid_query("$filter", self._text, f"{path} can't be compared by {sign}.")
        given = self._next(known.kind)
        match known.kind:
            case "text":
                return given[1:-1].replace("''", "'")
            case "number":
                return float(given)
            case "date":
                return self._time(given.split("'")[1])
        if given not in ("true", "false"):
            raise self._refusal()
        return given == "true"

    def _time(self, text: str) -> datetime:
        try:
            return parse_time(text)
        except ValueError as error:
            raise self._refusal() from error

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
