"""Items of a hostile catalog: their instants as PostgreSQL reads them, their bytes, and CQL2 conditions on them."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from operator import eq, ge, gt, le, lt, ne
from typing import Any

Json = dict[str, Any]
SECOND = 1_000_000
DAY = 86_400 * SECOND
_TEXT = re.compile(
    r"(?P<year>\d{4,})-(?P<month>\d\d)-(?P<day>\d\d)[Tt ](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(\.(?P<fraction>\d+))?(?P<offset>[Zz]|[+-]\d\d:\d\d)(?P<era> BC)?"
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


def instant(text: object) -> int | None:
    """Microseconds since 1970 of a `timestamptz` text.

    PostgreSQL rounds finer fractions, half to even, and accepts second 60, 24:00:00, years of five digits and BC
    (https://www.postgresql.org/docs/current/datatype-datetime.html).
    """
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if not found:
        return None
    year = 1 - int(found["year"]) if found["era"] else int(found["year"])
    days = _days(year, int(found["month"]), int(found["day"]))
    seconds = ((days * 24 + int(found["hour"])) * 60 + int(found["minute"])) * 60 + int(found["second"])
    offset = found["offset"]
    if offset not in "Zz":
        minutes = int(offset[1:3]) * 60 + int(offset[4:])
        seconds += minutes * 60 if offset[0] == "-" else -minutes * 60
    return seconds * SECOND + round(Fraction(f"0.{found['fraction'] or 0}") * SECOND)


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970 in the proleptic Gregorian calendar, whatever the year: `datetime` ends at 9999."""
    year -= month <= 2
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + of_year - 719_468


@dataclass(frozen=True)
class Item:
    """One version of an item, as the catalog stores it."""

    body: bytes
    document: Json = field(compare=False)
    id: str
    start: int | None
    """By pgstac's rule: its start if start and end are both there, otherwise its datetime."""
    end: int | None

    @cached_property
    def fields(self) -> Json:
        """Its members and properties, by the names that a filter may use."""
        return {**(self.document.get("properties") or {}), "id": self.id}


def item_from(body: bytes) -> Item:
    """Read an item's bytes; NaN is accepted, since catalogs that write it read it."""
    document = json.loads(body)
    dates = document.get("properties") or {}
    ranged = dates.get("start_datetime") is not None and dates.get("end_datetime") is not None
    start = instant(dates["start_datetime"] if ranged else dates.get("datetime"))
    return Item(body, document, document["id"], start, instant(dates["end_datetime"]) if ranged else start)


def overlaps(item: Item, interval: str) -> bool:
    """Whether the item intersects a closed `datetime` interval, or an instant."""
    low, _, high = interval.partition("/")
    first, last = (None if text in ("", "..") else instant(text) for text in (low, high or low))
    if item.start is None or item.end is None:
        return False
    return (last is None or item.start <= last) and (first is None or item.end >= first)


def picked(item: Item, fields: Json) -> bytes:
    """The item with the chosen fields only, and with `id` and `collection` always, as pgstac does."""
    include, exclude = fields.get("include") or [], fields.get("exclude") or []
    document = dict(item.document)
    if include:
        kept = {"id", "collection", *(name for name in include if "." not in name)}
        document = {name: value for name, value in document.items() if name in kept}
        if "properties" not in document:
            below = {name.partition(".")[2] for name in include if name.startswith("properties.")}
            properties = item.document.get("properties") or {}
            document["properties"] = {name: value for name, value in properties.items() if name in below}
    for name in exclude:
        document.pop(name, None)
        if name.startswith("properties.") and document.get("properties"):
            without = name.partition(".")[2]
            document["properties"] = {key: value for key, value in document["properties"].items() if key != without}
    return json.dumps(document).encode()


class UnsupportedFilterError(Exception):
    """The filter compares what cannot be compared; pgstac answers 500."""


@dataclass(frozen=True)
class Comparison:
    """How a catalog compares; the defaults are PostgreSQL's with the collation C."""

    ids: Callable[[str], Any] = str
    """Sort key of an id."""
    unit: int = 1
    """Microseconds that instants are cut to before they are compared."""
    id_result: bool | str | None = "compared"
    """What every comparison of ids yields, other than equality: a catalog may have no such queryable."""
    inclusive: bool = False
    """Whether `<` and `>` are read as `<=` and `>=`."""

    def cut(self, moment: int | None) -> int | None:
        """An instant as it is compared."""
        return None if moment is None else moment // self.unit

    def holds(self, node: Json, item: Item) -> bool | None:
        """A CQL2-JSON condition in SQL's logic of three values."""
        operator, arguments = node["op"], node["args"]
        if operator in ("and", "or", "not"):
            return _combined(operator, [self.holds(argument, item) for argument in arguments])
        name = arguments[0]["property"].removeprefix("properties.")
        if operator == "isNull":
            return self._value(name, item) is None
        if operator == "in":
            return self._value(name, item) in arguments[1]
        return self._compared(operator, name, item, arguments[1])

    def _compared(self, operator: str, name: str, item: Item, operand: Any) -> bool | None:
        if self.inclusive and operator in ("<", ">"):
            operator += "="
        if name == "id" and operator != "=" and self.id_result != "compared":
            return bool(self.id_result) if self.id_result is not None else None
        own = self._value(name, item)
        if name in ("datetime", "start_datetime", "end_datetime"):
            text = operand["timestamp"] if isinstance(operand, dict) else operand
            other = self.cut(instant(text))
            if other is None:
                raise UnsupportedFilterError(f"{operand} is not a timestamp")
        elif isinstance(operand, dict):
            raise UnsupportedFilterError("operator does not exist: text >= timestamp")
        else:
            own, other = (self.ids(own), self.ids(operand)) if name == "id" else (own, operand)
        return None if own is None else _COMPARISONS[operator](own, other)

    def _value(self, name: str, item: Item) -> Any:
        if name in ("datetime", "start_datetime"):
            return self.cut(item.start)
        return self.cut(item.end) if name == "end_datetime" else item.fields.get(name)


def _combined(operator: str, parts: Sequence[bool | None]) -> bool | None:
    if operator == "not":
        return None if parts[0] is None else not parts[0]
    decisive = operator == "or"
    if decisive in parts:
        return decisive
    return None if None in parts else not decisive
