"""Edits to JSON documents that leave every byte alone that is not edited."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from local_azure.store import Document

_Members = dict[str, msgspec.Raw]
_Tree = dict[str, "_Tree"]


def feature_collection(items: Iterable[bytes], links: list[Document]) -> bytes:
    """An ItemCollection of items as they are."""
    bodies = list(items)
    return b'{"type":"FeatureCollection","features":[%b],"links":%b,"numberReturned":%d}' % (
        b",".join(bodies),
        msgspec.json.encode(links),
        len(bodies),
    )


def with_links(document: bytes, change: Callable[[list[Document]], list[Document]]) -> bytes:
    """An object whose top-level `links` are changed."""
    members = msgspec.json.decode(document, type=_Members)
    links = change(msgspec.json.decode(members.get("links", b"[]")))
    return msgspec.json.encode({**members, "links": links})


def with_fields(item: bytes, include: Iterable[str], exclude: Iterable[str]) -> bytes:
    """An item reduced as the fields extension of stac-fastapi-pgstac does."""
    members = msgspec.json.decode(item, type=_Members)
    wanted, unwanted = _tree(include), _tree(exclude)
    kept: dict[str, Any] = _included(members, wanted) if wanted else {**members}
    if not kept:
        kept = {name: members[name] for name in ("id", "collection") if name in members}
    return msgspec.json.encode(_excluded(kept, unwanted))


def _tree(paths: Iterable[str]) -> _Tree:
    root: _Tree = {}
    for path in paths:
        node = root
        for name in path.split("."):
            node = node.setdefault(name, {})
    return root


def _included(members: _Members, wanted: _Tree) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, inner in wanted.items():
        if name in members:
            nested = _members(members[name]) if inner else None
            kept[name] = members[name] if nested is None else _included(nested, inner)
    return kept


def _excluded(members: dict[str, Any], unwanted: _Tree) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in members.items():
        inner = unwanted.get(name)
        if inner is None:
            kept[name] = value
        elif inner:
            nested = value if isinstance(value, dict) else _members(value)
            kept[name] = value if nested is None else _excluded(nested, inner)
    return kept


def _members(value: msgspec.Raw) -> _Members | None:
    """The members of a JSON object; None for another kind of value."""
    return msgspec.json.decode(value, type=_Members) if bytes(value).startswith(b"{") else None
