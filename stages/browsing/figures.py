"""What the browser draws: gap and length as SVG in the report's look, the prompts' fates as bars."""

import itertools
import math
from typing import Any

from stages.browsing.store import SOME_GAPS
from stages.plan import ARMS
from stages.reporting.charts import Spec, look, spec, svg
from stages.reporting.figures import name_of
from stages.reporting.verdicts import number

Row = dict[str, Any]
SIZE = (186, 96)  # of a histogram, in pixels, without its axes
SQUARE = 176
BINS = 16  # at most, from the least gap to the greatest
MANY = 12  # model versions with a histogram each


def colour(arm: str, arms: list[str]) -> str:
    """Return an arm's colour: the report's; for data from elsewhere one of these by its place among `arms`."""
    return look(arm if arm in ARMS else list(ARMS)[arms.index(arm) % len(ARMS)]).colour


def step(low: float, high: float, most: int = BINS) -> float:
    """Return the finest of 1, 2, 2.5, 5 times a power of ten that cuts a range into at most `most` bins.

    >>> step(0, 5), step(0.1, 0.9), step(3, 3)
    (0.5, 0.1, 1.0)
    """
    if high <= low:
        return 1.0
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    return next(size * power for size in (1.0, 2.0, 2.5, 5.0, 10.0) if size * power >= least * (1 - 1e-9))


def gap_width(gaps: tuple[float, float], some: list[float]) -> tuple[float, bool]:
    """Return the width of a gap's bar, and whether it stands for a single gap, as where scores are whole numbers.

    `gaps` are the least and the greatest; `some` are the least ones without repetition, SOME_GAPS at most.

    >>> gap_width((1.0, 4.0), [1.0, 2.0, 4.0]), gap_width((0.0, 10.0), [0.1 * n for n in range(SOME_GAPS)])
    ((1.0, True), (1.0, False))
    """
    apart = min((b - a for a, b in itertools.pairwise(some)), default=1.0)
    even = all(abs(gap / apart - round(gap / apart)) < 1e-6 for gap in some)
    if len(some) < SOME_GAPS and even:
        return apart, True
    return step(0.0, gaps[1]), False


def gap_panels(bins: list[Row], learners: list[Row], arms: list[str], width: float, *, single: bool) -> list[Row]:
    """Return one histogram a model version that learns: title, svg and caption; one scale for all.

    Where there are more than MANY, the first of them by the plan, or by name. `single` as `gap_width` says.
    """
    before, behind = (0.5 * width, 0.5 * width) if single else (0.0, width)
    spans = [row | {"low": row["low"] - before, "high": row["low"] + behind} for row in bins]
    ends = (min(row["low"] for row in spans), max(row["high"] for row in spans))
    by_model: dict[str, list[Row]] = {}
    for row in spans:
        by_model.setdefault(row["model"], []).append(row)
    homes = [row for row in learners if row["place"] == 1 and row["model"] in by_model][:MANY]
    totals = {model: sum(row["n_pairs"] for row in found) for model, found in by_model.items()}
    highest = max(row["n_pairs"] / totals[row["model"]] for row in bins)
    return [
        {
            "title": title(row),
            "svg": svg(
                _histogram(by_model[row["model"]], totals[row["model"]], colour(row["arm"], arms), ends, highest),
                f"Gaps of {row['model']}",
            ),
            "caption": f"{totals[row['model']]:,} pairs",
        }
        for row in homes
    ]


def title(row: Row) -> str:
    """Return a model version's heading: `SR 2 · sr-2`; of data from elsewhere its name alone."""
    return row["model"] if row["round"] is None else f"{name_of(row['arm'])} {row['round']} · {row['model']}"


def _histogram(spans: list[Row], total: int, fill: str, ends: tuple[float, float], highest: float) -> Spec:
    """Return bars: share of the pairs by gap."""
    import altair as alt

    drawn = [{"low": row["low"], "high": row["high"], "none": 0, "share": row["n_pairs"] / total} for row in spans]
    across = alt.Scale(domain=list(ends), nice=False, zero=False)
    chart = (
        alt.Chart(alt.NamedData("rows"))
        .mark_bar(color=fill, stroke="white", strokeWidth=1)
        .encode(
            x=alt.X("low:Q", title="gap", scale=across, axis=alt.Axis(grid=False, tickCount=6)),
            x2="high:Q",
            y=alt.Y(
                "share:Q",
                title=None,
                scale=alt.Scale(domain=[0, highest]),
                axis=alt.Axis(format="~%", tickCount=3, minExtent=38, maxExtent=38),
            ),
            y2="none:Q",
        )
        .properties(width=SIZE[0], height=SIZE[1])
    )
    return spec(chart, rows=drawn)


def length_panels(lengths: list[Row], arms: list[str]) -> list[Row]:
    """Return one square an arm, chosen upwards and rejected rightwards: title, colour, svg and caption."""
    most = max((max(row["chosen"], row["rejected"]) for row in lengths), default=0)
    least = min((min(row["chosen"], row["rejected"]) for row in lengths), default=0)
    edge = 0.1 * (most - least or 1)
    ends = (max(0.0, least - edge), most + edge)
    found = [(arm, [row for row in lengths if row["arm"] == arm]) for arm in arms]
    return [
        {
            "title": name_of(arm),
            "svg": svg(_square(rows, colour(arm, arms), ends), f"Lengths of {arm}"),
            "caption": _balance(rows),
        }
        for arm, rows in found
        if rows
    ]


def _square(rows: list[Row], fill: str, ends: tuple[float, float]) -> Spec:
    """Return points, as large as they have pairs, and the line of equal lengths."""
    import altair as alt

    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    few = list(range(math.ceil(ends[0]), math.floor(ends[1]) + 1))
    ticks = {"values": few} if len(few) <= 6 else {"tickCount": 5}
    axis = alt.Axis(format="~s" if ends[1] > 9999 else "d", **ticks)
    points = (
        alt.Chart(alt.NamedData("rows"))
        .mark_circle(color=fill, opacity=0.55)
        .encode(
            x=alt.X("rejected:Q", title="rejected, characters", scale=scale, axis=axis),
            y=alt.Y("chosen:Q", title="chosen, characters", scale=scale, axis=axis),
            size=alt.Size("n_pairs:Q", legend=None, scale=alt.Scale(range=[12, 500], zero=True)),
        )
    )
    line = (
        alt.Chart(alt.NamedData("ends"))
        .mark_line(color="#999999", strokeWidth=1, strokeDash=[4, 4])
        .encode(x="at:Q", y="at:Q")
    )
    chart = alt.layer(line, points).properties(width=SQUARE, height=SQUARE)
    return spec(chart, rows=rows, ends=[{"at": end} for end in ends])


def _balance(rows: list[Row]) -> str:
    """Return which side is the longer one, and how often."""
    total, longer, shorter = (sum(row[count] for row in rows) for count in ("n_pairs", "n_longer", "n_shorter"))
    return f"chosen longer {longer:,}, shorter {shorter:,}, equal {total - longer - shorter:,}"


def mean(value: float | None, digits: int = 2) -> str:
    """Return a mean for readers, a dash where there is none."""
    return "\N{EN DASH}" if value is None else number(value, digits)
