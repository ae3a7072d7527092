"""`python -m local_azure`: serve Azure's wire on loopback."""

import asyncio
import logging
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from local_azure.cloud import Options
from local_azure.faults import FaultSpecError, parse_fault
from local_azure.geocatalog.loading import CatalogSourceError
from local_azure.page_limit import PageLimitError, parse_page_limit
from local_azure.server import StateInUseError, serve

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class ClockMode(StrEnum):
    """How the stand-in's own waiting passes."""

    real = "real"
    instant = "instant"


class Switch(StrEnum):
    """On or off."""

    on = "on"
    off = "off"


@cli.command()
def main(
    env_file: Annotated[
        Path, typer.Option(help="Written once everything is up: KEY=VALUE lines for `set -a; . FILE`.")
    ],
    state: Annotated[
        Path | None, typer.Option(help="Folder that keeps everything; a temporary one by default.")
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Serve this folder: collections.ndjson and <collection>.ndjson or .ndjson.zst.",
        ),
    ] = None,
    stac_upstream: Annotated[str | None, typer.Option(help="Put GeoCatalog's door before this STAC API.")] = None,
    demo_items: Annotated[int, typer.Option(min=0, help="Items of the generated catalog.")] = 1000,
    geocatalog_rate: Annotated[int | None, typer.Option(min=1, help="STAC calls per second before 429.")] = None,
    geocatalog_limit: Annotated[
        str, typer.Option(help="Largest page, and what becomes of a larger limit: N:refuse (400) or N:clamp.")
    ] = "1000:refuse",
    geocatalog_delay_ms: Annotated[int, typer.Option(min=0, help="Milliseconds that each STAC answer takes.")] = 0,
    nodes: Annotated[int | None, typer.Option(min=1, help="Most nodes that run at once, whatever a pool asks.")] = None,
    core_quota: Annotated[int, typer.Option(min=0, help="Dedicated cores of a Batch account.")] = 100,
    job_quota: Annotated[int, typer.Option(min=0, help="Active jobs of a Batch account.")] = 100,
    token_life: Annotated[int, typer.Option(min=1, help="Seconds that a token lives.")] = 3600,
    role_delay: Annotated[float, typer.Option(min=0, help="Seconds until a role assignment works.")] = 0,
    shared_keys: Annotated[
        Switch, typer.Option(help="What an account allows that does not say whether it wants shared keys.")
    ] = Switch.off,
    clock: Annotated[ClockMode, typer.Option(help="Whether Azure's own waiting takes time.")] = ClockMode.real,
    record: Annotated[Path | None, typer.Option(help="Append one JSON line per request to this file.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="Break something: service=batch,path=/jobs,status=503,times=2. Repeatable; first match wins."
        ),
    ] = None,
) -> None:
    """Serve ARM, tokens, Batch with nodes, blobs and a GeoCatalog on loopback until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    for library in ("httpx", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for flag, file in (("--env-file", env_file), ("--record", record)):
        if file and not file.absolute().parent.is_dir():
            _end(2, f"{flag} {file}: there is no folder {file.parent}")
    if catalog and stac_upstream:
        _end(2, "give --catalog or --stac-upstream, not both")
    try:
        faults = [parse_fault(text) for text in fault or []]
        page_limit = parse_page_limit(geocatalog_limit)
    except (FaultSpecError, PageLimitError) as error:
        _end(2, str(error))
    with tempfile.TemporaryDirectory(prefix="local_azure-") as temporary:
        options = Options(
            state=(state or Path(temporary)).resolve(),
            catalog=catalog,
            stac_upstream=stac_upstream,
            demo_items=demo_items,
            geocatalog_rate=geocatalog_rate,
            geocatalog_limit=page_limit,
            geocatalog_delay_ms=geocatalog_delay_ms,
            nodes=nodes,
            core_quota=core_quota,
            job_quota=job_quota,
            token_life=token_life,
            role_delay=role_delay,
            shared_keys=shared_keys is Switch.on,
            instant=clock is ClockMode.instant,
            record=record,
            faults=faults,
        )
        try:
            asyncio.run(serve(options, env_file))
        except (CatalogSourceError, StateInUseError) as error:
            _end(1, str(error))


def _end(code: int, sentence: str) -> None:
    print(f"local_azure: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    cli()
