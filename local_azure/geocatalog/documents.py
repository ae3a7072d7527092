"""Edits to JSON documents that leave every byte alone that is not edited."""

import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec

from local_azure.store import Document

_Members = dict[str, msgspec.Raw]
_Tree = dict[str, "_Tree"]
ItemLinks = Callable[[str, str, Iterable[Document]], list[Document]]
"""Makes an item's links of its collection's id, its own, and the links that it has."""
_IN_STORAGE = re.compile(r"https://[a-z0-9]+\.blob\.core\.[a-z.]+/[^?]*$")
"""Addresses of blobs without a query."""


def search_page(items: Iterable[bytes], links: list[Document]) -> bytes:
    """An ItemCollection of items as they are, in the order of members of a search."""
    return b'{"type":"FeatureCollection","links":%b,"features":[%b]}' % (msgspec.json.encode(links), b",".join(items))


def item_page(items: Iterable[bytes], links: list[Document]) -> bytes:
    """An ItemCollection of items as they are, in the order of members of a collection's items."""
    return b'{"type":"FeatureCollection","features":[%b],"links":%b}' % (b",".join(items), msgspec.json.encode(links))


def with_links(document: bytes, change: Callable[[list[Document]], list[Document]]) -> bytes:
    """An object whose top-level `links` are changed."""
    members = msgspec.json.decode(document, type=_Members)
    links = change(msgspec.json.decode(members.get("links", b"[]")))
    return msgspec.json.encode({**members, "links": links})


def with_signed_assets(document: bytes) -> bytes:
    """An item or a collection whose assets in blob storage have a SAS in their addresses."""
    members = msgspec.json.decode(document, type=_Members)
    assets = msgspec.json.decode(members.get("assets", b"{}"))
    stored = [asset for asset in assets.values() if _IN_STORAGE.match(str(asset.get("href")))]
    for asset in stored:
        asset["href"] += _a_signature()
    return msgspec.json.encode({**members, "assets": assets}) if stored else document


def _a_signature() -> str:
    """The query of a user-delegation SAS that reads a container for an hour."""
    expiry = datetime.now(UTC) + timedelta(hours=1)
    fields = {"sv": "2024-11-04", "se": f"{expiry:%Y-%m-%dT%H:%M:%SZ}", "sr": "c", "sp": "rl"}
    return f"?{urlencode({**fields, 'sig': b64encode(secrets.token_bytes(32)).decode()})}"


def with_fields(item: bytes, include: Iterable[str], exclude: Iterable[str], links: ItemLinks) -> bytes:
    """An item reduced to what is included, then without what is excluded.

    As stac-fastapi-pgstac does, the links that the server makes come back unless `links` is excluded; as pcstac does
    (https://github.com/microsoft/planetary-computer-apis), `id` and `collection` are always included.
    """
    members, wanted, unwanted = msgspec.json.decode(item, type=_Members), _tree(include), _tree(exclude)
    kept = _excluded(_included(members, wanted | _tree(("id", "collection"))) if wanted else {**members}, unwanted)
    if "links" not in unwanted:
        collection_id, item_id = (str(msgspec.json.decode(members[name])) for name in ("collection", "id"))
        kept["links"] = links(collection_id, item_id, msgspec.json.decode(kept.get("links", b"[]")))
    return msgspec.json.encode(kept)


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
            if left := value if nested is None else _excluded(nested, inner):
                kept[name] = left
    return kept


def _members(value: msgspec.Raw) -> _Members | None:
    """The members of a JSON object; None for another kind of value."""
    return msgspec.json.decode(value, type=_Members) if bytes(value).startswith(b"{") else None
