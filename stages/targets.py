"""Tool targets: what to name to `dvc push` and `dvc pull`, so that tables travel without weights, or one arm alone.

DVC takes names of stages. Which ones an arm needs is a question to the plan: arms share model versions.
"""

from typing import Any

from stages.errors import TsrError
from stages.paths import ORACLES, REFERENCE, ROLES, WORLD
from stages.reporting.lineage import ancestors

TABLES = ("prepare", "eft", "generate", "judge", "score", "refer", "oracle", "pair", "measure", "evaluate")
WEIGHTS = ("base", "sft", "dpo", "tune")
LOOPS = {"refer": "references", "oracle": "oracles", "tune": "imitates"}  # stages that a plan may have no row for


def targets(plan: dict[str, Any], arm: str = "", *, models: bool = False) -> list[str]:
    """Return names of stages in dvc.yaml whose outputs are tables, and with `models` those that make weights too.

    With an arm, only what its pairs and its model versions rest on. Raises TsrError for an arm that is not planned.
    """
    if not arm:
        wanted = [*TABLES, *(WEIGHTS if models else ())]
        return [name for name in wanted if name not in LOOPS or plan[LOOPS[name]]]
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
        found += ["base", "sft", *(f"{_trainer(plan, name)}@{name}" for name in names)]
    return list(dict.fromkeys(found))


def _trainer(plan: dict[str, Any], name: str) -> str:
    return "tune" if name in plan["imitates"] else "dpo"


def _of_round(name: str, row: dict[str, Any]) -> list[str]:
    split, models = row["split"], [row[role] for role in ROLES]
    found = [f"refer@{split}" if model == REFERENCE else f"generate@{model}.{split}" for model in models]
    for judge in (row["judge"], row["second"]):
        stages = ("oracle",) if judge in ORACLES else ("judge", "score")
        found += [f"{stage}@{judge}.{model}.{split}" for stage in stages for model in models]
    return [*found, f"pair@{name}", f"measure@{name}"]
