"""Harvest a catalog on the nodes, and keep what they bring."""

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run
from pydantic import PositiveFloat, PositiveInt

from spatiobatch.manifest import Harvest, Layout
from spatiobatch.output import check_output
from spatiobatch.query import Content, Query, Runtime
from spatiobatch.receipts import Receipt
from spatiobatch.settings import ScriptAccess, load_settings
from spatiobatch.shards import Plan, Verify
from tasks import unfinished
from tasks.archive import download, publish_latest
from tasks.clients import AzureClients
from tasks.collections import TASK_ID, collections_task, manifest_of, parse_collections
from tasks.compaction import compact
from tasks.environment import read_environment
from tasks.items import check_complete, harvest_items, settle, slots
from tasks.job import batch_job, submit_tasks, wait_for_tasks
from tasks.logs import read_logs
from tasks.picture import keep_picture
from tasks.results import harvest_files, publish
from tasks.summary import summarise


@flow(name="harvest", flow_run_name="harvest {query.content}")
def harvest(
    query: Query = Query(),  # noqa: B008  # frozen; the form in Prefect's UI shows its fields
    runtime: Runtime = Runtime.python,
    output: Path | None = None,
    script_access: ScriptAccess | None = None,
    verify: Verify = Verify.ids,
    max_items: PositiveInt | None = None,
    requests_per_second: PositiveFloat | None = None,
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
        resume: id of an unfinished item harvest to go on with, instead of the query.

    Returns:
        The manifest, the collections, and where they are kept.
    """
    if output:
        check_output(output)
    settings = load_settings().with_(script_access=script_access, requests_per_second=requests_per_second)
    azure = AzureClients(settings)
    environment = read_environment(azure)
    begun = flow_run.scheduled_start_time
    going = (
        unfinished.resume(azure, environment, resume) if resume else unfinished.begin(azure, environment, query, begun)
    )
    name, query, receipts, picture = going.harvest_id, going.query, list[Receipt](), None

    wanted = collections_task(azure, environment, name, runtime)
    with batch_job(azure, environment, f"harvest-{name}") as job:
        submit_tasks(azure, environment, job, [wanted])
        ended = wait_for_tasks(azure, environment, job, expected=1)
        logs = read_logs(azure, environment, job, ended[0], Layout(name).logs(TASK_ID))
        collections = parse_collections(logs.stdout, query)
        if query.content is Content.items:
            how = {"parallel": slots(settings), "verify": verify, "max_items": max_items}
            plan = Plan.of(collections, query, going.started, **how)
            receipts = harvest_items(azure, environment, job, name, plan)
            compactions = compact(azure, environment, job, name, receipts)
            manifest = settle(azure, environment, job, name, plan, receipts)
            picture = keep_picture(azure, environment, manifest, compactions)
        else:
            manifest = manifest_of(collections, query, name, going.started, ended)

    archive = publish(azure, environment, harvest_files(collections, manifest))
    written = download(azure, environment, name, receipts, output) if output else None
    artifact = summarise(manifest, collections, archive, picture)
    check_complete(manifest, archive, verify)
    publish_latest(azure, environment, manifest)
    unfinished.end(azure, environment, going)
    return Harvest(manifest, collections, archive, artifact, written)
