"""What a task's end means for its job and for the tasks that depend on it: exit conditions.

https://learn.microsoft.com/rest/api/batchservice/task/add#exitconditions
"""

from collections.abc import Iterator

from local_azure.store import Document

FAILURE_EXIT_CODE = {
    "category": "usererror",
    "code": "FailureExitCode",
    "message": "The task exited with an exit code representing a failure",
    "details": [{"name": "Message", "value": "The task exited with an exit code representing a failure"}],
}
TASK_ENDED = {"category": "usererror", "code": "TaskEnded", "message": "Task Was Ended by User Request"}


def succeeded(task: Document) -> bool:
    """Whether a completed task ended well."""
    return bool(task["executionInfo"].get("result") == "success")


def job_action(task: Document) -> str:
    """`none`, `disable` or `terminate`: what its end asks of a job that performs exit options."""
    return str(_options(task).get("jobAction", "none" if succeeded(task) else "terminate"))


def satisfies_dependants(task: Document) -> bool:
    """Whether tasks that depend on this one may run."""
    if task["state"] != "completed":
        return False
    return bool(_options(task).get("dependencyAction", "satisfy" if succeeded(task) else "block") == "satisfy")


def exit_options(conditions: Document) -> Iterator[Document]:
    """Every exit option that the conditions of a task name."""
    for mapping in (*conditions.get("exitCodes", ()), *conditions.get("exitCodeRanges", ())):
        yield mapping.get("exitOptions") or {}
    for name in ("preProcessingError", "fileUploadError", "default"):
        yield conditions.get(name) or {}


def _options(task: Document) -> Document:
    conditions, info = task.get("exitConditions") or {}, task["executionInfo"]
    code = info.get("exitCode")
    failure = info.get("failureInfo", {}).get("code", "")
    if failure.startswith("FileUpload"):
        return dict(conditions.get("fileUploadError") or conditions.get("default") or {})
    if code is None and failure != TASK_ENDED["code"]:
        return dict(conditions.get("preProcessingError") or conditions.get("default") or {})
    for mapping in conditions.get("exitCodes", ()):
        if mapping["code"] == code:
            return dict(mapping["exitOptions"])
    for mapping in conditions.get("exitCodeRanges", ()):
        if code is not None and mapping["start"] <= code <= mapping["end"]:
            return dict(mapping["exitOptions"])
    return {} if code == 0 else dict(conditions.get("default") or {})
