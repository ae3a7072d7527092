"""Files of tasks and nodes, read from the folders of the nodes: https://learn.microsoft.com/rest/api/batchservice/file."""

import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from local_azure.batch.node_routes import find_node
from local_azure.batch.protocol import Call, answer
from local_azure.batch.refusals import DetailedError, invalid_query
from local_azure.batch.states import modified, new_tag
from local_azure.batch.task_routes import find_task
from local_azure.clock import http_date, ticks
from local_azure.errors import ApiError
from local_azure.store import Document

_CHUNK = 2**16
_TEXT = (".txt", ".log", ".json", ".sh", ".py", ".ndjson", ".csv")


async def list_task_files(call: Call) -> Response:
    """GET /jobs/{job}/tasks/{task}/files."""
    return _listed(call, _task_folder(call), "jobs", call.path["job"], "tasks", call.path["task"])


async def list_node_files(call: Call) -> Response:
    """GET /pools/{pool}/nodes/{node}/files."""
    return _listed(call, _node_folder(call), "pools", call.path["pool"], "nodes", call.path["node"])


async def task_file(call: Call) -> Response:
    """GET or HEAD /jobs/{job}/tasks/{task}/files/{file}."""
    return _file(call, _task_folder(call), "jobs", call.path["job"], "tasks", call.path["task"])


async def node_file(call: Call) -> Response:
    """GET or HEAD /pools/{pool}/nodes/{node}/files/{file}."""
    return _file(call, _node_folder(call), "pools", call.path["pool"], "nodes", call.path["node"])


async def delete_task_file(call: Call) -> Response:
    """DELETE /jobs/{job}/tasks/{task}/files/{file}."""
    return _deleted(call, _task_folder(call))


async def delete_node_file(call: Call) -> Response:
    """DELETE /pools/{pool}/nodes/{node}/files/{file}."""
    return _deleted(call, _node_folder(call))


def _deleted(call: Call, folder: Path) -> Response:
    """The answer when a file is gone, or a folder; one that is not empty takes `recursive`."""
    path = _inside(folder, call.path["file"])
    if not path.is_dir():
        path.unlink()
    elif call.request.query_params.get("recursive", "").lower() == "true":
        shutil.rmtree(path)
    elif any(path.iterdir()):
        raise invalid_query("recursive", "false", "The directory is not empty.")
    else:
        path.rmdir()
    return call.done(200)


def _task_folder(call: Call) -> Path:
    task = find_task(call)
    if "nodeInfo" not in task:
        raise DetailedError(
            409,
            "OperationInvalidForCurrentState",
            "The specified operation is not valid for the current state of the resource.",
            Reason=f"The files of the specified task cannot be accessed as the task state is still {task['state']}",
        )
    folder = call.cloud.nodes.task_folder(task)
    if folder is None:
        raise ApiError(404, "NodeNotFound", "The specified node does not exist.")
    if not folder.is_dir():
        raise ApiError(409, "TaskFilesUnavailable", "The files of the specified task are unavailable.")
    return folder


def _node_folder(call: Call) -> Path:
    node = find_node(call)
    folder = call.cloud.nodes.node_folder(call.name, call.path["pool"], node["id"])
    if folder is None:
        raise ApiError(409, "OperationNotValidOnNode", "The specified operation is not valid on the node.")
    return folder


def _inside(folder: Path, name: str) -> Path:
    """The path of a file below the folder, which links and dots can't lead out of it."""
    try:
        path = (folder / name).resolve()
        if folder.resolve() in path.parents and path.exists():
            return path
    except (ValueError, OSError):
        pass  # no file system takes such a name
    raise ApiError(404, "FileNotFound", "The specified file does not exist.")


def _listed(call: Call, folder: Path, *place: str) -> Response:
    recursive = call.request.query_params.get("recursive", "").lower() == "true"
    paths = sorted(folder.rglob("*") if recursive else folder.iterdir())
    return call.many("files", (_entry(call, folder, path, *place) for path in paths if path.exists()))


def _entry(call: Call, folder: Path, path: Path, *place: str) -> Document:
    name = path.relative_to(folder).as_posix()
    entry: Document = {"name": name, "url": call.url(*place, "files", name), "isDirectory": path.is_dir()}
    if not path.is_dir():
        found = path.stat()
        entry["properties"] = {
            "creationTime": ticks(datetime.fromtimestamp(found.st_ctime, UTC)),
            "lastModified": ticks(datetime.fromtimestamp(found.st_mtime, UTC)),
            "contentLength": str(found.st_size),
            "contentType": _content_type(path),
            "fileMode": _mode(found.st_mode),
        }
    return entry


def _file(call: Call, folder: Path, *place: str) -> Response:
    path = _inside(folder, call.path["file"])
    found = path.stat()
    changed = datetime.fromtimestamp(found.st_mtime, UTC)
    state = {"eTag": new_tag(changed), "lastModified": ticks(changed)}
    call.check_conditions(state)
    reads = call.request.method == "GET"
    if reads and path.is_dir():
        raise ApiError(404, "FileNotFound", "The specified file does not exist.")
    first, last = _range(call, found.st_size) if reads else (0, found.st_size - 1)
    headers = {
        "Last-Modified": http_date(modified(state)),
        "ocp-creation-time": http_date(datetime.fromtimestamp(found.st_ctime, UTC)),
        "ocp-batch-file-isdirectory": str(path.is_dir()),
        "ocp-batch-file-url": quote(call.url(*place, "files", call.path["file"]), safe=""),
        "ocp-batch-file-mode": _mode(found.st_mode),
        "Content-Length": "0" if path.is_dir() else str(last - first + 1),
        "Content-Type": _content_type(path),
    }
    response = answer(call.request, 200, None, headers)
    if not reads:
        return response
    return StreamingResponse(_read(path, first, last - first + 1), 200, response.headers)


def _range(call: Call, size: int) -> tuple[int, int]:
    """First and last byte of what `ocp-range` asks for."""
    asked = call.request.headers.get("ocp-range", "").removeprefix("bytes=")
    if not asked:
        return 0, size - 1
    first, _, last = asked.partition("-")
    if not first.isdigit() or int(first) >= size or (last and int(last) < int(first)):
        raise ApiError(416, "InvalidRange", "The range specified is invalid for the current size of the resource.")
    return int(first), min(int(last) if last else size - 1, size - 1)


def _read(path: Path, first: int, count: int) -> Iterator[bytes]:
    """So many bytes and no more: a running task may still write."""
    with path.open("rb") as file:
        file.seek(first)
        while count > 0 and (chunk := file.read(min(count, _CHUNK))):
            count -= len(chunk)
            yield chunk


def _content_type(path: Path) -> str:
    return "text/plain" if path.suffix in _TEXT else "application/octet-stream"


def _mode(mode: int) -> str:
    return oct(stat.S_IFMT(mode) | stat.S_IMODE(mode))
