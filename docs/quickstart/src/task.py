"""Print the collections of the GeoCatalog at GEOCATALOG_URL, as the identity of the node that this runs on."""

import json
import os

import requests
from azure.identity import DefaultAzureCredential

token = DefaultAzureCredential().get_token("https://geocatalog.spatio.azure.com/.default").token
answer = requests.get(
    f"{os.environ['GEOCATALOG_URL']}/stac/collections",
    headers={"Authorization": f"Bearer {token}"},
    params={"api-version": "2026-04-15"},
    timeout=60,
)
answer.raise_for_status()
print(json.dumps(answer.json(), indent=2))
