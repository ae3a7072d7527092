"""Give a Prefect server the automations of automations.yaml, or bring them up to it: `python deployments/automate.py`.

The server is the one that PREFECT_API_URL or Prefect's profile names.
"""

from pathlib import Path

import yaml
from prefect.automations import Automation

FILE = Path(__file__).with_name("automations.yaml")


def automate() -> None:
    """Create each automation, or update the one of its name."""
    for definition in yaml.safe_load(FILE.read_text())["automations"]:
        wanted = Automation.model_validate(definition)
        try:
            there = Automation.read(name=wanted.name)
        except ValueError:  # what Prefect raises for a name that it does not know
            wanted.create()
        else:
            wanted.id = there.id
            wanted.update()


if __name__ == "__main__":
    automate()
