"""Altair charts as inline SVG. An arm has one colour, shape and dash, the same everywhere on the page.

Altair and vl-convert are imported inside the functions: they cost half a second.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Any

from stages.plan import ARMS, BASELINES

Row = dict[str, Any]
Spec = dict[str, Any]
INK, MUTED, GRID = "#222222", "#5f6368", "#e6e6e6"
SIZE = (290, 210)  # of a plot, in pixels, without its axes
FONT = "Arial, Helvetica, sans-serif"
CONFIG = {
    "font": FONT,
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "titlePadding": 8,
        "gridColor": GRID,
        "domainColor": "#999999",
        "tickColor": "#999999",
    },
    "header": {"labelFontSize": 12, "labelColor": INK},
}
REASON_GREYS = ("#8a8f94", "#c3c7cb", "#6b7075", "#dddfe2", "#a6abb0", "#54585c")
# Told apart by colour-blind eyes, dark enough on white, and by shape and dash where there is no colour.
_LOOKS = (
    ("#0072b2", "circle", ()),
    ("#d55e00", "square", (7, 3)),
    ("#007a5a", "triangle-up", (2, 2)),
    ("#aa4499", "diamond", (7, 2, 2, 2)),
    ("#7a5c00", "cross", (4, 4)),
    ("#333333", "triangle-down", (1, 3)),
    ("#8c564b", "triangle-left", (10, 3)),
    ("#5f6368", "triangle-right", (1, 1)),
    ("#b8860b", "stroke", (5, 5)),
    ("#005f73", "wedge", (3, 6)),
)
_PAPERS = (*ARMS, *BASELINES)
_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_NAMESPACES = re.compile(r' xmlns(?::xlink)?="[^"]*"| version="1\.1"')
_NOISE = re.compile(
    r' (?:aria-[a-z]+|role|class|pointer-events)="[^"]*"'
    r'|<path d="" display="none"/>|<path d="M0(?:\.5)?,0(?:\.5)?h0v0h0Z"/>'
)


@dataclass(frozen=True)
class Look:
    """How an arm looks."""

    colour: str
    shape: str
    dash: tuple[int, ...]


def look(arm: str) -> Look:
    """Return an arm's look; it hangs on the arm alone, not on which others run."""
    return Look(*_LOOKS[_place(arm)])


def _place(arm: str) -> int:
    """Return the place of an arm's look; arms of a user's share what the paper's leave."""
    spare = len(_LOOKS) - len(_PAPERS)
    return _PAPERS.index(arm) if arm in _PAPERS else len(_PAPERS) + zlib.crc32(arm.encode()) % spare


def svg(chart: Spec, label: str) -> str:
    """Return a chart as SVG for a page: named for screen readers, without namespaces, numbers cut to two digits."""
    import vl_convert
    from markupsafe import escape

    text: str = vl_convert.vegalite_to_svg(chart)
    return slim(text).replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def spec(chart: Any, **tables: list[Row]) -> Spec:
    """Return the specification of an Altair chart and of the tables that its parts name.

    Tables and config go in last: within a chart, Altair copies them at every call.
    """
    dressed: Spec = chart.to_dict(validate=False)
    return dressed | {"datasets": tables, "config": CONFIG, "padding": 4, "background": "transparent"}


def slim(text: str) -> str:
    """Return an SVG without what a page does not need; digits that differ between machines go too."""
    text = _NOISE.sub("", _NAMESPACES.sub("", text))
    return two_digits(_NOISE.sub("", text))


def two_digits(text: str) -> str:
    """Return an SVG with the numbers inside its tags cut to two digits."""
    return _TAG.sub(lambda tag: _NUMBER.sub(lambda number: f"{float(number.group()):.2f}", tag.group()), text)


def by_round(
    rows: list[Row],
    y: str,
    title: str,
    *,
    se: str | None = None,
    x: str = "round",
    x_title: str = "round",
    domain: tuple[float, float] | None = None,
    percent: bool = False,
    size: tuple[int, int] = SIZE,
) -> Spec | None:
    """Return lines of `y` over rounds, one an arm, with bars of one standard error; None without any value."""
    import altair as alt

    known = [_placed(row, x, y, se) for row in rows if row[y] is not None]
    if percent:  # no share is below none
        known = [row | {"low": max(row["low"], 0.0)} for row in known]
    if not known:
        return None
    rounds = sorted({row["round"] for row in known})
    scale = alt.Scale(domain=[rounds[0] - 0.3, rounds[-1] + 0.3], nice=False, zero=False)
    across = alt.X("x:Q", title=x_title, scale=scale, axis=alt.Axis(values=rounds, format="d", grid=False))
    return _lines(known, across, _height(title, domain, percent=percent), bars=se is not None, size=size)


def by_amount(rows: list[Row], x: str, y: str, x_title: str, title: str) -> Spec | None:
    """Return lines of `y` over an amount `x` that starts at zero, one an arm; None without any value."""
    import altair as alt

    known = [{"arm": row["arm"], "x": row[x], "y": row[y]} for row in rows if row[y] is not None]
    if not known:
        return None
    across = alt.X("x:Q", title=x_title, axis=alt.Axis(grid=False, tickCount=5, format="~s"))
    return _lines(known, across, _height(title, None, percent=False), bars=False, size=SIZE)


def _placed(row: Row, x: str, y: str, se: str | None) -> Row:
    """Return a drawn row; arms stand a little apart, so that equal values do not hide each other."""
    error = (row[se] or 0.0) if se else 0.0
    apart = 0.05 * (_place(row["arm"]) - (len(ARMS) - 1) / 2)
    return {
        "arm": row["arm"],
        "round": row[x],
        "x": row[x] + apart,
        "y": row[y],
        "low": row[y] - error,
        "high": row[y] + error,
    }


def _height(title: str, domain: tuple[float, float] | None, *, percent: bool) -> Any:
    """Return the vertical channel."""
    import altair as alt

    # One width for all labels: panels line up, and no font's measure moves them.
    axis = alt.Axis(tickCount=5, minExtent=38, maxExtent=38, **({"format": "~%"} if percent else {}))
    return alt.Y(
        "y:Q", title=title, axis=axis, scale=alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=False)
    )


def _as(channel: Any, field: str) -> Any:
    """Return the same channel of another field: one axis and one scale for both."""
    channel = channel.copy()
    channel["shorthand"] = field
    return channel


def _lines(known: list[Row], across: Any, up: Any, *, bars: bool, size: tuple[int, int]) -> Spec:
    """Return one line with points an arm, in the arm's look."""
    import altair as alt

    found = {row["arm"] for row in known}
    arms = [*(arm for arm in ARMS if arm in found), *sorted(found - set(ARMS))]
    looks = [look(arm) for arm in arms]
    colours = alt.Scale(domain=arms, range=[one.colour for one in looks])
    dashes = alt.Scale(domain=arms, range=[list(one.dash) or [1, 0] for one in looks])
    shapes = alt.Scale(domain=arms, range=[one.shape for one in looks])
    base = alt.Chart(alt.NamedData("rows")).encode(x=across, y=up, color=alt.Color("arm:N", legend=None, scale=colours))
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=alt.StrokeDash("arm:N", scale=dashes, legend=None))
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        shape=alt.Shape("arm:N", scale=shapes, legend=None)
    )
    layers = [lines, points]
    if bars:
        layers.insert(0, base.mark_rule(strokeWidth=1.5).encode(y=_as(up, "low:Q"), y2="high:Q"))
    return spec(alt.layer(*layers).properties(width=size[0], height=size[1]), rows=known)
