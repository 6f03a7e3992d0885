"""The page's figures: chart, heading and a caption that says what to look for, by section."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.reporting import chart_bars, chart_graph, report_tables
from stages.reporting.charts import Spec, by_amount, by_round, svg
from stages.reporting.report_data import Row, RunData

NAMES = {
    "sr": "SR",
    "tsr": "TSR",
    "past_only": "past only",
    "future_only": "future only",
    "sft": "SFT",
    "rejection_sampling": "rejection sampling",
    "spin": "SPIN",
    "spin_fair": "SPIN, fair",
}
Drawn = tuple[str, str, Spec | None]  # title, caption, chart
_TRAINED = "After training, on the training's own pairs"
_LEARNING = (  # column, title, unit, caption
    ("cosine", "Cosine", "cosine", "Last-layer features of chosen and rejected, under the policy. Paper: SR's rises."),
    ("cosine_centred", "Cosine, centred", "cosine", "The same without the round's mean, which all responses share."),
    ("feature_distance", "Feature distance", "distance", "Length of the difference of the two features."),
    (
        "gradient_distance",
        "Gradient distance",
        "norm",
        "Length of the difference of the two gradients of log p, over a sample of pairs. Paper: SR's fades.",
    ),
    ("grad_norm", "DPO gradient", "norm before clipping", "Mean over the steps of the training."),
    ("margin", "DPO margin", "reward margin", f"{_TRAINED}: how far chosen has moved above rejected."),
    ("accuracy", "DPO accuracy", "pairs with margin > 0", f"{_TRAINED}."),
)


@dataclass(frozen=True)
class Figure:
    """One figure of the page; `svg` is markup made here, `caption` is plain text."""

    title: str
    caption: str
    svg: str


def name_of(arm: str) -> str:
    """Return an arm's name for readers."""
    return NAMES.get(arm, arm)


def names_of(run: RunData) -> dict[str, str]:
    """Return arm -> name for readers, of the arms that run."""
    return {arm: name_of(arm) for arm in run.plan["lines"]}


def _figures(drawn: Iterator[Drawn]) -> list[Figure]:
    """Return the figures that have something to show."""
    return [
        Figure(title, caption, svg(chart, f"{title}. {caption}".strip()))
        for title, caption, chart in drawn
        if chart is not None
    ]


def all_figures(run: RunData) -> dict[str, list[Figure]]:
    """Return section -> figures."""
    return {
        "graph": _figures(_graph(run)),
        "quality": _figures(_quality(run)),
        "gap": _figures(_gap(run)),
        "drops": _figures(_drops(run)),
        "judge": _figures(_judge(run)),
        "scores": _figures(_scores(run)),
        "learning": _figures(_learning(run)),
        "compute": _figures(_compute(run)),
    }


def _graph(run: RunData) -> Iterator[Drawn]:
    caption = (
        "Full lines: trained from. Dashed lines: the temporary future model whose responses may be chosen. "
        "A model version that would learn from the same pairs in two arms is trained once and has several names (=)."
    )
    yield "Who learned from whom", caption, chart_graph.graph(run.plan, names_of(run))


def _quality(run: RunData) -> Iterator[Drawn]:
    rows = report_tables.quality(run)
    caption = "Mean over held-out prompts of the responses' true score; bars: one standard error. Round 0 is M0."
    yield "True score by round", caption, by_round(rows, "true_score", "true score", se="se")
    first = [{"arm": row["arm"], "total": 0, "true_score": row["true_score"]} for row in rows if row["round"] == 0]
    caption = "The same against all tokens an arm takes to get there: the higher at the same cost, the better."
    spent = first + report_tables.compute(run)
    chart = by_amount(spent, "total", "true_score", "tokens generated, judged, trained on", "true score")
    yield "True score by cost", caption, chart


def _gap(run: RunData) -> Iterator[Drawn]:
    rows = report_tables.gap(run)
    domain = _span(rows, ("judged_gap", "true_gap"))
    caption = "Score of chosen minus rejected, as the round's judge has it, where a prompt gave a pair. "
    caption += "Paper: SR's shrinks, TSR's stays."
    chart = by_round(rows, "judged_gap", "judged gap (score)", se="judged_gap_se", domain=domain)
    yield "Judged gap", caption, chart
    caption = "The same pairs by their true scores, on the same scale: how much of the judged gap is real."
    chart = by_round(rows, "true_gap", "true gap (score)", se="true_gap_se", domain=domain)
    yield "True gap", caption, chart
    caption = "Pairs whose rejected response is truly better than the chosen one. They teach the wrong way round."
    domain = (0.0, _span(rows, ("upside_down",))[1])
    chart = by_round(rows, "upside_down", "share of pairs", se="upside_down_se", percent=True, domain=domain)
    yield "Upside-down pairs", caption, chart


def _span(rows: list[Row], keys: tuple[str, ...]) -> tuple[float, float]:
    """Return an axis from zero or below to just above every value and its error."""
    known = [(row[key], row[f"{key}_se"] or 0.0) for row in rows for key in keys if row[key] is not None]
    return min([0.0, *(value - error for value, error in known)]), 1.05 * max(
        [0.05, *(value + error for value, error in known)]
    )


def _drops(run: RunData) -> Iterator[Drawn]:
    caption = "Share of prompts that give a pair. What is lost here is lost to training."
    yield "Yield", caption, by_round(report_tables.gap(run), "yield", "share of prompts", percent=True, domain=(0, 1))
    caption = "In colour: prompts that gave a pair; in grey: why the others did not. Future models are trained too."
    yield "Drop funnel", caption, chart_bars.drops(report_tables.drops(run))


def _judge(run: RunData) -> Iterator[Drawn]:
    rows = report_tables.judge(run)
    known = [row[key] for row in rows for key in ("on_candidates", "on_fixed") if row[key] is not None]
    domain = (max(min(known) - 0.05, 0.0), min(max(known) + 0.05, 1.0)) if known else None
    shared: dict[str, Any] = {
        "x": "trained",
        "x_title": "rounds of training behind the judge",
        "percent": True,
        "domain": domain,
    }
    caption = "Scores that equal the truth, on the responses of the round the judge scores: agreement where it matters."
    title = "Agreement on the round's candidates"
    yield title, caption, by_round(rows, "on_candidates", "exact agreement", **shared)
    caption = "The same on responses that never change: drift of the judge itself. Bars: one standard error."
    if not run.has_truth:
        caption = "Scores that equal people's ratings, on responses that never change. Bars: one standard error."
    yield (
        "Agreement on the fixed responses",
        caption,
        by_round(rows, "on_fixed", "exact agreement", se="on_fixed_se", **shared),
    )


def _scores(run: RunData) -> Iterator[Drawn]:
    for arm in run.plan["lines"]:
        rows = [row for row in run.scores if row["arm"] == arm]
        yield name_of(arm), "", chart_bars.scores(rows)


def _learning(run: RunData) -> Iterator[Drawn]:
    rows = report_tables.learning(run)
    for key, title, unit, caption in _LEARNING:
        se = f"{key}_se" if key in report_tables.LEARNING else None
        yield title, caption, by_round(rows, key, unit, se=se, percent=key == "accuracy", size=(230, 150))


def _compute(run: RunData) -> Iterator[Drawn]:
    caption = (
        "As if the arm ran alone, all its rounds: tokens sampled, tokens read and written by judges, tokens trained on "
        "(chosen and rejected, times epochs). SFT and evaluation are not counted."
    )
    yield (
        "Tokens by arm",
        caption,
        chart_bars.compute(report_tables.compute(run), list(run.plan["lines"]), names_of(run)),
    )
