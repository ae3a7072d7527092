"""Harvest a catalog on the nodes, and keep what they bring."""

from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import PositiveFloat, PositiveInt
from rich.markup import escape

from spatiobatch.manifest import Harvest, Layout, Manifest
from spatiobatch.output import check_output
from spatiobatch.query import Content, Query, Runtime, Since, check_since
from spatiobatch.receipts import Receipt
from spatiobatch.settings import ScriptAccess, load_settings
from spatiobatch.shards import Plan, Verify
from spatiobatch.text import plain
from tasks.archive import discard_receipts, download, publish_latest
from tasks.attempts import run_tasks
from tasks.base import read_base
from tasks.clients import AzureClients, attempted
from tasks.collections import Listing, collections_task, manifest_of, parse_collections
from tasks.compaction import compact
from tasks.environment import Environment, read_environment
from tasks.failure import explained
from tasks.items import harvest_items, slots
from tasks.job import batch_job
from tasks.logs import read_logs
from tasks.picture import keep_picture
from tasks.results import harvest_files, publish
from tasks.settlement import incomplete, settle
from tasks.shard_table import tell_of_shards
from tasks.summary import summarise
from tasks.sweep import sweep_jobs
from tasks.unfinished import Hold, held, wanted


def _run_name() -> str:
    """What a run is called in Prefect's UI, and in its command line, which takes brackets for markup."""
    asked = flow_run.parameters
    if asked.get("resume"):
        name = f"resume {asked['resume']}"
    else:
        changes = "changes of " if asked.get("since") else ""
        name = f"harvest {changes}{Query.model_validate(asked.get('query') or {}).title}"
    return escape(plain(name))


@flow(name="harvest", flow_run_name=_run_name)
@explained
def harvest(
    query: Query = Query(),  # noqa: B008  # frozen; the form in Prefect's UI shows its fields
    runtime: Runtime = Runtime.python,
    output: Path | None = None,
    script_access: ScriptAccess | None = None,
    verify: Verify = Verify.ids,
    max_items: PositiveInt | None = None,
    requests_per_second: PositiveFloat | None = None,
    since: Since | None = None,
    resume: str | None = None,
) -> Harvest:
    """Ask the catalog on nodes for its collections, or for the items in them, and keep the answer as an archive.

    Args:
        query: what to harvest.
        runtime: the node script that asks for collections, in Python or in Bash.
        output: a folder for a copy of the archive, on the machine where the flow runs.
        script_access: how scripts reach the nodes; as configured by default.
        verify: how the completeness of items is proven: by a second look at their ids, or not at all.
        max_items: end after so many items.
        requests_per_second: STAC calls per second of the whole harvest; as configured by default.
        since: harvest only items that changed since the last harvest of the same query.
        resume: id of an unfinished item harvest to go on with, instead of the query.

    Returns:
        The manifest, the collections, and where they are kept.
    """
    check_since(query, since)
    if output:
        check_output(output)
    settings = load_settings().with_(script_access=script_access, requests_per_second=requests_per_second)
    azure = AzureClients(settings)
    environment = read_environment(azure)
    begun = flow_run.scheduled_start_time

    with held(azure, environment, resume or wanted(query, begun, since, max_items)) as hold:
        attempted(sweep_jobs, azure, environment)  # first, since what was left behind uses up the quota
        listing, manifest, receipts, picture = _gather(azure, environment, hold, runtime, verify)
        hold.check()
        collections, manifest = listing.collections, manifest.without(listing.unreadable)
        archive = publish(azure, environment, harvest_files(listing.document, manifest))
        written = download(azure, environment, manifest.harvest_id, receipts, output) if output else None
        artifact = summarise(manifest, collections, archive, picture)
        problem = incomplete(manifest, archive, verify)
        if not problem and not manifest.max_items:
            publish_latest(azure, environment, manifest)
        hold.finish()
    if problem:
        raise problem
    return Harvest(manifest, collections, archive, artifact, written)


def _gather(
    azure: AzureClients, environment: Environment, hold: Hold, runtime: Runtime, verify: Verify
) -> tuple[Listing, Manifest, list[Receipt], str | None]:
    """What the nodes bring: collections, the manifest and, of items, receipts and the picture's path."""
    going = hold.harvest
    name, query = going.harvest_id, going.query
    with batch_job(azure, environment, f"harvest-{name}", hold.is_ours) as job:
        (asked,) = run_tasks(azure, environment, job, name, [collections_task(azure, environment, name, runtime)])
        logs = read_logs(azure, environment, job, asked, Layout(name).logs(asked.id))
        listing = parse_collections(logs.stdout, query)
        for unread, problem in listing.unreadable.items():
            get_run_logger().warning("collection %s cannot be read and is left out: %s", unread, problem)
        collections = listing.collections
        if query.content is Content.collections:
            return listing, manifest_of(collections, query, name, going.started, [asked]), [], None

        base = read_base(azure, environment, going)
        how = {"parallel": slots(azure.settings), "verify": verify, "max_items": going.max_items}
        plan = Plan.of(collections, query, going.started, changed=base.conditions(), **how)
        receipts = harvest_items(azure, environment, job, name, plan)
        while (compacted := compact(azure, environment, job, name, receipts, base)).unsound:
            discard_receipts(azure, environment, name, compacted.unsound)
            receipts = harvest_items(azure, environment, job, name, plan)
        receipts = compacted.receipts
        tell_of_shards(azure, environment, job, name, receipts)
        manifest = settle(azure, environment, job, name, plan, compacted, base)
        return listing, manifest, receipts, keep_picture(azure, environment, manifest, compacted.reports)
