"""The form of JSON documents, and where two forms differ.

A shape counts, for each path of a document (`/properties/autoStorage`, `/value/[]/id`), how often which type stands
there. The counts tell a field that is always there from one that depends on the state of a resource.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Shape = dict[str, dict[str, int]]

_ENUMERATION = re.compile(
    r"(state|status|type|kind|mode|modes/\[\]|tier|result|reason|action|level|condition|category|code)$", re.IGNORECASE
)
"""Fields that hold a word of the service's own; of any other string, only that it is one is kept."""
_WORD = re.compile(r"[A-Za-z]{2,40}")
_FIELD = re.compile(r"[A-Za-z@$][\w.@$-]{0,63}", re.ASCII)
_TYPES = {dict: "object", list: "array", bool: "boolean", int: "number", float: "number", type(None): "null"}


def shape_of(document: Any) -> Shape:
    """The shape of one document."""
    shape: dict[str, Counter[str]] = {}
    for path, kind in _walk("", document):
        shape.setdefault(path, Counter())[kind] += 1
    return {path: dict(kinds) for path, kinds in shape.items()}


def _walk(path: str, value: Any) -> Iterator[tuple[str, str]]:
    yield path, _kind(path, value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(f"{path}/{_field(path, name)}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(f"{path}/[]", inner)


def _field(path: str, name: str) -> str:
    """A field's name; names that users or ids give, as in tags and maps of identities, are not told."""
    return name if _FIELD.fullmatch(name) and not path.endswith("/tags") else "{name}"


def _kind(path: str, value: Any) -> str:
    if not isinstance(value, str):
        return _TYPES[type(value)]
    return f"string {value}" if _ENUMERATION.search(path) and _WORD.fullmatch(value) else "string"


def merged(shapes: Iterable[Shape]) -> Shape:
    """What several documents have between them."""
    total: dict[str, Counter[str]] = {}
    for shape in shapes:
        for path, kinds in shape.items():
            total.setdefault(path, Counter()).update(kinds)
    return {path: dict(kinds) for path, kinds in total.items()}


class Kind(StrEnum):
    """How a field of one side differs from the other side's."""

    missing = "missing"
    extra = "extra"
    other_type = "other type"
    letter_case = "letter case"


@dataclass(frozen=True)
class Difference:
    """One field in which two shapes differ."""

    path: str
    kind: Kind
    detail: str
    always: bool = True
    """Whether the side that has the field has it in every answer."""


def differences(real: Shape, local: Shape) -> list[Difference]:
    """Where `local` differs from `real`; of a missing object, the fields in it are not told again.

    A field is compared only where both sides have something to hold it: of a list that one side leaves empty, nobody
    knows what its elements would have looked like.
    """
    found: list[Difference] = []
    for path in sorted(real.keys() | local.keys()):
        if path in real and path in local:
            found += _in_both(path, real[path], local[path])
        elif path in real:
            found += _in_one(path, real, local, Kind.missing)
        else:
            found += _in_one(path, local, real, Kind.extra)
    return found


def _in_one(path: str, having: Shape, lacking: Shape, kind: Kind) -> Iterator[Difference]:
    parent, _, name = path.rpartition("/")
    holders = having[parent].get("object", 0)
    if name in ("[]", "{name}") or set(having[path]) == {"null"} or "object" not in lacking.get(parent, {}):
        return
    times = sum(having[path].values())
    how_often = "always" if times >= holders else f"{times} of {holders} times"
    yield Difference(path, kind, f"{_readable(having[path])}, {how_often}", always=times >= holders)


def _in_both(path: str, real: dict[str, int], local: dict[str, int]) -> Iterator[Difference]:
    types, other_types = _types(real), _types(local)
    if types and other_types and not types & other_types:
        yield Difference(path, Kind.other_type, f"{_readable(real)}, in local_azure {_readable(local)}")
    spelt = {word.lower(): word for word in local}
    for word in real:
        other = spelt.get(word.lower(), word)
        if other != word and word not in local:
            told = f"{word.removeprefix('string ')}, in local_azure {other.removeprefix('string ')}"
            yield Difference(path, Kind.letter_case, told)


def _types(kinds: Iterable[str]) -> set[str]:
    return {kind.split(" ", maxsplit=1)[0] for kind in kinds} - {"null"}


def _readable(kinds: Iterable[str]) -> str:
    return " or ".join(sorted(_types(kinds)) or ["null"])
