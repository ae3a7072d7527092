"""What a harvest asks a catalog for."""

import hashlib
import json
import re
from datetime import datetime
from enum import StrEnum
from textwrap import shorten
from typing import Annotated, Any, Self

import cql2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from spatiobatch.errors import ConfigurationError
from spatiobatch.intervals import instant, rfc3339

CollectionId = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Content(StrEnum):
    """What is harvested."""

    collections = "collections"
    items = "items"


class Runtime(StrEnum):
    """Which of the node scripts runs."""

    python = "python"
    bash = "bash"


class Since(StrEnum):
    """From when on changes are harvested."""

    last = "last"


def _interval(text: Any) -> Any:
    """`A/B` with RFC 3339 instants, dates or `..`, brought to one form in UTC."""
    if not isinstance(text, str):
        return text
    ends = text.split("/")
    if len(ends) != 2:
        raise ValueError(
            "an interval is two instants with a slash between: 2024-01-01/2024-02-01, one of them may be .."
        )
    start, end = (None if end in ("", "..") else _instant(end) for end in ends)
    if start is None and end is None:
        raise ValueError("an interval that is open at both ends says nothing: leave it out")
    if start and end and start >= end:
        raise ValueError(f"the interval ends at {ends[1]}, which is not after its start {ends[0]}")
    return "/".join(rfc3339(moment) if moment else ".." for moment in (start, end))


def _instant(text: str) -> datetime:
    try:
        return instant(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no RFC 3339 instant such as 2024-01-31 or 2024-01-31T12:00:00Z") from error


def _box(value: Any) -> Any:
    """Four numbers, west,south,east,north, in degrees; west of 180 may exceed east across the antimeridian."""
    if isinstance(value, str):
        value = value.split(",")
    if value is None:
        return None
    try:
        west, south, east, north = (float(number) for number in value)
    except (TypeError, ValueError) as error:
        raise ValueError("a bbox is four numbers, west,south,east,north: -10.5,35,5,44") from error
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ValueError(
            "longitudes lie between -180 and 180, latitudes between -90 and 90, and south is not above north"
        )
    return (west, south, east, north)


def _cql2(text: str) -> str:
    """A filter that can be said in CQL2's JSON form, which is the one that a search by POST takes."""
    try:
        _expression(text).validate()
    except (cql2.ParseError, cql2.ValidationError) as error:
        place = re.search(r"--> \d+:(\d+)", str(error))
        where = f" from character {place[1]} on" if place else ""
        raise ValueError(
            f"{text!r} is no CQL2{where}; text such as eo:cloud_cover < 10 is, and a name that begins with an "
            "underscore goes in double quotes"
        ) from None
    return text


def _expression(text: str) -> cql2.Expr:
    return cql2.parse_json(text) if text.lstrip().startswith("{") else cql2.parse_text(text)


Interval = Annotated[str, BeforeValidator(_interval)]
Box = Annotated[tuple[float, float, float, float], BeforeValidator(_box)]


class Query(BaseModel):
    """What to harvest. Everything left empty means: all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content: Content = Field(
        Content.collections, title="What to harvest", description="Collections, or the items in them."
    )
    collections: tuple[CollectionId, ...] = Field(
        (), title="Collections", description="Ids of the collections to harvest; all where empty.", examples=[["naip"]]
    )
    datetime: Interval | None = Field(
        None,
        title="Interval",
        description="Items of this interval, its end excluded; .. leaves an end open.",
        examples=["2024-01-01/2024-02-01", "2024-01-01/.."],
    )
    bbox: Box | None = Field(
        None,
        title="Bounding box",
        description="Items that meet this box: west, south, east, north in degrees.",
        examples=[[-10.5, 35, 5, 44]],
    )
    filter: Annotated[str, AfterValidator(_cql2)] | None = Field(
        None, title="CQL2 filter", description="As text or JSON.", examples=["eo:cloud_cover < 10"]
    )
    page_size: int = Field(
        1000,
        ge=1,
        le=10_000,
        title="Page size",
        description="Items asked for per call; fewer where the catalog takes too long for so many.",
    )

    @model_validator(mode="after")
    def _items_only(self) -> Self:
        narrowed = [name for name in ("datetime", "bbox", "filter") if getattr(self, name) is not None]
        if narrowed and self.content is Content.collections:
            raise ValueError(f"{' and '.join(narrowed)} can narrow items only: ask for content items, or leave it out")
        return self

    @property
    def cql2(self) -> JsonValue:
        """The filter in CQL2's JSON form; None where there is none."""
        return _expression(self.filter).to_json() if self.filter else None

    @property
    def title(self) -> str:
        """The question on a line, such as `items of naip, 2024-01-01/.., within -10.5,35,5,44`."""
        parts = [f"{self.content} of {', '.join(self.collections[:3]) or 'all collections'}"]
        if len(self.collections) > 3:
            parts[0] += f" and {len(self.collections) - 3} more"
        if self.content is Content.collections:
            parts[0] = parts[0].removesuffix(" of all collections")
        if self.datetime:
            parts.append(self.datetime.replace("T00:00:00Z", ""))
        if self.bbox:
            parts.append(f"within {','.join(f'{degrees:g}' for degrees in self.bbox)}")
        if self.filter:
            parts.append(f"where {shorten(self.filter, 80, placeholder='…')}")
        return ", ".join(parts)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that are the same for the same question, however it is put to the catalog."""
        question = self.model_dump(mode="json", exclude={"page_size"}) | {"collections": sorted(set(self.collections))}
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:12]


def query_from(**values: Any) -> Query:
    """A query from a user's words.

    Raises:
        ConfigurationError: they make no sense; one sentence says which and why.
    """
    try:
        return Query(**values)
    except ValidationError as error:
        raise ConfigurationError(first_problem(error)) from None


def check_since(query: Query, since: Since | None) -> None:
    """Pass a wish for changes only that can be met.

    Raises:
        ConfigurationError: collections have no changes to ask for.
    """
    if since and query.content is Content.collections:
        raise ConfigurationError("Only items have changes to ask for: ask for content items, or leave since out.")


def first_problem(error: ValidationError) -> str:
    """One sentence for the first thing that pydantic found wrong."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    sentence = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {sentence}" if where else sentence
