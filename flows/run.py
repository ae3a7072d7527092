"""The command line: `python flows/run.py [provision|harvest|teardown|sweep|status]`; with none, provision and harvest.

The only place where flows meet `local_azure`: where no environment is named, one is started for the run.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # Python puts this file's folder on the path, not the checkout's root

import typer  # noqa: E402  # after the path
from rich import box  # noqa: E402
from rich.table import Table  # noqa: E402

from flows.console import PlainConsole, environment_named, guarded, story  # noqa: E402
from flows.prefect_server import leave  # noqa: E402
from spatiobatch.errors import ConfigurationError  # noqa: E402
from spatiobatch.output import check_output  # noqa: E402
from spatiobatch.query import Content, Query, Runtime, Since, check_since, query_from  # noqa: E402
from spatiobatch.settings import ScriptAccess, load_settings  # noqa: E402
from spatiobatch.shards import Verify  # noqa: E402

cli = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Build an Azure Batch environment and harvest a GeoCatalog on it. Without a command: provision, then harvest.",
)
out = PlainConsole(width=None if sys.stdout.isatty() else 1000)  # a pipe has no edge to wrap at

Environment = Annotated[Path | None, typer.Option(help="TOML file of the environment, such as deployments/azure.toml.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget what the local_azure of earlier runs holds.")]
ReplacePool = Annotated[
    bool, typer.Option("--replace-pool", help="Delete and create the pool again where Azure cannot change it in place.")
]
Access = Annotated[
    ScriptAccess | None, typer.Option(help="How nodes get scripts: as themselves, or by a 30-minute SAS.")
]
What = Annotated[Content, typer.Option(help="What to harvest.")]
With = Annotated[Runtime, typer.Option(help="Which node script asks the catalog.")]
Collections = Annotated[list[str] | None, typer.Option(help="Only this collection; repeatable.")]
Interval = Annotated[
    str | None, typer.Option(metavar="A/B", help="Only items of this interval; .. leaves an end open.")
]
Bbox = Annotated[str | None, typer.Option(metavar="W,S,E,N", help="Only items that meet this box, in degrees.")]
Filter = Annotated[str | None, typer.Option(metavar="CQL2", help="Only items that this filter takes, text or JSON.")]
PageSize = Annotated[int, typer.Option(min=1, max=10_000, help="Items asked for per call.")]
Output = Annotated[Path | None, typer.Option(help="Folder for a copy of the archive.")]


Resume = Annotated[str | None, typer.Option(metavar="HARVEST_ID", help="Go on with an unfinished harvest.")]
Changed = Annotated[Since | None, typer.Option(help="Only items that changed since the last harvest.")]
Verified = Annotated[Verify, typer.Option(help="How completeness of items is proven: by a second look at ids, or not.")]
MaxItems = Annotated[int | None, typer.Option(min=1, help="End after this many items.")]
Rate = Annotated[float | None, typer.Option(min=0.001, help="STAC calls per second of the whole item harvest.")]


@cli.command()
def provision(
    environment: Environment = None,
    fresh: Fresh = False,
    replace_pool: ReplacePool = False,
    script_access: Access = None,
) -> None:
    """Build the environment, or bring it up to the settings."""
    with environment_named(environment, ROOT, fresh=fresh):
        _provision(replace_pool=replace_pool, script_access=script_access)


@cli.command()
def harvest(
    content: What = Content.collections,
    runtime: With = Runtime.python,
    collection: Collections = None,
    datetime: Interval = None,
    bbox: Bbox = None,
    filter: Filter = None,
    page_size: PageSize = 1000,
    output: Output = None,
    resume: Resume = None,
    since: Changed = None,
    verify: Verified = Verify.ids,
    max_items: MaxItems = None,
    requests_per_second: Rate = None,
    script_access: Access = None,
    environment: Environment = None,
    fresh: Fresh = False,
) -> None:
    """Harvest the catalog; the environment must be there."""
    query = query_from(
        content=content,
        collections=tuple(collection or ()),
        datetime=datetime,
        bbox=bbox,
        filter=filter,
        page_size=page_size,
    )
    check_since(query, since)
    _check(output)
    with environment_named(environment, ROOT, fresh=fresh):
        _harvest(
            query,
            runtime,
            output,
            script_access=script_access,
            verify=verify,
            max_items=max_items,
            requests_per_second=requests_per_second,
            since=since,
            resume=resume,
        )


@cli.command(name="all")
def provision_and_harvest(
    runtime: With = Runtime.python,
    collection: Collections = None,
    output: Output = None,
    replace_pool: ReplacePool = False,
    script_access: Access = None,
    environment: Environment = None,
    fresh: Fresh = False,
) -> None:
    """Provision, then harvest collections: what runs without a command, with these options."""
    query = query_from(collections=tuple(collection or ()))
    _check(output)
    with environment_named(environment, ROOT, fresh=fresh):
        _provision(replace_pool=replace_pool, script_access=script_access)
        _harvest(query, runtime, output, script_access=script_access)


@cli.command()
def teardown(
    yes: Annotated[str, typer.Option(metavar="NAME", help="The resource group's name, to be sure.")],
    delete_results: Annotated[bool, typer.Option("--delete-results", help="Delete the harvests too.")] = False,
    environment: Environment = None,
    fresh: Fresh = False,
) -> None:
    """Remove what provisioning made, and nothing else."""
    with environment_named(environment, ROOT, fresh=fresh):
        from flows.teardown import teardown as flow  # noqa: PLC0415  # Prefect takes seconds to import

        with story("Removing"):
            removed = flow(confirm=yes, delete_results=delete_results)
        for name in removed or ["nothing: there is nothing of ours"]:
            out.print(f"removed    {name}")


@cli.command()
def sweep(environment: Environment = None, fresh: Fresh = False) -> None:
    """End jobs that earlier runs left behind."""
    with environment_named(environment, ROOT, fresh=fresh):
        from flows.sweep import sweep as flow  # noqa: PLC0415

        with story("Sweeping"):
            ended = flow()
        for name in ended or ["nothing: no job was left behind"]:
            out.print(f"ended      {name}")


@cli.command()
def status(environment: Environment = None, fresh: Fresh = False) -> None:
    """Say what is there: the environment, its nodes, its active jobs."""
    with environment_named(environment, ROOT, fresh=fresh):
        from tasks.clients import AzureClients  # noqa: PLC0415
        from tasks.environment import describe  # noqa: PLC0415

        for line in describe(AzureClients(load_settings())):
            out.print(line)


def _check(output: Path | None) -> None:
    if output:
        check_output(output)


def _provision(**options: Any) -> None:
    settings = load_settings()

    from flows.provision import provision as flow  # noqa: PLC0415

    with story("Provisioning"):
        changes = flow(**options)
    out.print(f"Environment {settings.resource_group} in {settings.location}")
    for change in changes:
        out.print(str(change))


def _harvest(query: Query, runtime: Runtime, output: Path | None, **options: Any) -> None:
    load_settings()

    from flows.harvest import harvest as flow  # noqa: PLC0415
    from tasks.summary import collection_rows  # noqa: PLC0415

    with story("Harvesting"):
        done = flow(query, runtime, output.resolve() if output else None, **options)
    out.print()
    out.print(done.manifest.headline)
    rows = collection_rows(done.collections, done.manifest)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    out.print(table)
    if done.manifest.difference:
        out.print(done.manifest.difference)
    out.print(f"Harvest   {done.manifest.harvest_id}")
    out.print(f"Archive   {done.archive}")
    if done.output:
        out.print(f"Output    {done.output}")
    out.print(f"Artifact  {done.artifact}")


def _with_command(arguments: list[str]) -> list[str]:
    """The arguments with the subcommand first; `all` where there is none.

    Raises:
        ConfigurationError: there is no such subcommand.
    """
    commands = {command.name or command.callback.__name__ for command in cli.registered_commands if command.callback}
    leading: list[str] = []
    rest = list(arguments)
    while rest and rest[0].split("=")[0] in ("--environment", "--fresh"):
        takes_value = rest[0] == "--environment"
        leading += rest[: 1 + takes_value]
        rest = rest[1 + takes_value :]
    if rest and (rest[0] in commands or rest[0] == "--help"):
        return [rest[0], *leading, *rest[1:]]
    if rest and not rest[0].startswith("-"):
        raise ConfigurationError(f"There is no command {rest[0]}: provision, harvest, teardown, sweep or status.")
    return ["all", *leading, *rest]


def main(arguments: list[str]) -> int:
    """Run a command line; its exit code."""
    return guarded(lambda: cli(_with_command(arguments), standalone_mode=False), ROOT / ".spatiobatch")


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
