"""The nouns that two rooms share; imports no Prefect.

clouds.py       the four clouds: addresses and token scopes
settings.py     what differs between environments
names.py        ids and Azure's limits on them
query.py        what a harvest asks for
intervals.py    half-open intervals of time, cut and put together
shards.py       what is owed of an item harvest, cut for the nodes
receipts.py     what a node leaves of a shard
manifest.py     what a harvest answers with, and where each part is kept
output.py       a copy of an archive in a folder
changes.py      created, updated or unchanged
errors.py       everything that can be said to a user when it fails
"""
