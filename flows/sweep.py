"""End what earlier runs left behind."""

from prefect import flow

from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.environment import read_environment
from tasks.failure import explained
from tasks.sweep import sweep_jobs


@flow(name="sweep")
@explained
def sweep() -> list[str]:
    """End active Batch jobs of ours that nobody will go on with; each counts against the account's quota.

    Returns:
        The jobs that were ended.
    """
    azure = AzureClients(load_settings())
    return sweep_jobs(azure, read_environment(azure))
