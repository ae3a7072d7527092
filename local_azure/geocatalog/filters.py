"""CQL2 as SQL over the catalog's `items` table.

Follows https://docs.ogc.org/is/21-065r2/21-065r2.html in the reading of pgstac 0.8: `datetime` is the start of an
item's range, `end_datetime` its end, and temporal operators compare the whole range, whatever property they name.
Arithmetic, arrays and functions other than CASEI are refused.

A property that is not among the queryables, `updated` for one, is compared as the text or the number that it is, and
with a timestamp not at all: pgstac answers that with status 500. What stands beside an item's `properties`, as
`_msft:ts` does, is out of reach, and so equals nothing.

Differences: pgstac also refuses timestamps in BETWEEN and a BBOX(), finds nothing by a DATE(), and folds CASEI to upper
case; it fails at T_OVERLAPS and T_OVERLAPPEDBY, and where the interval stands first.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cql2
from stac_fastapi.types.errors import InvalidQueryParameter

from local_azure.geocatalog import geometry
from local_azure.geocatalog.times import instant, interval

_RANGE_COLUMNS = {"datetime": "starts", "end_datetime": "ends"}
_COLUMNS = {"id": "id", "collection": "collection", "geometry": "geometry", **_RANGE_COLUMNS}
_NAME = re.compile(r"[\w:.@/ -]+")

_TEMPORAL_OPERATORS = {
    "t_after": "{ll} > {rh}",
    "t_before": "{lh} < {rl}",
    "t_contains": "{ll} < {rl} AND {lh} > {rh}",
    "t_disjoint": "NOT ({ll} <= {rh} AND {lh} >= {rl})",
    "t_during": "{ll} > {rl} AND {lh} < {rh}",
    "t_equals": "{ll} = {rl} AND {lh} = {rh}",
    "t_finishedby": "{ll} < {rl} AND {lh} = {rh}",
    "t_finishes": "{ll} > {rl} AND {lh} = {rh}",
    "t_intersects": "{ll} <= {rh} AND {lh} >= {rl}",
    "t_meets": "{lh} = {rl}",
    "t_metby": "{ll} = {rh}",
    "t_overlappedby": "{rl} < {ll} AND {ll} < {rh} AND {lh} > {rh}",
    "t_overlaps": "{ll} < {rl} AND {rl} < {lh} AND {lh} < {rh}",
    "t_startedby": "{ll} = {rl} AND {lh} > {rh}",
    "t_starts": "{ll} = {rl} AND {lh} < {rh}",
}
"""What each operator says of the left interval (ll to lh) and the right one (rl to rh)."""


class UndeclaredMomentError(Exception):
    """A timestamp is to be compared with a property that no queryable declares to be one; PostgreSQL refuses it."""


class Condition(NamedTuple):
    """A SQL expression and the values of its placeholders."""

    sql: str
    values: tuple[Any, ...] = ()


def parse(text: str | dict[str, Any], language: str) -> Condition:
    """The condition that a CQL2 filter states.

    Raises:
        InvalidQueryParameter: it is not CQL2, or uses what the catalog cannot translate.
        UndeclaredMomentError: it compares a timestamp with a property that is none.
    """
    try:
        if language == "cql2-text":
            return _condition(cql2.parse_text(str(text)).to_json())
        return _condition(cql2.parse_json(text if isinstance(text, str) else json.dumps(text)).to_json())
    except cql2.ParseError as error:
        raise InvalidQueryParameter(f"The filter is not valid {language}: {error}") from error


def from_query(query: dict[str, dict[str, Any]]) -> Condition:
    """The condition of the older `query` extension, with the operators that stac-fastapi-pgstac takes, said in CQL2."""
    names = {"eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
    parts = []
    for name, comparisons in query.items():
        for operator, value in comparisons.items():
            if operator not in names:
                raise InvalidQueryParameter(f"The query operator {operator!r} is not supported.")
            parts.append({"op": names[operator], "args": [{"property": name}, value]})
    return all_of(_condition(part) for part in parts)


def all_of(conditions: Iterable[Condition]) -> Condition:
    """The conjunction of some conditions; true where there are none."""
    found = list(conditions)
    sql = " AND ".join(f"({condition.sql})" for condition in found) or "TRUE"
    return Condition(sql, tuple(value for condition in found for value in condition.values))


def column(name: str) -> str:
    """The SQL expression of a queryable."""
    name = name.removeprefix("properties.")
    if name in _COLUMNS:
        return _COLUMNS[name]
    if not _NAME.fullmatch(name):
        raise InvalidQueryParameter(f"The property name {name!r} is not supported.")
    path = "".join(f'."{part}"' for part in name.split("."))
    return f"json_extract(properties, '${path}')"  # the name's characters were checked above


def relates(predicate: str, wkb: bytes) -> Condition:
    """How the item's geometry relates to another one."""
    exact = Condition("relates(?, geometry, ?)", (predicate, wkb))
    if predicate != "intersects":
        return exact
    west, south, east, north = geometry.bounds(wkb)
    near = Condition("west <= ? AND east >= ? AND south <= ? AND north >= ?", (east, west, north, south))
    return all_of([near, exact])


def box(numbers: Iterable[float]) -> bytes:
    """The area of a bounding box.

    Raises:
        InvalidQueryParameter: it bounds none.
    """
    try:
        return geometry.box(numbers)
    except ValueError as error:
        raise InvalidQueryParameter(f"The bbox is not valid: {error}.") from error


def geojson(text: str) -> bytes:
    """The geometry that GeoJSON describes.

    Raises:
        InvalidQueryParameter: it describes none.
    """
    try:
        return geometry.geojson(text)
    except ValueError as error:
        raise InvalidQueryParameter(f"{text[:100]} is not a GeoJSON geometry: {error}") from error


