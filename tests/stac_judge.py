"""stac-api-validator on a GeoCatalog without the network: it is told where its certificates and schemas are.

It reads certifi's list of authorities alone, and fetches each schema that an object names. pystac brings those of STAC
itself; the schemas of extensions are on the network only, and hold for everything here.

https://github.com/stac-utils/stac-api-validator
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stac_session import StacSession

CLASSES = ("core", "collections", "features", "item-search", "filter", "item-search#sort", "item-search#fields")
_EVERYWHERE = '{"type":"Polygon","coordinates":[[[-180,-90],[180,-90],[180,90],[-180,90],[-180,-90]]]}'
_EXTENSIONS = "https://stac-extensions.github.io/"


def findings(stac: StacSession, collection: str, field: str) -> set[str]:
    """What it calls an error in a running GeoCatalog, without the GeoCatalog's address.

    Args:
        stac: whose token and authority it uses.
        collection: one whose items have the property.
        field: path of a property, for the fields extension.
    """
    bearer = str(stac.headers["Authorization"]).removeprefix("Bearer ")
    options = {"root-url": stac.root, "collection": collection, "geometry": _EVERYWHERE}
    options |= {"fields-nested-property": field, "auth-bearer-token": bearer, "log-level": "ERROR"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    arguments += [f"--conformance={name}" for name in CLASSES]
    judged = subprocess.run(
        [sys.executable, Path(__file__), *arguments],
        env={**os.environ, "REQUESTS_CA_BUNDLE": str(stac.verify)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    _, found, told = judged.stdout.partition("\nErrors:")
    assert found, judged.stdout + judged.stderr
    return {line.removeprefix("- ").replace(stac.root, "") for line in told.splitlines() if line.startswith("- ")}


def main() -> None:
    """The validator's own command line."""
    import certifi  # noqa: PLC0415  # requests asks it when it is imported

    certifi.where = lambda: os.environ["REQUESTS_CA_BUNDLE"]
    from pystac.validation.local_validator import get_local_schema_cache  # noqa: PLC0415
    from stac_api_validator.__main__ import main as validator  # noqa: PLC0415
    from stac_validator import utilities  # noqa: PLC0415

    schemas = get_local_schema_cache()
    utilities.fetch_and_parse_file = lambda address: {} if address.startswith(_EXTENSIONS) else schemas[address]
    validator()


if __name__ == "__main__":
    main()
