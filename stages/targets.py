"""Tool targets: what to name to `dvc push` and `dvc pull`, so that tables travel without weights, or one arm alone.

DVC takes names of stages. Which ones an arm needs is a question to the plan: arms share model versions.
"""

from typing import Any

from stages.errors import TsrError
from stages.paths import ROLES, WORLD
from stages.reporting.lineage import ancestors

TABLES = ("prepare", "eft", "generate", "judge", "score", "pair", "measure", "evaluate")
WEIGHTS = ("base", "sft", "dpo")


def targets(plan: dict[str, Any], arm: str = "", *, models: bool = False) -> list[str]:
    """Return names of stages in dvc.yaml whose outputs are tables, and with `models` those that make weights too.

    With an arm, only what its pairs and its model versions rest on. Raises TsrError for an arm that is not planned.
    """
    if not arm:
        return [*TABLES, *(WEIGHTS if models else ())]
    if arm not in plan["lines"]:
        raise TsrError(f"arm {arm!r} is not planned; there are: {', '.join(plan['lines'])}")
    line = plan["lines"][arm]
    rests_on = {name for model in line for name in ancestors(plan, model)}
    names = [name for name in plan["learns"] if name in rests_on]
    rated = [key for key, row in plan["judges"].items() if row["model"] == WORLD]
    learned = ["prepare", *(f"{stage}@{key}" for stage in ("judge", "score") for key in rated), "eft"]
    found = [*learned, *(target for name in names for target in _of_round(name, plan["learns"][name]))]
    found += [f"evaluate@{model}" for model in line]
    if models:
        found += ["base", "sft", *(f"dpo@{name}" for name in names)]
    return list(dict.fromkeys(found))


def _of_round(name: str, row: dict[str, Any]) -> list[str]:
    answers = [f"{row[role]}.{row['split']}" for role in ROLES]
    judged = [f"{judge}.{answer}" for judge in (row["judge"], row["second"]) for answer in answers]
    found = [f"generate@{answer}" for answer in answers]
    found += [f"{stage}@{key}" for stage in ("judge", "score") for key in judged]
    return [*found, f"pair@{name}", f"measure@{name}"]