def _condition(node: Any) -> Condition:
    if isinstance(node, bool):
        return Condition("TRUE" if node else "FALSE")
    match node:
        case {"op": "and" | "or" as operator, "args": [*parts]}:
            inner = [_condition(part) for part in parts]
            sql = f" {operator.upper()} ".join(f"({part.sql})" for part in inner)
            return Condition(sql, tuple(value for part in inner for value in part.values))
        case {"op": "not", "args": [part]}:
            inner_condition = _condition(part)
            return Condition(f"NOT ({inner_condition.sql})", inner_condition.values)
        case {"op": str(operator), "args": [*operands]}:
            return _predicate(operator)(operator, operands)
    raise InvalidQueryParameter(f"The filter holds {json.dumps(node)} where a condition must stand.")


def _predicate(operator: str) -> Callable[[str, list[Any]], Condition]:
    if operator in ("=", "<>", "<", "<=", ">", ">="):
        return _comparison
    if operator.lower() in _TEMPORAL_OPERATORS:
        return _temporal
    if operator.startswith("s_") and operator[2:] in geometry.PREDICATES:
        return _spatial
    known = {"between": _between, "in": _membership, "isNull": _is_null, "like": _like}
    if operator in known:
        return known[operator]
    raise InvalidQueryParameter(f"The CQL2 operator {operator!r} is not supported.")


def _comparison(operator: str, operands: list[Any]) -> Condition:
    left, right = _scalars(operands, 2)
    return Condition(f"{left.sql} {operator} {right.sql}", left.values + right.values)


def _between(operator: str, operands: list[Any]) -> Condition:
    value, low, high = _scalars(operands, 3)
    return Condition(f"{value.sql} BETWEEN {low.sql} AND {high.sql}", value.values + low.values + high.values)


def _membership(operator: str, operands: list[Any]) -> Condition:
    if len(operands) != 2 or not isinstance(operands[1], list):
        raise InvalidQueryParameter("IN takes a value and a list.")
    value, *members = _scalars([operands[0], *operands[1]], len(operands[1]) + 1)
    sql = f"{value.sql} IN ({', '.join(member.sql for member in members)})"
    return Condition(sql, value.values + tuple(inner for member in members for inner in member.values))


def _is_null(operator: str, operands: list[Any]) -> Condition:
    (value,) = _scalars(operands, 1)
    return Condition(f"{value.sql} IS NULL", value.values)


def _like(operator: str, operands: list[Any]) -> Condition:
    text, pattern = _scalars(operands, 2)
    return Condition(f"{text.sql} LIKE {pattern.sql} ESCAPE '\\'", text.values + pattern.values)


def _scalars(operands: list[Any], count: int) -> list[Condition]:
    """Operands as SQL, all of them as moments where one is temporal."""
    if len(operands) != count:
        raise InvalidQueryParameter(f"A CQL2 operator takes {count} operands here, not {len(operands)}.")
    temporal = any(_is_temporal(operand) for operand in operands)
    return [_moment(operand) if temporal else _scalar(operand) for operand in operands]


def _is_temporal(operand: Any) -> bool:
    match operand:
        case {"timestamp": _} | {"date": _}:
            return True
        case {"property": str(name)}:
            return name.removeprefix("properties.") in _RANGE_COLUMNS
    return False


def _scalar(operand: Any) -> Condition:
    match operand:
        case str() | int() | float():
            return Condition("?", (operand,))
        case {"property": str(name)}:
            return Condition(column(name))
        case {"op": "casei", "args": [inner]}:
            folded = _scalar(inner)
            return Condition(f"lower({folded.sql})", folded.values)
    raise InvalidQueryParameter(f"The filter holds {json.dumps(operand)}, which is not supported as a value.")


def _moment(operand: Any) -> Condition:
    match operand:
        case {"property": str(name)} if name.removeprefix("properties.") in _RANGE_COLUMNS:
            return Condition(column(name))
        case {"property": str(name)}:
            raise UndeclaredMomentError(f"operator does not exist: text >= timestamp with time zone ({name})")
        case {"timestamp": text} | {"date": text} | text:
            moment = instant(text)
    if moment is None:
        raise InvalidQueryParameter(f"{json.dumps(text)} is not a date or an RFC 3339 date-time.")
    return Condition("?", (moment,))


def _temporal(operator: str, operands: list[Any]) -> Condition:
    if len(operands) != 2:
        raise InvalidQueryParameter(f"{operator.upper()} takes two operands.")
    left, right = map(_interval, operands)
    names = dict(zip(("ll", "lh", "rl", "rh"), (*left, *right), strict=True))
    return Condition(_TEMPORAL_OPERATORS[operator.lower()].format(**names))


def _interval(operand: Any) -> tuple[str, str]:
    """The SQL of both ends of a temporal operand; numbers stand for themselves."""
    match operand:
        case {"property": str()}:
            return _RANGE_COLUMNS["datetime"], _RANGE_COLUMNS["end_datetime"]
        case {"interval": [*bounds]}:
            found = interval([str(bound) for bound in bounds])
        case {"timestamp": text} | {"date": text} | text:
            found = interval([str(text)])
    if found is None:
        raise InvalidQueryParameter(f"{json.dumps(operand)} is not a date, a date-time or an interval of them.")
    return str(found[0]), str(found[1])


def _spatial(operator: str, operands: list[Any]) -> Condition:
    match operands:
        case [{"property": "geometry"}, {"bbox": [*bounds]}] if len(bounds) in (4, 6):
            return relates(operator[2:], box(bounds))
        case [{"property": "geometry"}, {"type": _} as shape]:
            return relates(operator[2:], geojson(json.dumps(shape)))
    raise InvalidQueryParameter(f"{operator.upper()} takes the property geometry and a geometry.")
