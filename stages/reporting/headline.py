"""The README's picture: what became of the gap and of the quality, each line named where it ends."""

from typing import Any

from stages.reporting import report_tables
from stages.reporting.charts import CONFIG, INK, MUTED, look, two_digits
from stages.reporting.figures import name_of
from stages.reporting.report_data import Row, RunData

_PANEL = {"width": 360, "height": 230}
_SHOWN = ("sr", "tsr")  # the ablations stand in the report; here they would hide each other


def headline(run: RunData) -> str:
    """Return the picture as a stand-alone SVG."""
    import vl_convert

    panels = [
        panel(report_tables.gap(run), *_gap_column(run)),
        panel(report_tables.quality(run), "true_score", "Quality of the model's own responses", "true score"),
    ]
    chart = {"hconcat": [p for p in panels if p], "spacing": 60, "config": CONFIG, "background": "white", "padding": 12}
    text: str = vl_convert.vegalite_to_svg(chart)
    return two_digits(text)


def _gap_column(run: RunData) -> tuple[str, str, str]:
    """Return column, title and unit: the true gap where there is ground truth, else the judged one."""
    known = any(row["true_gap"] is not None for row in report_tables.gap(run))
    kind = "true" if known else "judged"
    return f"{kind}_gap", "What the pairs teach: chosen minus rejected", f"{kind} gap"


def panel(rows: list[Row], column: str, title: str, unit: str) -> dict[str, Any] | None:
    """Return one panel: a line an arm with its name at its end; None without any value."""
    known = [row for row in rows if row["arm"] in _SHOWN and row[column] is not None]
    if not known:
        return None
    lines = [_line(arm, [r for r in known if r["arm"] == arm], column, unit) for arm in _SHOWN]
    return {
        "title": {"text": title, "subtitle": first_to_last(known, column), "anchor": "start", "fontSize": 15}
        | {"subtitleColor": MUTED, "subtitleFontSize": 12, "color": INK},
        "layer": [layer for line in lines for layer in line],
        **_PANEL,
    }


def first_to_last(rows: list[Row], column: str) -> str:
    """Return each shown arm's first and last value in words, e.g. `SR 1.55 → 0.48,  TSR 2.52 → 2.58`."""
    told = []
    for arm in _SHOWN:
        values = [row[column] for row in rows if row["arm"] == arm]
        if values:
            told.append(f"{name_of(arm)} {values[0]:.2f} → {values[-1]:.2f}")
    return ",  ".join(told)


def _line(arm: str, rows: list[Row], column: str, unit: str) -> list[dict[str, Any]]:
    """Return the layers of one arm: line, points, name."""
    if not rows:
        return []
    colour = {"value": look(arm).colour}
    ends = {"values": [{"x": row["round"], "y": row[column]} for row in rows]}
    rounds = sorted({row["round"] for row in rows})
    x = {
        "field": "x",
        "type": "quantitative",
        "title": "round",
        "axis": {"grid": False, "format": "d", "tickMinStep": 1},
    }
    x["scale"] = {"domainMax": rounds[-1] + 0.9, "nice": False}
    y = {"field": "y", "type": "quantitative", "title": unit, "scale": {"zero": False}}
    name = {"values": [{"x": rows[-1]["round"], "y": rows[-1][column], "name": name_of(arm)}]}
    text = {"type": "text", "align": "left", "dx": 9, "fontWeight": "bold", "fontSize": 12}
    text["dy"] = 12 if arm == "sr" else -10
    return [
        {"data": ends, "mark": {"type": "line", "strokeWidth": 2.5}, "encoding": {"x": x, "y": y, "color": colour}},
        {
            "data": ends,
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {"x": x, "y": y, "color": colour},
        },
        {"data": name, "mark": text, "encoding": {"x": x, "y": y, "color": colour, "text": {"field": "name"}}},
    ]
