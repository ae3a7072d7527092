"""The catalog's collections, as a node brought them."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from azure.batch.models import BatchTask, BatchTaskCreateOptions
from prefect import task
from pydantic import BaseModel, Field, ValidationError

from spatiobatch.errors import NotStacError, UnknownCollectionError
from spatiobatch.manifest import CollectionTotals, Cost, Layout, Manifest
from spatiobatch.query import Query, Runtime, first_problem
from tasks.clients import AzureClients
from tasks.environment import Environment
from tasks.node_task import node_task

TASK_ID = "collections"
SCRIPTS = {Runtime.python: "list_collections.py", Runtime.bash: "list_collections.sh"}
_LIST, _NEXT = re.compile(r'\s*\{\s*"collections"\s*:\s*\['), re.compile(r"[^\s,]")


class _Collection(BaseModel):
    """What tells a STAC collection; catalogs are known to leave out the other fields that the standard requires.

    https://github.com/radiantearth/stac-spec/blob/v1.0.0/collection-spec/collection-spec.md#collection-fields
    """

    id: str = Field(min_length=1)
    type: Literal["Collection"]
    stac_version: str


class _Answer(BaseModel):
    collections: list[dict[str, Any]]


@dataclass(frozen=True)
class Listing:
    """What a catalog answered with, as far as a query asks for it."""

    collections: list[dict[str, Any]]
    """Those that can be read, in the catalog's order."""
    document: bytes
    """The same as a JSON document, each as the text that the catalog sent: parsing would rewrite numbers."""
    unreadable: dict[str, str]
    """What is wrong with the others, by id."""


def collections_task(
    azure: AzureClients, environment: Environment, harvest_id: str, runtime: Runtime
) -> BatchTaskCreateOptions:
    """The Batch task that asks for all collections."""
    return node_task(azure, environment, TASK_ID, script=SCRIPTS[runtime], logs=Layout(harvest_id).logs(TASK_ID))


@task(name="read collections")
def parse_collections(stdout: bytes, query: Query) -> Listing:
    """The collections that the query asks for; one that cannot be read costs no other.

    Raises:
        NotStacError: the output is not a list of collections.
        UnknownCollectionError: the query names one that is not among them.
    """
    readable: dict[str, tuple[dict[str, Any], str]] = {}
    unreadable: dict[str, str] = {}
    for number, text in enumerate(_texts(stdout), 1):
        try:
            found = _collection(text)
            readable[found["id"]] = found, text
        except ValidationError as error:
            unreadable[_name(text, number)] = first_problem(error)
        except (ValueError, RecursionError) as error:
            unreadable[_name(text, number)] = f"it is no JSON: {error}"
    unknown = set(query.collections) - {*readable, *unreadable}
    if unknown:
        raise UnknownCollectionError(unknown, {*readable, *unreadable})
    asked = query.collections or {*readable, *unreadable}
    kept = [found for name, found in readable.items() if name in asked]
    return Listing(
        collections=[found for found, _ in kept],
        document=b'{"collections": [\n' + ",\n".join(text for _, text in kept).encode() + b"\n]}\n",
        unreadable={name: problem for name, problem in unreadable.items() if name in asked},
    )


def _texts(stdout: bytes) -> Iterator[str]:
    """The texts of the collections in what a node script printed."""
    text = stdout.decode(errors="surrogateescape")
    decoder = json.JSONDecoder(strict=False, parse_int=float)
    try:
        _Answer.model_validate(decoder.decode(text))
    except ValidationError as error:
        raise NotStacError(TASK_ID, first_problem(error)) from error
    except (ValueError, RecursionError) as error:
        raise NotStacError(TASK_ID, f"no JSON ({error})") from error
    begin = _LIST.match(text)
    if begin is None:
        raise NotStacError(TASK_ID, "it does not begin with its collections")
    position = begin.end()
    while text[position := _NEXT.search(text, position).start()] != "]":  # type: ignore[union-attr]  # it is JSON
        end = decoder.raw_decode(text, position)[1]
        yield text[position:end]
        position = end


def _collection(text: str) -> dict[str, Any]:
    """A collection, by the letter of RFC 8259: Python's own reader takes NaN and bytes that are no UTF-8, too."""

    def refuse(constant: str) -> None:
        """Raise: a constant that JSON does not have."""
        raise ValueError(f"it holds {constant}")

    text.encode()
    found: dict[str, Any] = json.loads(text, parse_constant=refuse, parse_int=_whole)
    _Collection.model_validate(found)
    return found


def _whole(digits: str) -> float:
    """A number of as many digits as Python takes for a whole one, or what is near it."""
    return int(digits) if len(digits) <= sys.int_info.default_max_str_digits else float(digits)


def _name(text: str, number: int) -> str:
    """What a collection that cannot be read is called."""
    found = json.loads(text, strict=False, parse_int=float).get("id")
    return ascii(found)[1:-1] if isinstance(found, str) and found else f"(number {number}, without an id)"


def manifest_of(
    collections: list[dict[str, Any]], query: Query, harvest_id: str, started: datetime, ended: list[BatchTask]
) -> Manifest:
    """The manifest of a collections harvest; `ended` are its Batch tasks."""
    ran = [task.execution_info for task in ended]
    return Manifest(
        harvest_id=harvest_id,
        complete=True,
        verified=True,
        query=query,
        collections={collection["id"]: CollectionTotals() for collection in collections},
        started=started,
        finished=datetime.now(UTC),
        versions={package: version(package) for package in ("spatiobatch", "prefect", "azure-batch")},
        cost=Cost(node_seconds=sum((info.end_time - info.start_time).total_seconds() for info in ran)),
    )
