"""Why a task could not run, or did not end as it should.

Codes: https://learn.microsoft.com/rest/api/batchservice/batch-status-and-error-codes (task errors) and
`TaskFailureInformationCodes` of the .NET client library.
"""

from local_azure.store import Document

USER_ERROR = "usererror"
SERVER_ERROR = "servererror"


class TaskFailureError(Exception):
    """A failure that is not an exit code: the task's `failureInfo`."""

    def __init__(self, code: str, message: str, detail: str, *, category: str = USER_ERROR) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.message = message
        self.detail = detail
        self.category = category

    def info(self) -> Document:
        """The failure as `failureInfo` shows it."""
        return {
            "category": self.category,
            "code": self.code,
            "message": self.message,
            "details": [{"name": "Message", "value": self.detail}],
        }
