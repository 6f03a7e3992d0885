"""Questions about the plan: which rounds an arm has, what a model version rests on, which side answered."""

from dataclasses import dataclass
from typing import Any

from stages.paths import REFERENCE, ROLES

Plan = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One round of one arm (`round` counts from 1): the model version it ends in, and its row of the plan."""

    arm: str
    round: int
    model: str
    row: dict[str, Any]


def steps(plan: Plan) -> list[Step]:
    """Return every round of every arm, in the plan's order."""
    return [
        Step(arm, number, model, plan["learns"][model])
        for arm, line in plan["lines"].items()
        for number, model in enumerate(line[1:], start=1)
    ]


def future_of(row: dict[str, Any]) -> str | None:
    """Return the temporary future model of a round, if it has one; reference answers in its place are no model's."""
    return None if row["future"] in (row["own"], REFERENCE) else str(row["future"])


def homes(plan: Plan) -> dict[str, tuple[str, int]]:
    """Return (arm, round) of each model version that is trained: the first arm that ends a round in it.

    A future model belongs to the round it serves.
    """
    found: dict[str, tuple[str, int]] = {}
    for step in steps(plan):
        found.setdefault(step.model, (step.arm, step.round))
    for step in steps(plan):
        if ahead := future_of(step.row):
            found.setdefault(ahead, (step.arm, step.round))
    return found


def ancestors(plan: Plan, name: str) -> list[str]:
    """Return the trainings that `name` rests on, itself included, in the plan's order."""
    found: set[str] = set()
    open_ends = [name]
    while open_ends:
        model = open_ends.pop()
        if model in plan["learns"] and model not in found:
            found.add(model)
            open_ends += [plan["learns"][model][role] for role in ("policy", "judge", *ROLES)]
    return [model for model in plan["learns"] if model in found]


def side_models(row: dict[str, Any]) -> dict[str, str]:
    """Return side -> model version that answers for it; a side whose model is the current one is left out."""
    return {role: str(row[role]) for role in ROLES if role == "own" or row[role] != row["own"]}


def side_of(row: dict[str, Any], model: str) -> str:
    """Return which side of a round `model` answered for."""
    return next((side for side, name in side_models(row).items() if name == model), "?")


def work(plan: Plan) -> list[dict[str, Any]]:
    """Return what each arm must do for its first rounds, were it alone: rows (arm, round, kind, key), each once."""
    return [
        {"arm": step.arm, "round": step.round, "kind": kind, "key": key}
        for step in steps(plan)
        for kind, key in sorted(_work_of(plan, ancestors(plan, step.model)))
    ]


def _work_of(plan: Plan, learns: list[str]) -> set[tuple[str, str]]:
    """Return (kind, key) of the answers, judgments and trainings behind some trainings."""
    needed = {("trained", name) for name in learns}
    for row in (plan["learns"][name] for name in learns):
        for model in side_models(row).values():
            needed.add(("generated", f"{model}.{row['split']}"))
            needed |= {("judged", f"{judge}.{model}.{row['split']}") for judge in (row["judge"], row["second"])}
    return needed
