"""What the browser draws: gap and length as SVG in the report's look, the prompts' fates as bars."""

import itertools
import math
from typing import Any

from stages.browsing.store import SOME_GAPS, Choices
from stages.plan import ARMS
from stages.reporting.charts import Spec, look, spec, svg
from stages.reporting.figures import name_of
from stages.reporting.verdicts import number

Row = dict[str, Any]
SIZE = (186, 96)  # of a histogram, in pixels, without its axes
SQUARE = 176
BINS = 16  # at most, from the least gap to the greatest
NOTHING = "\N{EN DASH}"
MANY = 12  # model versions with a histogram each


def colours(choices: Choices) -> dict[str, str]:
    """Return arm -> colour, in the arms' order: the report's; data from elsewhere takes them in turn."""
    planned = any(row["round"] is not None for row in choices.learners)
    looks = [look(arm if planned else list(ARMS)[i % len(ARMS)]) for i, arm in enumerate(choices.arms)]
    return {arm: one.colour for arm, one in zip(choices.arms, looks, strict=True)}


def step(low: float, high: float, most: int = BINS) -> float:
    """Return the finest of 1, 2, 2.5, 5 times a power of ten that cuts a range into at most `most` bins.

    >>> step(0, 5), step(0.1, 0.9), step(3, 3)
    (0.5, 0.05, 1.0)
    """
    if high <= low:
        return 1.0
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    return next(size * power for size in (1.0, 2.0, 2.5, 5.0, 10.0) if size * power >= least * (1 - 1e-9))


def gap_width(choices: Choices) -> tuple[float, float]:
    """Return the width of the gaps' bars, and where a first one starts.

    Where there are few gaps, as between whole scores, each stands in the middle of a bar of its own.
    """
    some = choices.some_gaps
    apart = min((b - a for a, b in itertools.pairwise(some)), default=1.0)
    even = all(abs(gap / apart - round(gap / apart)) < 1e-3 for gap in some)
    if len(some) < SOME_GAPS and even and some[-1] / apart <= 2 * SOME_GAPS:
        return apart, -apart / 2
    return step(0.0, some[-1] if choices.gaps is None else choices.gaps[1]), 0.0


def gap_panels(bins: list[Row], choices: Choices, width: float) -> list[Row]:
    """Return one histogram a model version that learns: title, svg and caption; one scale for all.

    Where there are more than MANY, the first of them by the plan, or by name.
    """
    by_model: dict[str, list[Row]] = {}
    for row in bins:
        by_model.setdefault(row["model"], []).append(row)
    totals = {model: sum(row["n_pairs"] for row in found) for model, found in by_model.items()}
    ends = (min(row["low"] for row in bins), max(row["low"] for row in bins) + width)
    highest = max(row["n_pairs"] / totals[row["model"]] for row in bins)
    fills = colours(choices)
    return [
        {
            "title": title(home),
            "svg": svg(_histogram(by_model[home["model"]], width, fills[home["arm"]], ends, highest), "Gaps"),
            "caption": f"{totals[home['model']]:,} pairs",
        }
        for home in [home for home in choices.homes if home["model"] in by_model][:MANY]
    ]


def title(row: Row) -> str:
    """Return a model version's heading: `SR 2 · sr-2`; of data from elsewhere its name alone."""
    return row["model"] if row["round"] is None else f"{name_of(row['arm'])} {row['round']} · {row['model']}"


def _histogram(bins: list[Row], width: float, fill: str, ends: tuple[float, float], highest: float) -> Spec:
    """Return bars: share of the pairs by gap."""
    import altair as alt

    total = sum(row["n_pairs"] for row in bins)
    drawn = [
        {"low": row["low"], "high": row["low"] + width, "none": 0, "share": row["n_pairs"] / total} for row in bins
    ]
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


def length_panels(lengths: list[Row], choices: Choices) -> list[Row]:
    """Return one square an arm, chosen upwards and rejected rightwards: title, colour, svg and caption."""
    most = max((max(row["chosen"], row["rejected"]) for row in lengths), default=0)
    least = min((min(row["chosen"], row["rejected"]) for row in lengths), default=0)
    edge = 0.1 * (most - least or 1)
    ends = (max(0.0, least - edge), most + edge)
    found = [(arm, fill, [row for row in lengths if row["arm"] == arm]) for arm, fill in colours(choices).items()]
    return [
        {
            "title": name_of(arm),
            "svg": svg(_square(rows, fill, ends), "Lengths"),
            "caption": _balance(rows),
        }
        for arm, fill, rows in found
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
    return NOTHING if value is None else number(value, digits)
