"""Ways of reading a judge, side by side: one row a way, M0 first and the range over all model versions beside it."""

from stages import plan
from stages.reporting.report_data import Row, RunData
from stages.reporting.verdicts import NBSP, number

# reading -> (name for readers, what it is)
_READINGS = {
    "votes": ("reply, parsed", "the judge reasons, then names a score"),
    "after_reasoning": ("reply, distribution", "the same reply; mean of the distribution where its score stands"),
    "one_token": ("one token", "no reasoning; mean of the next token's distribution over the scores"),
}
_SHARES = ("scored", "agreement", "right_order", "tied", "wrong_order")
DASH = "\N{EN DASH}"


def judging_rows(run: RunData) -> list[Row]:
    """Return a line of the table for each reading that the run has."""
    return [
        {"name": name, "about": about, "seconds": _seconds(run, reading)}
        | {key: _cell(run, reading, key, 100) for key in _SHARES}
        | {"error": _cell(run, reading, "error", 1), "tokens": _cell(run, reading, "tokens", 1)}
        for reading, (name, about) in _READINGS.items()
        if any(row["reading"] == reading for row in run.judging)
    ]


def _cell(run: RunData, reading: str, key: str, scale: int) -> Row:
    """Return M0's number and the range over all model versions, worded."""
    rows = {row["judge"]: row[key] for row in run.judging if row["reading"] == reading and row[key] is not None}
    if plan.FIRST not in rows:
        return {"first": DASH, "range": ""}
    unit, digits = (f"{NBSP}%", 1) if scale == 100 else ("", 2)
    low, high = (number(scale * value, digits) for value in (min(rows.values()), max(rows.values())))
    first = f"{number(scale * rows[plan.FIRST], digits)}{unit}"
    return {"first": first, "range": low if low == high else f"{low} to {high}"}


def _seconds(run: RunData, reading: str) -> str:
    way = "one_token" if reading == "one_token" else "votes"
    return number(run.judging_seconds[way]) if way in run.judging_seconds else DASH
