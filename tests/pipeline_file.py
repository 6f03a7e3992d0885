"""dvc.yaml as data, with the plan's rows put in."""

import re
from pathlib import Path
from typing import Any

import yaml

from stages.params import Arms
from stages.plan import build

ROOT = Path(__file__).parents[1]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
# The arms are fixed here, so that the tests hold whatever arms a user has chosen.
ARMS = {"sr": 4, "tsr": 2, "past_only": 2, "future_only": 2}
PLAN = build(Arms(**ARMS), rubrics={"micro": "micro"}).as_dict()
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"arms": ARMS}
STAGES = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}


def rows(name: str) -> dict[str, dict[str, str]]:
    """Plan rows that a stage loops over; one empty row where it does not."""
    loop = DVC["stages"][name].get("foreach")
    found: dict[str, dict[str, str]] = PLAN[loop.strip("${}")] if loop else {"": {}}
    return found


def resolved(text: str, key: str, row: dict[str, Any]) -> str:
    """A template of dvc.yaml with a plan row put in."""
    text = text.replace("${key}", key).replace("${profile}", PARAMS["profile"]).replace("${teacher}", "base")
    return re.sub(r"\$\{item\.(\w+)\}", lambda found: str(row.get(found.group(1), found.group())), text)


def outputs(name: str) -> list[str]:
    """Templates of all that a stage writes: outs, metrics, plots."""
    stage: dict[str, list[Any]] = STAGES[name]
    listed = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in listed]


def command(name: str, key: str = "") -> list[str]:
    """The words of a stage's command after `python -m stages`; unresolved without a key."""
    text = resolved(STAGES[name]["cmd"], key, rows(name)[key] if key else {})
    words: list[str] = text.split()
    return words[words.index("stages") + 1 :]
