"""Remove what provisioning made, and nothing else."""

from prefect import flow

from spatiobatch.errors import ConfigurationError
from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.failure import explained
from tasks.removal import remove_batch_account, remove_identity, remove_resource_group, remove_roles, remove_storage


@flow(name="teardown")
@explained
def teardown(confirm: str, delete_results: bool = False) -> list[str]:
    """Remove the environment of this process's settings.

    Args:
        confirm: the resource group's name, to be sure that it is the one that is meant.
        delete_results: delete the harvests too.

    Returns:
        What was removed, in order.
    """
    azure = AzureClients(load_settings())
    if confirm != azure.settings.resource_group:
        raise ConfigurationError(
            f"This would remove the environment in resource group {azure.settings.resource_group}, "
            f"but {confirm!r} was confirmed: confirm the resource group's name."
        )
    removed = remove_roles(azure, delete_results=delete_results)
    removed += remove_batch_account(azure)
    removed += remove_identity(azure)
    removed += remove_storage(azure, delete_results=delete_results)
    return removed + remove_resource_group(azure)
