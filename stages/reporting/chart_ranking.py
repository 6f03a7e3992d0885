"""A tournament's ranking as a picture: strengths with their intervals, the strongest on top."""

from stages.reporting.charts import INK, MUTED, Row, spec, svg


def picture(ranking: list[Row], anchor: str) -> str:
    """Return the SVG of a ranking's rows: model, elo, elo_low, elo_high, in Elo points against `anchor`."""
    import altair as alt

    rows = [{key: row[key] for key in ("model", "elo", "elo_low", "elo_high")} for row in ranking]
    base = alt.Chart(alt.NamedData("rows")).encode(
        y=alt.Y(
            "model:N",
            title=None,
            sort=[row["model"] for row in rows],
            axis=alt.Axis(ticks=False, domain=False, labelPadding=10),
        )
    )
    title = f"Elo points against {anchor}"
    across = alt.X("elo:Q", title=title, axis=alt.Axis(tickCount=6))
    bars = base.mark_rule(strokeWidth=1.5, color=MUTED).encode(x=alt.X("elo_low:Q", title=title), x2="elo_high:Q")
    points = base.mark_point(filled=True, size=55, opacity=1, color=INK).encode(x=across)
    chart = alt.layer(bars, points).properties(width=360, height=alt.Step(22))
    label = f"Strength of the model versions in Elo points against {anchor}, with intervals."
    return svg(spec(chart, rows=rows), label)
