"""The Batch service's data plane, api-versions 2024-02-01.19.0 (Azure CLI) to 2025-06-01 (azure-batch 15).

https://learn.microsoft.com/rest/api/batchservice. An account's root is `<batch root>/<account>`.

Differences from Batch: what is not imitated is a logged 501, and docs/local-azure.md lists it; api-versions are
not told apart. Each module lists its own.
"""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_azure.batch import file_routes as files
from local_azure.batch import job_routes as jobs
from local_azure.batch import node_routes as nodes
from local_azure.batch import pool_routes as pools
from local_azure.batch import task_routes as tasks
from local_azure.batch.authentication import authorize, find_account
from local_azure.batch.protocol import Call, render_error, require_version
from local_azure.cloud import Cloud
from local_azure.wire import application, route

_JOBS = "Microsoft.Batch/batchAccounts/jobs"
_POOLS = "Microsoft.Batch/batchAccounts/pools"

_Handler = Callable[[Call], Awaitable[Response]]

_ROUTES: tuple[tuple[str, str, str, _Handler], ...] = (
    ("POST", "/jobs", f"{_JOBS}/write", jobs.create_job),
    ("GET", "/jobs", f"{_JOBS}/read", jobs.list_jobs),
    ("GET", "/jobs/{job}", f"{_JOBS}/read", jobs.get_job),
    ("PATCH", "/jobs/{job}", f"{_JOBS}/write", jobs.patch_job),
    ("PUT", "/jobs/{job}", f"{_JOBS}/write", jobs.replace_job),
    ("DELETE", "/jobs/{job}", f"{_JOBS}/delete", jobs.delete_job),
    ("POST", "/jobs/{job}/terminate", f"{_JOBS}/write", jobs.terminate_job),
    ("POST", "/jobs/{job}/disable", f"{_JOBS}/write", jobs.disable_job),
    ("POST", "/jobs/{job}/enable", f"{_JOBS}/write", jobs.enable_job),
    ("GET", "/jobs/{job}/taskcounts", f"{_JOBS}/read", jobs.task_counts),
    ("POST", "/jobs/{job}/tasks", f"{_JOBS}/write", tasks.create_task),
    ("POST", "/jobs/{job}/addtaskcollection", f"{_JOBS}/write", tasks.create_task_collection),
    ("GET", "/jobs/{job}/tasks", f"{_JOBS}/read", tasks.list_tasks),
    ("GET", "/jobs/{job}/tasks/{task}", f"{_JOBS}/read", tasks.get_task),
    ("PUT", "/jobs/{job}/tasks/{task}", f"{_JOBS}/write", tasks.replace_task),
    ("DELETE", "/jobs/{job}/tasks/{task}", f"{_JOBS}/delete", tasks.delete_task),
    ("POST", "/jobs/{job}/tasks/{task}/terminate", f"{_JOBS}/write", tasks.terminate_task),
    ("POST", "/jobs/{job}/tasks/{task}/reactivate", f"{_JOBS}/write", tasks.reactivate_task),
    ("GET", "/jobs/{job}/tasks/{task}/files", f"{_JOBS}/read", files.list_task_files),
    ("HEAD", "/jobs/{job}/tasks/{task}/files/{file:path}", f"{_JOBS}/read", files.task_file),
    ("GET", "/jobs/{job}/tasks/{task}/files/{file:path}", f"{_JOBS}/read", files.task_file),
    ("DELETE", "/jobs/{job}/tasks/{task}/files/{file:path}", f"{_JOBS}/write", files.delete_task_file),
    ("POST", "/pools", f"{_POOLS}/write", pools.create_pool),
    ("GET", "/pools", f"{_POOLS}/read", pools.list_pools),
    ("HEAD", "/pools/{pool}", f"{_POOLS}/read", pools.pool_exists),
    ("GET", "/pools/{pool}", f"{_POOLS}/read", pools.get_pool),
    ("PATCH", "/pools/{pool}", f"{_POOLS}/write", pools.patch_pool),
    ("DELETE", "/pools/{pool}", f"{_POOLS}/delete", pools.delete_pool),
    ("POST", "/pools/{pool}/updateproperties", f"{_POOLS}/write", pools.replace_pool),
    ("POST", "/pools/{pool}/resize", f"{_POOLS}/write", pools.resize_pool),
    ("POST", "/pools/{pool}/stopresize", f"{_POOLS}/write", pools.stop_resize),
    ("POST", "/pools/{pool}/enableautoscale", f"{_POOLS}/write", pools.enable_autoscale),
    ("POST", "/pools/{pool}/disableautoscale", f"{_POOLS}/write", pools.disable_autoscale),
    ("POST", "/pools/{pool}/evaluateautoscale", f"{_POOLS}/write", pools.evaluate_autoscale),
    ("POST", "/pools/{pool}/removenodes", f"{_POOLS}/write", nodes.remove_nodes),
    ("GET", "/pools/{pool}/nodes", f"{_POOLS}/read", nodes.list_nodes),
    ("GET", "/pools/{pool}/nodes/{node}", f"{_POOLS}/read", nodes.get_node),
    ("POST", "/pools/{pool}/nodes/{node}/reboot", f"{_POOLS}/write", nodes.reboot_node),
    ("POST", "/pools/{pool}/nodes/{node}/uploadbatchservicelogs", f"{_POOLS}/write", nodes.upload_logs),
    ("GET", "/pools/{pool}/nodes/{node}/files", f"{_POOLS}/read", files.list_node_files),
    ("HEAD", "/pools/{pool}/nodes/{node}/files/{file:path}", f"{_POOLS}/read", files.node_file),
    ("GET", "/pools/{pool}/nodes/{node}/files/{file:path}", f"{_POOLS}/read", files.node_file),
    ("DELETE", "/pools/{pool}/nodes/{node}/files/{file:path}", f"{_POOLS}/write", files.delete_node_file),
    ("GET", "/nodecounts", f"{_POOLS}/read", nodes.node_counts),
    ("GET", "/supportedimages", f"{_POOLS}/read", nodes.supported_images),
)


def app(cloud: Cloud) -> Starlette:
    """The HTTP application."""
    routes = [_guarded(cloud, *entry) for entry in _ROUTES]
    made = application("batch", routes, render_error)
    made.state.cloud = cloud
    return made


def _guarded(cloud: Cloud, method: str, path: str, operation: str, handler: _Handler) -> Route:
    """A route behind its account and the caller's right to the operation."""

    async def endpoint(request: Request) -> Response:
        require_version(request)
        account = find_account(cloud, request.path_params["account"])
        authorize(cloud, request, account, operation)
        return await handler(Call(cloud, account, request))

    return route(method, "/{account}" + path, endpoint)
