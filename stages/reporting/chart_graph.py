"""The line of model versions as a graph: who learned from whom, and which future model helped. See charts.py."""

from dataclasses import dataclass

from stages.plan import FIRST
from stages.reporting.charts import INK, MUTED, Row, Spec, look, spec
from stages.reporting.lineage import Plan, future_of, homes

LANE, ROUND = 96, 176  # pixels between arms and between rounds


@dataclass(frozen=True)
class Layout:
    """Nodes and edges with their places: x in rounds, y in lanes from the top."""

    nodes: list[Row]
    edges: list[Row]
    ends: list[Row]
    rounds: int
    lanes: int


def layout(plan: Plan, names: dict[str, str]) -> Layout:
    """Return where to draw each model version; a shared one stands in the lane of the first arm that has it."""
    arms, at = list(plan["lines"]), homes(plan)
    places = {FIRST: (0.0, (len(arms) - 1) / 2)}
    finals = {model for line in plan["lines"].values() for model in line}
    for model, (arm, number) in at.items():
        # A future model stands before and below the model version it helps to make.
        shift = (0.0, 0.0) if model in finals else (-0.45, 0.42)
        places[model] = (number + shift[0], arms.index(arm) + shift[1])
    colours = {model: look(arm).colour for model, (arm, _) in at.items()} | {FIRST: INK}
    nodes = [
        {
            "x": x,
            "y": y,
            "model": model,
            "also": " ".join(f"= {name}" for name in plan["learns"].get(model, {}).get("also", [])),
            "colour": colours[model],
            "below": model == FIRST or model not in finals,
        }
        for model, (x, y) in places.items()
    ]
    edges = [edge for model in at for edge in _edges(plan, model, places, colours[model])]
    ends = [
        {"x": places[line[-1]][0], "y": places[line[-1]][1], "arm": names[arm], "colour": look(arm).colour}
        for arm, line in plan["lines"].items()
    ]
    return Layout(nodes, edges, ends, max(len(line) - 1 for line in plan["lines"].values()), len(arms))


def _edges(plan: Plan, model: str, places: dict[str, tuple[float, float]], colour: str) -> list[Row]:
    """Return the edges into a model version: from its policy, and from its future model."""
    row = plan["learns"][model]
    sources = [("policy", row["policy"])]
    if ahead := future_of(row):
        sources.append(("future", ahead))
    (x2, y2) = places[model]
    return [
        {"x": places[source][0], "y": places[source][1], "x2": x2, "y2": y2, "kind": kind, "colour": colour}
        for kind, source in sources
    ]


def labels_of(nodes: list[Row]) -> list[Row]:
    """Return the lines of text beside the nodes: the name, and under it the other names."""
    rows = []
    for node in nodes:
        left, low = (-15, 19) if node["below"] else (7, -25 if node["also"] else -12)
        for text, size, colour, down in ((node["model"], 13, INK, low), (node["also"], 11, MUTED, low + 14)):
            place = {"x": node["x"] + left / ROUND, "y": node["y"] + down / LANE}
            if text:
                rows.append(place | {"text": text, "size": size, "colour": colour})
    return rows


def graph(plan: Plan, names: dict[str, str]) -> Spec:
    """Return the chart of a layout: full lines from the policy, dashed ones from the future model."""
    import altair as alt

    drawn = layout(plan, names)
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-0.15, drawn.rounds + 0.55], nice=False, zero=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[drawn.lanes - 0.25, -0.4], nice=False, zero=False))
    shade = alt.Color("colour:N", scale=None)
    edges = alt.Chart(alt.NamedData("edges")).encode(x=x, y=y, x2="x2:Q", y2="y2:Q", color=shade)
    dots = alt.Chart(alt.NamedData("nodes")).mark_circle(size=150, opacity=1).encode(x=x, y=y, color=shade)
    ends = alt.Chart(alt.NamedData("ends")).mark_text(align="left", dx=13, dy=4, fontSize=13, fontWeight="bold")
    labels = alt.Chart(alt.NamedData("labels")).encode(x=x, y=y, text="text:N", size=alt.Size("size:Q", scale=None))
    layers = [
        edges.transform_filter("datum.kind == 'policy'").mark_rule(strokeWidth=2, opacity=0.8),
        edges.transform_filter("datum.kind == 'future'").mark_rule(strokeWidth=2, opacity=0.8, strokeDash=[5, 4]),
        dots,
        ends.encode(x=x, y=y, text="arm:N", color=shade),
        # The same text twice: a white rim first, where an edge passes behind.
        labels.mark_text(align="left", stroke="white", strokeWidth=4),
        labels.mark_text(align="left").encode(color=shade),
    ]
    size = {"width": round((drawn.rounds + 0.7) * ROUND), "height": round((drawn.lanes + 0.15) * LANE)}
    tables = {"nodes": drawn.nodes, "edges": drawn.edges, "ends": drawn.ends, "labels": labels_of(drawn.nodes)}
    return spec(alt.layer(*layers).properties(**size), **tables)
