"""The map for the pages of the claims: its points in rows, by axis, and how they hang on the judge."""

from itertools import groupby
from pathlib import Path
from typing import Any

from stages.claims import drawing, map_points, map_verdicts, summary, wording
from stages.claims.map_verdicts import LOSES, MIDDLE, MIDDLE_SAME, NOT_RUN, OPEN, TIES, WINS, Place
from stages.claims.statistics import ALPHA, Interval
from stages.claims.wording import NOTHING
from stages.reporting.figures import Figure
from stages.reporting.verdicts import NBSP, number, signed

Row = dict[str, Any]
VERDICTS = (WINS, TIES, LOSES, OPEN, NOT_RUN)
TITLE = "TSR's true score less SR's at equal tokens"


def read(middle: Path) -> list[Place]:
    """Return the map's places beside the tables of `middle`; none where none of it ran."""
    home = middle.parent / map_points.NAME
    ran = summary.read_table("claims_runs", home).height
    return map_verdicts.places(map_points.read(), home, middle) if ran else []


def context(found: list[Place]) -> Row | None:
    """Return what the templates are given of the map; None where none of it ran."""
    if not found:
        return None
    wanted = map_points.read()
    counted = [place for place in found if place.point != MIDDLE_SAME]
    values = [value for place in found for value in place.numbers.seeds.values()]
    scale = (min(values), max(values))
    rows = [_row(place, scale) for place in found]
    return {
        "tie": number(wanted.tie),
        "arms": wanted.arms,
        "rows": rows,
        "axes": [(axis, list(group)) for axis, group in groupby(rows, key=lambda row: row["axis"])],
        "counts": [(word, sum(place.verdict == word for place in counted)) for word in VERDICTS],
        "points": len(counted),
        "after_holm": sum(place.p is not None and place.p < ALPHA for place in counted),
    }


def figure(found: list[Place]) -> list[Figure]:
    """Return the map over the judge's agreement, a dot a seed of a point; nothing where none of it ran."""
    dots = [
        {"judge": place.judge[seed], "difference": value, "where": "middle" if place.point == MIDDLE else "elsewhere"}
        for place in found
        if place.point != MIDDLE_SAME
        for seed, value in place.numbers.seeds.items()
        if seed in place.judge
    ]
    chart = drawing.by_judge(dots, TITLE)
    return [Figure("", "", drawing.markup(chart, f"{TITLE}, over M0's judge, every seed"))] if chart else []


def _row(place: Place, scale: tuple[float, float]) -> Row:
    seeds, around, scores, judge = place.numbers.seeds, place.around, place.scores, place.judge
    spent = place.numbers.spent
    return {
        "axis": place.point.axis,
        "label": place.point.label,
        "changed": ", ".join(f"{key}={value}" for key, value in place.point.set.items()),
        "n": len(seeds),
        "judge": f"{number(100 * sum(judge.values()) / len(judge), 0)}{NBSP}%" if judge else NOTHING,
        "tsr": number(scores[0]) if scores else NOTHING,
        "sr": number(scores[1]) if scores else NOTHING,
        "difference": signed(around.mean) if around else NOTHING,
        "around": _between(around),
        "shift": f"{signed(place.shift.mean)} ({_between(place.shift)})" if place.shift else NOTHING,
        "p_t": wording.chance(place.test.p_t if place.test else None),
        "p": wording.chance(place.p),
        "spent": f"{number(100 * sum(spent.values()) / len(spent), 0)}{NBSP}%" if spent else NOTHING,
        "verdict": place.verdict,
        "strip": drawing.strip(seeds, around, 0.0, scale, signed) if seeds else "",
    }


def _between(around: Interval | None) -> str:
    if around is None or around.low is None or around.high is None:
        return NOTHING
    return f"{signed(around.low)} to {signed(around.high)}"
