"""Errors that carry the `values` of Batch's envelope.

https://learn.microsoft.com/rest/api/batchservice/batch-status-and-error-codes
"""

from local_azure.errors import ApiError


class DetailedError(ApiError):
    """An error with key and value pairs that say what was wrong."""

    def __init__(self, status: int, code: str, message: str, **values: object) -> None:
        super().__init__(status, code, message)
        self.values = [{"key": key, "value": str(value)} for key, value in values.items()]


def invalid_property(name: str, value: object, reason: str) -> DetailedError:
    """400: a property of the body has a value that the service refuses."""
    return DetailedError(
        400,
        "InvalidPropertyValue",
        "The value provided for one of the properties in the request body is invalid.",
        PropertyName=name,
        PropertyValue=value,
        Reason=reason,
    )


def missing_property(name: str) -> DetailedError:
    """400: the body lacks a property."""
    return DetailedError(
        400, "MissingRequiredProperty", "A required property was not specified in the request body.", PropertyName=name
    )


def invalid_body(reason: str) -> DetailedError:
    """400: the body can't be read, or holds what the service does not know."""
    return DetailedError(
        400, "InvalidRequestBody", "The specified Request Body is not syntactically valid.", Reason=reason
    )


def invalid_query(name: str, value: object, reason: str) -> DetailedError:
    """400: a query parameter has a value that the service refuses."""
    return DetailedError(
        400,
        "InvalidQueryParameterValue",
        "Value for one of the query parameters specified in the request URI is invalid.",
        QueryParameterName=name,
        QueryParameterValue=value,
        Reason=reason,
    )


def out_of_range(name: str, value: object, least: int, most: int) -> DetailedError:
    """400: a query parameter is a number beyond what the service takes."""
    return DetailedError(
        400,
        "OutOfRangeQueryParameterValue",
        "A query parameter specified in the request URI is outside the permissible range.",
        QueryParameterName=name,
        QueryParameterValue=value,
        MinimumAllowed=least,
        MaximumAllowed=most,
    )
