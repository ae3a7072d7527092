"""Errors in the words of the Batch resource provider, which names the property and the reason.

https://learn.microsoft.com/rest/api/batchservice/batch-status-and-error-codes
"""

from local_azure.arm.gate import ArmError


def invalid_value(path: str, value: object, reason: str) -> ArmError:
    """400, a property of the body has a value that cannot be."""
    details = {
        "PropertyName": path.rsplit(".", 1)[-1],
        "PropertyPath": path,
        "PropertyValue": str(value),
        "Reason": reason,
    }
    message = "The value provided for one of the properties in the request body is invalid."
    return ArmError(400, "InvalidPropertyValue", f"{message} {reason}", target="BatchAccount", details=details)


def missing_property(path: str) -> ArmError:
    """400, a property is not there."""
    message = "A required property was not specified in the request body."
    details = {"PropertyName": path.rsplit(".", 1)[-1], "PropertyPath": path}
    return ArmError(400, "MissingRequiredProperty", message, target="BatchAccount", details=details)


def fixed_property(path: str) -> ArmError:
    """400, a property is set for good when the resource is made (Azure/Batch issue 85 shows the real answer)."""
    message = "A property that cannot be updated was specified as part of the request."
    details = {"Reason": message, "PropertyName": path.rsplit(".", 1)[-1], "PropertyPath": path}
    return ArmError(400, "PropertyCannotBeUpdated", message, target="BatchAccount", details=details)


def unknown_identity(identity_id: str) -> ArmError:
    """400, a user-assigned identity does not exist."""
    return ArmError(
        400,
        "FailedIdentityOperation",
        f"Identity operation failed: Resource '{identity_id}' was not found.",
        target="BatchAccount",
    )
