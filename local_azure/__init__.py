"""Azure's wire on loopback: ARM, tokens, Batch with nodes that run tasks, blobs and a GeoCatalog.

Real clients (the Python SDKs, the `az` CLI, curl) talk to it by endpoint settings alone.
`python -m local_azure --env-file FILE` serves it until SIGTERM; `docs/local-azure.md` says what
it promises and where it differs from the real service.

    server.py      starts every service on a port of its own, writes the env file
    cloud.py       what the services share: clock, store, tokens, access, addresses
    identity/      tokens, login, instance metadata, roles and who may do what
    arm/           Azure Resource Manager, one module per resource provider
    batch/         the Batch data plane
    nodes/         the compute nodes that run start tasks and tasks as real processes
    blob/          blob storage
    geocatalog/    the GeoCatalog's door and the STAC API behind it
"""
