"""Operations on the account's blob service as a whole.

https://learn.microsoft.com/rest/api/storageservices/operations-on-the-account--blob-service-

Difference from Azure: the service's properties are its defaults, and cannot be set.
"""

import base64
import re
from datetime import datetime, timedelta
from xml.etree import ElementTree

from starlette.responses import Response

from local_azure.blob.account_keys import delegation_key
from local_azure.blob.answers import VERSION, add, parsed, xml
from local_azure.blob.call import Call
from local_azure.blob.permissions import bearer
from local_azure.clock import parse_time
from local_azure.errors import ApiError

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONGEST_KEY_LIFE = timedelta(days=7)


async def get_user_delegation_key(call: Call) -> Response:
    """Get User Delegation Key."""
    asked = parsed(await call.document())
    start, expiry = _time(asked, "Start"), _time(asked, "Expiry")
    now = call.cloud.clock.now()
    if not now < expiry <= now + _LONGEST_KEY_LIFE or start >= expiry:
        raise _invalid_node()
    fields = {
        "SignedOid": bearer(call).object_id,
        "SignedTid": call.cloud.tenant_id,
        "SignedStart": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "SignedExpiry": f"{expiry:%Y-%m-%dT%H:%M:%SZ}",
        "SignedService": "b",
        "SignedVersion": call.headers.get("x-ms-version", VERSION),
    }
    delegated_tenant = asked.findtext("DelegatedUserTid", "")
    if delegated_tenant and not _GUID.fullmatch(delegated_tenant):
        raise _invalid_node()
    key = delegation_key(call, [*fields.values(), delegated_tenant])
    if delegated_tenant:
        fields["SignedDelegatedUserTid"] = delegated_tenant
    root = ElementTree.Element("UserDelegationKey")
    for name, value in {**fields, "Value": base64.b64encode(key).decode()}.items():
        add(root, name, value)
    return xml(root)


def _time(asked: ElementTree.Element, name: str) -> datetime:
    try:
        return parse_time(asked.findtext(name, ""))
    except ValueError as error:
        raise _invalid_node() from error


def _invalid_node() -> ApiError:
    return ApiError(400, "InvalidXmlNodeValue", "The value for one of the XML nodes is not in the correct format.")


async def get_service_properties(call: Call) -> Response:
    """Get Blob Service Properties."""
    root = ElementTree.Element("StorageServiceProperties")
    logging = add(root, "Logging")
    for name, value in {"Version": "1.0", "Read": "false", "Write": "false", "Delete": "false"}.items():
        add(logging, name, value)
    add(add(logging, "RetentionPolicy"), "Enabled", "false")
    for metrics in ("HourMetrics", "MinuteMetrics"):
        element = add(root, metrics)
        add(element, "Version", "1.0")
        add(element, "Enabled", "false")
        add(add(element, "RetentionPolicy"), "Enabled", "false")
    add(root, "Cors")
    add(add(root, "DeleteRetentionPolicy"), "Enabled", "false")
    add(add(root, "StaticWebsite"), "Enabled", "false")
    return xml(root)


async def get_account_information(call: Call) -> Response:
    """Get Account Information."""
    account = call.account
    return Response(
        headers={
            "x-ms-sku-name": account.get("sku", {}).get("name", "Standard_LRS"),
            "x-ms-account-kind": account.get("kind", "StorageV2"),
            "x-ms-is-hns-enabled": "false",
        }
    )
