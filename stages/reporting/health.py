"""Early warning on the page: the verdict on each round's pairs, signal by signal, and what its training then did."""

from typing import Any

from stages.health.verdicts import Health, number
from stages.reporting.lineage import steps
from stages.reporting.report_data import Row, RunData
from stages.reporting.verdicts import Estimate, minus, plus_minus

NOTHING = "\N{EN DASH}"
MARKS = {"fine": "", "watch": "!", "collapsing": "‼", "unknown": ""}


def health_rows(run: RunData) -> list[Row]:
    """Return a line of the table for each round of each arm: arm, round, model, verdict, cells, gain."""
    verdicts = {(row["arm"], row["round"]): row["verdict"] for row in run.health.rounds.iter_rows(named=True)}
    cells: dict[tuple[str, int], list[Row]] = {}
    for row in run.health.signals.iter_rows(named=True):
        cells.setdefault((row["arm"], row["round"]), []).append(_cell(row, run.health))
    return [
        {"arm": step.arm, "round": step.round, "model": step.model, "verdict": verdicts[step.arm, step.round]}
        | {"cells": cells[step.arm, step.round], "gain": _gain(run, step.arm, step.round)}
        for step in steps(run.plan)
    ]


def _cell(row: dict[str, Any], health: Health) -> Row:
    """Return a value, what became of it since the first round where that is what counts, and the verdict."""
    compared = health.thresholds[row["signal"]].compared != "as it is"
    became = number(row["measured"]) if compared and row["measured"] is not None else ""
    value = NOTHING if row["value"] is None else number(row["value"])
    return {
        "known": row["signal"] in health.known,
        "value": value,
        "became": became,
        "verdict": row["verdict"],
        "mark": MARKS[row["verdict"]],
    }


def _gain(run: RunData, arm: str, round_number: int) -> str:
    """Return the true score against that of the model version before, unpaired."""
    line = run.plan["lines"][arm]
    before, after = (run.models[line[place]] for place in (round_number - 1, round_number))
    if before.get("true_score") is None or after.get("true_score") is None:
        return NOTHING
    change = minus(*(Estimate(one["true_score"], one["true_score_se"]) for one in (after, before)))
    return plus_minus(change)


def health_signals(run: RunData) -> list[Row]:
    """Return each signal's name, whether any round has it, what it is, its limits in words, and why they are so."""
    words = {"as it is": "", "share of the first": " of round 1", "change from the first": " off round 1"}
    words["times the first"] = " times round 1"
    return [
        {"name": name, "known": name in run.health.known, "about": limit.about, "why": limit.why}
        | {
            level: f"{'below' if limit.bad == 'low' else 'above'} {getattr(limit, level):g}{words[limit.compared]}"
            for level in ("watch", "collapsing")
        }
        for name, limit in run.health.thresholds.items()
    ]
