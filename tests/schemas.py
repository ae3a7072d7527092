"""The schemas that Microsoft publishes, made strict: a property that a schema does not name is a misfit.

ARM: deployment schemas, one document for a provider and api-version; they hold what a client may write, so that
read-only properties of answers need `Explained`. Batch: the swagger of the data plane, older than what the SDK sends.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft4Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT4

SPECS = Path(__file__).parent.parent.parent / "shared" / "specs"
"""The published schemas, where they are at hand."""
SWAGGER = SPECS / "batch" / "BatchService-2021-06-01.14.0.json"
_EXPRESSION = "https://schema.management.azure.com/schemas/common/definitions.json#/definitions/expression"
_DURATION = re.compile(r"P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
_FORMATS = FormatChecker(formats=())


class Misfit(NamedTuple):
    """Where a body differs from its schema."""

    definition: str
    """Name of the definition; else the property's place, whichever element of a list it is in."""
    member: str
    """The property that the definition does not name; else what is wrong."""
    document: str


class Operation(NamedTuple):
    """What one route of the swagger takes and answers."""

    method: str
    path: re.Pattern[str]
    request: str
    """Reference of the body's schema; empty where there is no body."""
    responses: dict[str, str]
    """The same of the answers, by status; a status without a body has an empty one."""


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


@_FORMATS.checks("duration")
def _is_duration(text: object) -> bool:
    return not isinstance(text, str) or _DURATION.fullmatch(text) is not None


def strict(schema: dict[str, Any], place: str, *, written: bool) -> dict[str, Any]:
    """The schema closed to other properties and without a template's expressions; `written`: nor what is read-only."""
    choices = [choice for choice in schema.get("oneOf", ()) if choice.get("$ref") != _EXPRESSION]
    if len(choices) == 1:
        return strict(choices[0], place, written=written)
    made = {name: value for name, value in schema.items() if name not in ("id", "x-nullable")}
    if schema.get("properties"):
        made["properties"] = {
            name: strict(inner, f"{place}.{name}", written=written)
            for name, inner in schema["properties"].items()
            if not (written and inner.get("readOnly"))
        }
        made |= {"definition": place, "additionalProperties": False}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            made[name] = strict(schema[name], place, written=written)
    return made


@cache
def _registry(file: Path, *, written: bool) -> Registry[Any]:
    document = json.loads(file.read_text())
    closed = {
        part: {name: strict(schema, name, written=written) for name, schema in document.get(part, {}).items()}
        for part in ("definitions", "resourceDefinitions", "subscription_resourceDefinitions")
    }
    return Registry().with_resource("urn:schema", DRAFT4.create_resource(closed))


def misfits(body: object, file: Path, reference: str, *, written: bool) -> Iterator[Misfit]:
    """Where a body differs from `reference` of a file; `written` if a client sends it."""
    validator = Draft4Validator(
        {"$ref": f"urn:schema{reference}"}, registry=_registry(file, written=written), format_checker=_FORMATS
    )
    for error in validator.iter_errors(body):
        if error.validator == "additionalProperties":
            for name in sorted(set(error.instance) - set(error.schema["properties"])):
                yield Misfit(error.schema["definition"], name, file.name)
        else:
            place = ".".join(part for part in error.absolute_path if isinstance(part, str))
            yield Misfit(place, error.message, file.name)


def resource_reference(file: Path, kind: str) -> str:
    """Reference of the schema of an ARM resource, such as `Microsoft.Batch/batchAccounts/pools`."""
    document = json.loads(file.read_text())
    name = kind.partition("/")[2].replace("/", "_").lower()
    for part in ("resourceDefinitions", "subscription_resourceDefinitions"):
        for known in document.get(part, {}):
            if known.lower() == name:
                return f"#/{part}/{known}"
    raise LookupError(f"{file.name} has no {kind}")


@cache
def operations() -> tuple[Operation, ...]:
    """The routes of the swagger."""
    paths = json.loads(SWAGGER.read_text())["paths"]
    return tuple(
        _operation(method.upper(), path, described)
        for path, ways in paths.items()
        for method, described in ways.items()
    )


def _operation(method: str, path: str, described: dict[str, Any]) -> Operation:
    bodies = [one["schema"]["$ref"] for one in described["parameters"] if one.get("in") == "body"]
    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
    responses = {status: one.get("schema", {}).get("$ref", "") for status, one in described["responses"].items()}
    return Operation(method, re.compile(pattern), bodies[0] if bodies else "", responses)
