"""Fill the pgstac that PostgreSQL's own variables name; runs alone, in the environment of either generation."""

import sys
from pathlib import Path

from pypgstac.db import PgstacDB
from pypgstac.load import Loader
from pypgstac.migrate import Migrate


def main(folder: Path) -> None:
    """Load `collections.ndjson` and `items.ndjson`; as lines, since pypgstac takes the backslashes out of files."""
    with PgstacDB() as database:
        Migrate(database).run_migration()
        loader = Loader(database)
        loader.load_collections(iter((folder / "collections.ndjson").read_bytes().splitlines()))
        loader.load_items(iter((folder / "items.ndjson").read_bytes().splitlines()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
