"""Plots with every seed as a dot: a strip a claim, and lines over rounds or cost. Means stand with their intervals."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from stages.claims.findings import Finding
from stages.claims.statistics import Interval, over_seeds
from stages.plan import ARMS, BASELINES
from stages.reporting.charts import CONFIG, Spec, look, svg

Row = dict[str, Any]
ORDER = (*ARMS, *BASELINES)
SIZE = (250, 170)
_WIDTH, _EDGE = 210, 10  # of a strip, in pixels
_APART, _BESIDE = 0.28, 0.12  # rounds between two arms, and between an arm's seeds and their mean
_DOT = re.compile(
    r'<path transform="translate\(([\d.]+),([\d.]+)\)" d="M([\d.]+),0A\3,\3,0,1,1,-\3,0A\3,\3,0,1,1,\3,0" '
    r'fill="(#\w+)" stroke-width="2" opacity="([\d.]+)"/>'
)


def in_order(arms: Iterable[str]) -> list[str]:
    """Return arms, each once, the paper's first."""
    found = set(arms)
    return [*(arm for arm in ORDER if arm in found), *sorted(found - set(ORDER))]


def span(found: Sequence[Finding]) -> tuple[float, float]:
    """Return the scale that strips of one unit share: all seeds of all claims, and their bars."""
    values = [value for one in found for value in (*one.numbers.seeds.values(), one.claim.bar)]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 1, high + 1)


def strip(
    seeds: Mapping[int, float],
    around: Interval | None,
    line: float,
    scale: tuple[float, float],
    told: Callable[[float], str],
) -> str:
    """Return seeds as dots along a dashed line, the mean with its interval below; `told` words a number.

    An interval that leaves the scale is cut off at its end.
    """
    low, high = scale

    def at(value: float) -> float:
        inside = min(max(value, low), high)
        return _EDGE + (_WIDTH - 2 * _EDGE) * (inside - low) / (high - low)

    bar, parts = at(line), []
    parts.append(f'<path d="M{bar:.1f},1V33" class="bar"/>')
    for place, (seed, value) in enumerate(sorted(seeds.items())):
        parts.append(f'<circle cx="{at(value):.1f}" cy="{5 + 5 * (place % 3)}" r="2.8">')
        parts.append(f"<title>seed {seed}: {told(value)}</title></circle>")
    if around:
        mean = at(around.mean)
        if around.low is not None and around.high is not None:
            parts.append(f'<path d="M{at(around.low):.1f},26H{at(around.high):.1f}" class="range"/>')
        parts.append(f'<path d="M{mean:.1f},21l5,5l-5,5l-5,-5z"><title>mean: {told(around.mean)}</title></path>')
    ends = [(_EDGE, "start", low), (_WIDTH - _EDGE, "end", high)]
    parts += [f'<text x="{x}" y="44" text-anchor="{anchor}">{told(value)}</text>' for x, anchor, value in ends]
    if min(bar - _EDGE, _WIDTH - _EDGE - bar) > 45:
        parts.append(f'<text x="{bar:.1f}" y="44" text-anchor="middle">{told(line) if line else 0}</text>')
    body = "".join(parts)
    return f'<svg class="strip" width="{_WIDTH}" height="47" viewBox="0 0 {_WIDTH} 47" role="img">{body}</svg>'


def over_rounds(
    points: pl.DataFrame, quantity: str, judge: str, arms: Sequence[str], title: str, *, percent: bool = False
) -> dict[str, Spec]:
    """Return one panel an arm that has values, on one scale: its seeds as thin lines with dots, their mean in bold."""
    rows = _of(points, quantity, judge, arms)
    here = [arm for arm in arms if rows.filter(arm=arm).height]
    return {arm: _panel(rows, [arm], title, percent=percent) for arm in here}


def side_by_side(
    points: pl.DataFrame, quantity: str, judge: str, arms: Sequence[str], title: str, *, percent: bool = False
) -> Spec | None:
    """Return one panel of several arms; None without values."""
    rows = _of(points, quantity, judge, arms)
    return _panel(rows, arms, title, percent=percent) if rows.height else None


def over_cost(points: pl.DataFrame, cost: str, judge: str, arms: Sequence[str], title: str) -> Spec | None:
    """Return the true score over what it took, a thin line with dots for every seed; None without values."""
    spent = _of(points, cost, judge, arms).rename({"value": "x"})
    rows = spent.join(_of(points, "true_score", judge, arms), on=["arm", "seed", "round"]).sort("arm", "seed", "round")
    if not rows.height:
        return None
    across = {"title": title, "axis": {"grid": False, "tickCount": 5, "format": "~s"}}
    return _dressed(_seeds(rows, arms, across, _up("true score", rows["value"], percent=False), size=30))


