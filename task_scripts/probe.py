"""Prove that a node's grants work: write a blob, ask the GeoCatalog; one JSON line on standard output says how it went.

Runs alone on a Batch node; needs `requests` and `azure-identity`. Environment: `PROBE_RESULT_URL` (the blob to write),
`GEOCATALOG_URL` (without /stac), `GEOCATALOG_API_VERSION`, `AZURE_CLIENT_ID` (the node identity's) and, where it is
not the public cloud's, `GEOCATALOG_SCOPE`; `READ_TIMEOUT_SECONDS`, 60 by default. Answer:
`{"storage": "ok" | "403 …", "geocatalog": "ok" | "403 …", …}`.

Exit codes: 0 all fine; 10 something answered 401 or 403, so a grant is missing or does not work yet; 2 the environment
is incomplete; 3 no token; 5 an unexpected answer; 6 out of reach.
"""

import json
import logging
import os
import random
import sys
import time

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential

CONFIGURATION, NO_TOKEN, UNEXPECTED, UNAVAILABLE, NOT_GRANTED = 2, 3, 5, 6, 10
STORAGE_SCOPE = "https://storage.azure.com/.default"
REQUIRED = ("PROBE_RESULT_URL", "GEOCATALOG_URL", "GEOCATALOG_API_VERSION", "AZURE_CLIENT_ID")
LOOPBACK = ("http://127.0.0.1:", "http://localhost:")
TRANSIENT = {408, 429, 500, 502, 503, 504}
ATTEMPTS = 4
READ_SECONDS = float(os.environ.get("READ_TIMEOUT_SECONDS", "60"))
CONNECT_AND_READ_SECONDS = (10, READ_SECONDS)


def token(credential: DefaultAzureCredential, scope: str) -> str:
    """A token, tried again: identity endpoints throttle."""
    for attempt in range(1, ATTEMPTS):
        try:
            return str(credential.get_token(scope).token)
        except ClientAuthenticationError:
            pause(attempt)
    return str(credential.get_token(scope).token)


def pause(attempt: int) -> None:
    """Wait 0.5 s, doubling, half of it at random."""
    time.sleep(2 ** (attempt - 2) * random.uniform(1, 2))  # noqa: S311  # it spreads load and guards nothing


def ask(method: str, url: str, bearer: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
    """The answer, or the last of those that were transient."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = requests.request(
                method,
                url,
                data=body,
                headers={**headers, "Authorization": f"Bearer {bearer}"},
                auth=lambda request: request,  # keeps requests from a .netrc
                timeout=CONNECT_AND_READ_SECONDS,
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if attempt == ATTEMPTS:
                raise
        else:
            if answer.status_code not in TRANSIENT or attempt == ATTEMPTS:
                return answer
        pause(attempt)
    raise AssertionError("the last attempt returns or raises")


def write_blob(credential: DefaultAzureCredential) -> tuple[int, str]:
    """Write the result blob, see https://learn.microsoft.com/rest/api/storageservices/put-blob."""
    headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2023-11-03", "Content-Type": "application/json"}
    body = json.dumps({"probe": "written by the node identity", "client_id": os.environ["AZURE_CLIENT_ID"]}).encode()
    answer = ask("PUT", os.environ["PROBE_RESULT_URL"], token(credential, STORAGE_SCOPE), headers, body)
    return judge(answer, answer.status_code == 201)


def read_catalog(credential: DefaultAzureCredential) -> tuple[int, str]:
    """Ask the GeoCatalog for one collection."""
    scope = os.environ.get("GEOCATALOG_SCOPE") or "https://geocatalog.spatio.azure.com/.default"
    version = os.environ["GEOCATALOG_API_VERSION"]
    url = f"{os.environ['GEOCATALOG_URL'].rstrip('/')}/stac/collections?limit=1&api-version={version}"
    answer = ask("GET", url, token(credential, scope), {})
    return judge(answer, answer.status_code == 200 and b'"collections"' in answer.content)


def judge(answer: requests.Response, expected: bool) -> tuple[int, str]:
    """Exit code, and `ok` or what the service said."""
    if expected:
        return 0, "ok"
    bearer = answer.request.headers["Authorization"].removeprefix("Bearer ")
    parts = (answer.headers.get("x-ms-error-code", ""), answer.text.replace(bearer, "(token)"))
    said = " ".join(f"{answer.status_code} {' '.join(parts)}".split())[:500]
    if answer.status_code in (401, 403):
        return NOT_GRANTED, said
    return (UNAVAILABLE if answer.status_code in TRANSIENT else UNEXPECTED), said


def main() -> int:
    """Take both steps, whatever becomes of the first, and print what they answered."""
    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what it warns of is in the answer
    missing = [name for name in REQUIRED if not os.environ.get(name)]
    plain = [name for name in REQUIRED[:2] if not os.environ.get(name, "").startswith(("https://", *LOOPBACK))]
    if missing or plain:
        print(f"probe: {', '.join(missing or plain)} not set, or not an https address", file=sys.stderr)
        return CONFIGURATION
    credential = DefaultAzureCredential(read_timeout=READ_SECONDS)
    codes, answers = [], {"client_id": os.environ["AZURE_CLIENT_ID"]}
    for name, step in (("storage", write_blob), ("geocatalog", read_catalog)):
        try:
            code, answers[name] = step(credential)
        except ClientAuthenticationError as error:
            code, answers[name] = NO_TOKEN, f"no token: {' '.join(str(error).split())[:500]}"
        except requests.RequestException as error:
            code, answers[name] = UNAVAILABLE, f"out of reach: {' '.join(str(error).split())[:500]}"
        codes.append(code)
    print(json.dumps(answers))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
