"""Harvest a catalog on the nodes, and keep what they bring."""

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from spatiobatch.manifest import Harvest, Layout
from spatiobatch.names import harvest_id
from spatiobatch.output import check_output, write_output
from spatiobatch.query import Query, Runtime
from spatiobatch.settings import ScriptAccess, load_settings
from tasks.clients import AzureClients
from tasks.collections import TASK_ID, collections_task, manifest_of, parse_collections
from tasks.environment import read_environment
from tasks.job import batch_job, submit_tasks, wait_for_tasks
from tasks.logs import read_logs
from tasks.results import harvest_files, publish
from tasks.summary import summarise


@flow(name="harvest", flow_run_name="harvest {query.content}")
def harvest(
    query: Query = Query(),  # noqa: B008  # frozen; the form in Prefect's UI shows its fields
    runtime: Runtime = Runtime.python,
    output: Path | None = None,
    script_access: ScriptAccess | None = None,
) -> Harvest:
    """Ask the catalog for its collections on a node, and keep the answer as an archive and as artifacts.

    Args:
        query: what to harvest.
        runtime: the node script that asks, in Python or in Bash.
        output: a folder for a copy of the archive, on the machine where the flow runs.
        script_access: how the script reaches the node; as configured by default.

    Returns:
        The manifest, the collections, and where they are kept.
    """
    if output:
        check_output(output)
    azure = AzureClients(load_settings().with_(script_access=script_access))
    started = datetime.now(UTC)
    name = harvest_id(flow_run.scheduled_start_time or started, query.hash)
    environment = read_environment(azure)
    wanted = collections_task(azure, environment, name, runtime)
    with batch_job(azure, environment, f"harvest-{name}") as job:
        submit_tasks(azure, environment, job, [wanted])
        ended = wait_for_tasks(azure, environment, job, expected=1)
        logs = read_logs(azure, environment, job, ended[0], Layout(name).logs(TASK_ID))
    collections = parse_collections(logs.stdout, query)
    manifest = manifest_of(collections, query, name, started, ended)
    files = harvest_files(collections, manifest)
    archive = publish(azure, environment, files)
    written = write_output(output, {**logs.files, **files}) if output else None
    artifact = summarise(manifest, collections, archive)
    return Harvest(manifest, collections, archive, artifact, written)
