"""The probe: a task that proves on a node that every grant works.

It reads its script, calls the GeoCatalog and writes a result, all as the nodes' identity. Role assignments take up to
ten minutes to work and Batch does not ask again for a script that was refused: for a while a refusal means "not yet".
"""

import json
import time

from azure.batch.models import BatchTask
from azure.core.exceptions import HttpResponseError
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from spatiobatch.errors import MissingGrantError, ProbeError, TaskFailedError
from spatiobatch.interruptions import pause
from spatiobatch.names import digest
from tasks.clients import AzureClients, azure_task, found
from tasks.environment import Environment, results
from tasks.job import close_job, open_job, submit_tasks, wait_for_tasks
from tasks.logs import check_succeeded, read_log, read_node_log
from tasks.node_task import node_task, results_url
from tasks.pool import read_pool
from tasks.roles import (
    nodes_on_geocatalog,
    nodes_on_results,
    nodes_on_scripts,
    operator_on_batch,
    operator_on_storage,
    when_granted,
)
from tasks.storage import blob_name

SCRIPT = "probe.py"
REFUSED_EXIT_CODE = 10
"""With this `probe.py` says that it was refused and that a grant may still be spreading."""
_ATTEMPTS = 3
_REFUSED_DOWNLOADS = {"BlobAccessDenied", "ResourceContainerAccessDenied", "ContainerAccessDenied"}


@azure_task("probe")
def probe(azure: AzureClients, environment: Environment, principal_id: str) -> None:
    """Run the probe until it gets through.

    Raises:
        MissingGrantError: a refusal outlasted `grant_timeout_minutes`.
        ProbeError: the probe failed in another way, three times.
    """
    logger = get_run_logger()
    if azure.settings.pool_nodes == 0:
        logger.warning("pool_nodes is 0: without a node nobody knows whether the nodes' roles work")
        return
    deadline = time.monotonic() + azure.settings.grant_timeout_minutes * 60
    failures = 0
    while True:
        try:
            refusal = _attempt(azure, environment)
        except ProbeError as error:
            failures += 1
            if failures == _ATTEMPTS:
                raise
            logger.warning("the probe runs again: %s", error)
            continue
        if refusal is None:
            return
        if time.monotonic() > deadline:
            raise _missing_grant(azure, principal_id, refusal)
        logger.info("the nodes' roles are still spreading: %s", refusal)
        pause(azure.settings.poll_seconds)


@azure_task("look for a probe")
def probed(azure: AzureClients, environment: Environment) -> bool:
    """Whether a probe of this very environment, with the pool as it is, got through: its uploaded output says so."""
    container = results(azure, environment)
    log = f"{_folder(environment)}/stdout.txt"
    blob = when_granted(azure, operator_on_storage(azure), lambda: found(container.download_blob, log))
    if blob is None or blob.properties.last_modified < read_pool(azure).properties.creation_time.replace(microsecond=0):
        return False
    return _all_ok(blob.readall().decode(errors="replace"))


def _answers(said: str) -> dict[str, str]:
    """What `probe.py` printed; nothing where that was cut short."""
    try:
        return dict(json.loads(said))
    except ValueError:
        return {}


def _all_ok(said: str) -> bool:
    answers = _answers(said)
    return (answers.get("storage"), answers.get("geocatalog")) == ("ok", "ok")


def _folder(environment: Environment) -> str:
    parts = (environment.identity_id, environment.geocatalog_url, environment.blob_endpoint, blob_name(SCRIPT))
    return f"probe/{digest('|'.join(parts).lower(), 16)}"


def _attempt(azure: AzureClients, environment: Environment) -> str | None:
    """Run the probe once; None when it got through, else what was refused.

    In a job of this run's own, which no other run closes.
    """
    purpose = f"probe-{digest(f'{_folder(environment)}|{flow_run.id}', 16)}"
    variables = {"PROBE_RESULT_URL": f"{results_url(azure, environment)}/{_folder(environment)}/result.json"}
    task = node_task(azure, environment, "probe", script=SCRIPT, logs=_folder(environment), variables=variables)
    job = when_granted(azure, operator_on_batch(azure), lambda: open_job.fn(azure, environment, purpose))
    try:
        submit_tasks.fn(azure, environment, job, [task])
        (ended,) = wait_for_tasks.fn(azure, environment, job, 1)
        return _judge(azure, environment, job, ended)
    finally:
        close_job.fn(azure, environment, job)


def _judge(azure: AzureClients, environment: Environment, job: str, task: BatchTask) -> str | None:
    info = task.execution_info
    if info.failure_info and info.failure_info.code in _REFUSED_DOWNLOADS and info.exit_code is None:
        return f"script: {info.failure_info.code}"
    not_uploaded = info.failure_info is not None and info.failure_info.code == "FileUploadAccessDenied"
    if info.exit_code == REFUSED_EXIT_CODE:
        if not_uploaded:  # what lies there is an earlier probe's
            said = read_node_log(azure, environment, job, task.id, "stdout.txt")
        else:
            said = read_log(azure, environment, job, task.id, f"{_folder(environment)}/stdout.txt")
        return said.decode(errors="replace").strip() if said else "the probe was refused and left no output"
    if not_uploaded and info.exit_code == 0:
        return "logs: FileUploadAccessDenied"
    try:
        check_succeeded(azure, environment, job, task, _folder(environment))
    except TaskFailedError as error:
        said = read_log(azure, environment, job, task.id, f"{_folder(environment)}/stdout.txt") or b""
        answer = f" It answered {said.decode(errors='replace').strip()}" if said else ""
        told = f"The environment is built but its probe did not get through.{answer} {error.sentence}"
        raise ProbeError(told, error.lines) from error
    except HttpResponseError as error:
        raise ProbeError(f"The environment is built but its probe's log cannot be read: {error.message}") from error
    return None


def _missing_grant(azure: AzureClients, principal_id: str, refusal: str) -> MissingGrantError:
    why = f"the probe was refused for {azure.settings.grant_timeout_minutes:g} minutes: {refusal}"
    candidates = {
        "script": nodes_on_scripts(azure, principal_id).missing(why),
        "storage": nodes_on_results(azure, principal_id).missing(why),
        "geocatalog": nodes_on_geocatalog(azure, principal_id).missing(why),
    }
    answers = _answers(refusal) or {"script" if refusal.startswith("script:") else "storage": refusal}
    missing = [error.commands for name, error in candidates.items() if answers.get(name, "ok") != "ok"]
    return MissingGrantError({grant: command for each in missing for grant, command in each.items()}, why)
