"""Charts of counts: what became of the prompts, how scores spread, what an arm costs. See charts.py."""

from stages.reporting.charts import INK, REASON_GREYS, Row, Spec, look, spec
from stages.reporting.report_tables import KEPT

SIDE_LOOKS = {"anchor": ("#555555", "square"), "future": ("#111111", "triangle-up")}


def reason_colours(rows: list[Row]) -> dict[str, str]:
    """Return drop reason -> grey, in the reasons' order."""
    reasons = sorted({row["reason"] for row in rows} - {KEPT})
    return {reason: REASON_GREYS[i % len(REASON_GREYS)] for i, reason in enumerate(reasons)}


def drops(rows: list[Row]) -> Spec:
    """Return stacked bars, one a training: pairs in the arm's colour, then each drop reason in a grey."""
    import altair as alt

    colours = reason_colours(rows)
    drawn = [
        {
            "model": row["model"],
            "prompts": row["prompts"],
            "order": 0 if row["reason"] == KEPT else 1 + list(colours).index(row["reason"]),
            "colour": look(row["arm"]).colour if row["reason"] == KEPT else colours[row["reason"]],
        }
        for row in rows
    ]
    models = list(dict.fromkeys(row["model"] for row in rows))
    chart = (
        alt.Chart(alt.NamedData("rows"))
        .mark_bar(stroke="white", strokeWidth=1)
        .encode(
            x=alt.X("prompts:Q", title="prompts", axis=alt.Axis(tickCount=5)),
            y=alt.Y("model:N", title=None, sort=models, axis=alt.Axis(ticks=False, domain=False)),
            color=alt.Color("colour:N", scale=None),
            order=alt.Order("order:Q"),
        )
        .properties(width=270, height=alt.Step(24))
    )
    return spec(chart, rows=drawn)


def scores(rows: list[Row]) -> Spec:
    """Return one arm's score histograms, round by round: bars for its own responses, points for the other sides.

    One chart an arm: a facet over arms and rounds misplaces its panels where arms have unequal rounds.
    """
    import altair as alt

    drawn = [
        {
            "round": f"round {row['round']}, by {row['judge']}",
            "side": row["side"],
            "score": row["score"],
            "share": row["share"],
            "colour": look(row["arm"]).colour if row["side"] == "own" else SIDE_LOOKS[row["side"]][0],
        }
        for row in rows
    ]
    known = sorted({row["score"] for row in rows}, key=lambda score: (score == "none", len(score), score))
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X("score:N", title="score", sort=known, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("share:Q", title="responses", axis=alt.Axis(format="%", tickCount=3), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("colour:N", scale=None),
    )
    bars = base.transform_filter("datum.side == 'own'").mark_bar(opacity=0.7)
    marks = [
        base.transform_filter(f"datum.side == '{side}'").mark_point(shape=shape, filled=True, size=45, opacity=1)
        for side, (_, shape) in SIDE_LOOKS.items()
    ]
    panel = alt.layer(bars, *marks).properties(width=170, height=84)
    return spec(panel.facet(column=alt.Column("round:N", title=None), spacing=14), rows=drawn)


def compute(rows: list[Row], arms: list[str], names: dict[str, str]) -> Spec:
    """Return what each arm costs in tokens, by kind, after its last round."""
    import altair as alt

    last = {row["arm"]: row for row in rows}  # rows come in the order of rounds
    kinds = ("generated", "judged", "trained")
    drawn = [
        {"arm": names[arm], "kind": kind, "tokens": last[arm][kind], "colour": look(arm).colour}
        for arm in arms
        for kind in kinds
    ]
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X("tokens:Q", title="tokens", axis=alt.Axis(format="~s", tickCount=4)),
        y=alt.Y("kind:N", title=None, sort=list(kinds), axis=alt.Axis(ticks=False, domain=False)),
    )
    bars = base.mark_bar().encode(color=alt.Color("colour:N", scale=None))
    told = base.mark_text(align="left", dx=4, fontSize=12, color=INK).encode(text=alt.Text("tokens:Q", format=".3~s"))
    panel = alt.layer(bars, told).properties(width=200, height=60)
    row = alt.Row("arm:N", title=None, sort=[names[arm] for arm in arms])
    return spec(panel.facet(row=row, spacing=12), rows=drawn)