def by_judge(rows: list[Row], title: str) -> Spec | None:
    """Return `difference` over `judge`, a dot a seed of a point; those of the middle in colour. None without rows."""
    if not rows:
        return None
    encoding = {
        "x": {"field": "judge", "type": "quantitative", "title": "agreement of M0's judgments with the truth"}
        | {"axis": {"format": "~%", "grid": False, "tickCount": 5}, "scale": {"zero": False}},
        "y": {"field": "difference", "type": "quantitative", "title": title},
        "color": {"field": "where", "type": "nominal", "legend": {"title": None, "orient": "top"}}
        | {"scale": {"domain": ["middle", "elsewhere"], "range": [look("sr").colour, "#9aa0a6"]}},
    }
    dots = {"type": "point", "filled": True, "size": 34, "opacity": 0.75}
    zero = {"mark": {"type": "rule", "strokeDash": [3, 2], "color": "#9c1c1c"}, "encoding": {"y": {"datum": 0}}}
    return _dressed([zero, {"data": {"values": rows}, "mark": dots, "encoding": encoding}]) | {
        "width": 420,
        "height": 250,
    }


def _of(points: pl.DataFrame, quantity: str, judge: str, arms: Sequence[str]) -> pl.DataFrame:
    here = points.filter(pl.col("arm").is_in(list(arms)), quantity=quantity, judge=judge)
    return here.select("arm", "seed", "round", "value").sort("arm", "seed", "round")


def _panel(rows: pl.DataFrame, arms: Sequence[str], title: str, *, percent: bool) -> Spec:
    """Return seeds and means over rounds; the scales are those of all `rows`, so that panels compare."""
    apart = {arm: _APART * (place - (len(arms) - 1) / 2) for place, arm in enumerate(arms)}
    shift = pl.col("arm").replace_strict(apart, return_dtype=pl.Float64)
    here = rows.filter(pl.col("arm").is_in(list(arms))).with_columns(x=pl.col("round") + shift)
    means = over_seeds(here, ["arm", "round", "x"], "value").rename({"mean": "value"})
    means = means.with_columns(pl.col("x") + _BESIDE)
    rounds = sorted(set(rows["round"]))
    scale = {"domain": [rounds[0] - 0.3, rounds[-1] + 0.3], "nice": False}
    across = {"title": "round", "scale": scale, "axis": {"values": rounds, "format": "d", "grid": False}}
    up = _up(title, rows["value"], percent=percent)
    return _dressed([*_seeds(here, arms, across, up, size=24), *_means(means, arms, across, up)])


def _up(title: str, values: pl.Series, *, percent: bool) -> Row:
    """Return the vertical channel: all seeds lie on it, an interval may leave it."""
    low, high = min(values), max(values)
    edge = 0.06 * (high - low) or 0.5
    # One width for all labels: panels line up, and no font's measure moves them.
    axis = {"tickCount": 5, "minExtent": 38, "maxExtent": 38} | ({"format": "~%"} if percent else {})
    return {"title": title, "axis": axis, "scale": {"domain": [low - edge, high + edge], "nice": False}}


def _seeds(rows: pl.DataFrame, arms: Sequence[str], across: Row, up: Row, size: int) -> list[Spec]:
    thin = {"type": "line", "strokeWidth": 0.8, "opacity": 0.35}
    dots = {"type": "point", "filled": True, "size": size, "opacity": 0.6}
    return [
        _layer(rows, thin, arms, across, up),
        _layer(rows, dots, arms, across, up),
    ]


def _means(means: pl.DataFrame, arms: Sequence[str], across: Row, up: Row) -> list[Spec]:
    sizes = {"type": "point", "filled": True, "size": 60, "opacity": 1}
    ends = {"y": {"field": "low", "type": "quantitative"} | up, "y2": {"field": "high"}}
    inside = means.drop_nulls("low").with_columns(pl.col("low", "high").clip(*up["scale"]["domain"]))
    bars = _layer(inside, {"type": "rule", "strokeWidth": 2}, arms, across, up)
    bars["encoding"] |= ends
    points = _layer(means, sizes, arms, across, up)
    points["encoding"]["shape"] = _by_arm(arms, [look(arm).shape for arm in arms])
    return [_layer(means, {"type": "line", "strokeWidth": 2.2}, arms, across, up), bars, points]


def _layer(rows: pl.DataFrame, mark: Row, arms: Sequence[str], across: Row, up: Row) -> Spec:
    encoding = {
        "x": {"field": "x", "type": "quantitative"} | across,
        "y": {"field": "value", "type": "quantitative"} | up,
        "color": _by_arm(arms, [look(arm).colour for arm in arms]),
    }
    if "seed" in rows.columns:
        encoding["detail"] = {"field": "seed", "type": "nominal"}
    return {"data": {"values": rows.to_dicts()}, "mark": mark, "encoding": encoding}


def _by_arm(arms: Sequence[str], looks: list[str]) -> Row:
    return {"field": "arm", "type": "nominal", "legend": None, "scale": {"domain": list(arms), "range": looks}}


def _dressed(layers: list[Spec]) -> Spec:
    size = {"width": SIZE[0], "height": SIZE[1]}
    return {"layer": layers, "config": CONFIG, "padding": 4, "background": "transparent"} | size


def markup(chart: Spec, label: str) -> str:
    """Return a panel as SVG for a page; dots as circles, which take half as much."""
    return _DOT.sub(r'<circle cx="\1" cy="\2" r="\3" fill="\4" opacity="\5"/>', svg(chart, label))
