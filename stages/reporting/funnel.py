"""What became of the sources' rows on their way to prompts, and of judgments on their way to examples.

Only a source that chooses among rows counts them (docs/data-sources.md); the micro world makes what it needs.
"""

import json
from typing import Any

from stages import paths
from stages.errors import TsrError
from stages.reporting.verdicts import NBSP

Row = dict[str, Any]
# step -> (what its rows are, what the step does)
STEPS = {
    "messages": ("messages", "messages of OpenAssistant's trees, cleaned"),
    "questions": ("questions", "questions read"),
    "length": ("questions", "questions within prepare.max_prompt_tokens"),
    "unique": ("questions", "equal questions made one, over all sources"),
    "responses": ("responses", "responses to them, cleaned"),
    "ratings": ("responses", "responses with a rating"),
    "splits": ("questions", "questions that found a split"),
    "judgments": ("judgments", "judgments of rated responses, to learn from"),
}
KEPT = "kept"  # the outcome of a step that has no other for what stays
REASONS = {
    "twice": "stands twice",
    "no_id": "without an id",
    "other_language": "in another language",
    "deleted": "deleted",
    "not_reviewed": "not passed by reviewers",
    "no_text": "without text",
    "unknown_role": "of an unknown role",
    "no_rank": "replies without a rank",
    "not_reached": "after a reply that is not the best-ranked, or beyond the last turn",
    "no_ranked_reply": "without a ranked reply",
    "same_tree": "of a tree that has another",
    "no_responses": "without responses",
    "two_systems": "with two system texts",
    "no_question": "end in an answer",
    "cut": "without their beginning",
    "too_long": "too long, whatever is cut",
    "duplicate": "equal to another but for white space",
    "same_text": "equal to another response to the same question",
    "no_rating": "without a rating",
    "unreadable": "rating is no number, or off the scale",
    "below_best": "below the best-scored",
    "spare": "not needed",
    "unscored": "without a score by the judge",
    "same_judge_prompt": "asked of the judge already",
    "nothing_to_order": "no other response with another rating",
    "other_order": "the judge orders the responses otherwise",
    "score_is_full": "enough of this score",
}


def funnel_rows() -> list[Row]:
    """Return a row for each step and source, in order: rows in, rows out, and where they went, worded.

    Each has step, source, unit, about, rows, kept, and `went`: (to or for what, count, whether it stays). None where
    the run's source chooses nothing.
    """
    if not paths.funnel("prompts").exists():
        return []
    return [_row(step, source, told) for (step, source), told in _steps().items()]


def _steps() -> dict[tuple[str, str], list[Row]]:
    """Return (step, source) -> its counts. Raises TsrError for a file that holds something else."""
    found: dict[tuple[str, str], list[Row]] = {}
    for folder in ("prompts", "eft"):
        path = paths.funnel(folder)
        try:
            for row in json.loads(path.read_text())["steps"] if path.exists() else []:
                found.setdefault((row["step"], row["source"]), []).append(row)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise TsrError(f"{path}: not a funnel: {error}; run `dvc repro`") from error
    return found


def _row(step: str, source: str, told: list[Row]) -> Row:
    unit, about = STEPS.get(step, ("rows", step))
    went = [(REASONS.get(row["outcome"], row["outcome"]), row["count"], row["kept"]) for row in told]
    return {
        "step": step,
        "source": source,
        "unit": unit,
        "about": about,
        "rows": sum(row["count"] for row in told),
        "kept": sum(row["count"] for row in told if row["kept"]),
        "went": sorted(went, key=lambda one: (not one[2], -one[1], one[0])) if step != "splits" else went,
    }


def funnel_lines(rows: list[Row]) -> list[Row]:
    """Return the rows of the page's table: what a step does stands on its first line alone."""
    lines = []
    for number, row in enumerate(rows):
        first = number == 0 or rows[number - 1]["step"] != row["step"]
        stays, lost = ([one for one in row["went"] if one[2] is kept] for kept in (True, False))
        lines.append(
            {
                "about": row["about"] if first else "",
                "source": row["source"],
                "rows": f"{row['rows']:,}",
                "kept": f"{row['kept']:,}",
                "share": row["kept"] / row["rows"] if row["rows"] else 0.0,
                "stays": _worded(stays) if [name for name, _, _ in stays] != [KEPT] else "",
                "lost": _worded(lost),
            }
        )
    return lines


def _worded(went: list[tuple[str, int, bool]]) -> str:
    return "; ".join(f"{count:,}{NBSP}{name}" for name, count, _ in went)
