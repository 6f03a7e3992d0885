"""The page: what the template is given. Numbers are worded here, laid out in templates/report.html.j2."""

from pathlib import Path
from typing import Any

from stages.params import Params
from stages.plan import SELF
from stages.reporting import asides, chart_bars, report_tables
from stages.reporting.charts import look
from stages.reporting.claims import findings, paragraph
from stages.reporting.figures import all_figures, name_of, names_of
from stages.reporting.funnel import funnel_lines
from stages.reporting.health import health_rows, health_signals
from stages.reporting.judging import judging_rows
from stages.reporting.lineage import future_of, homes
from stages.reporting.report_data import Row, RunData
from stages.reporting.side_by_side import example
from stages.reporting.tournaments import drawn
from stages.reporting.verdicts import CONTRARY, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Estimate, number, plus_minus

NOTHING = "\N{EN DASH}"
TEMPLATES = Path(__file__).parent / "templates"
_MARKS = {SUPPORTED: "✓", NOT_SUPPORTED: "○", CONTRARY: "✗", NOT_TESTED: NOTHING}
LONG_NAMES = {
    "sr": "Self-Rewarding",
    "tsr": "Temporal Self-Rewarding",
    "past_only": "ablation: Anchored Rejection alone",
    "future_only": "ablation: Future-Guided Chosen alone",
    "sft": "M0 as it is",
    "rejection_sampling": "SFT on the best response",
    "spin": "the reference answer over an own one, on the prompts of SFT",
    "spin_fair": "SPIN on the prompts of the rounds",
}


def render(params: Params, run: RunData) -> str:
    """Return the whole page as one HTML text without any outside reference."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # The two kinds of markup that are ours: the style sheet, and the figures. All else is escaped.
    environment.filters["drawn"] = Markup
    css = Markup((TEMPLATES / "report.css").read_text())  # noqa: S704
    return environment.get_template("report.html.j2").render(css=css, **context(params, run))


def context(params: Params, run: RunData) -> dict[str, Any]:
    """Return the template's variables."""
    found = findings(report_tables.facts(run))
    at = homes(run.plan)
    return {
        "seed": params.seed,
        "profile": params.profile,
        "has_truth": run.has_truth,
        "has_ratings": any(row["agreement"] is not None for row in run.judging),
        "has_seconds": bool(run.judging_seconds),
        "judge": None if params.judge == SELF else params.judge,
        "settings": settings(params),
        "colours": {arm: look(arm).colour for arm in run.plan["lines"]},
        "arms": [legend(arm) for arm in run.plan["lines"]],
        "summary": [summary_row(run, arm) for arm in run.plan["lines"]],
        "first": _true_score(run, "M0"),
        "findings": found,
        "paragraph": paragraph(found),
        "marks": _MARKS,
        "counts": [(word, sum(f.verdict == word for f in found)) for word in _MARKS],
        "asides": sentences(params, run),
        "figures": all_figures(run),
        "funnel": funnel_lines(run.funnel),
        "tournaments": [drawn(one) for one in run.tournaments],
        "reasons": chart_bars.reason_colours(report_tables.drops(run)),
        "health": health_rows(run),
        "signals": health_signals(run),
        "names": names_of(run),
        "judging": judging_rows(run),
        "trainings": [training_row(run, name) for name in run.plan["learns"]],
        "examples": [example(row, run.plan, at[row["model"]], name_of) for row in run.examples],
    }


def settings(params: Params) -> list[tuple[str, str]]:
    """Return the settings that matter to a reader, with their values."""
    block = params.block
    dpo, draw, judge = block.dpo, block.generate, block.judge
    votes = "1 vote" if judge.votes == 1 else f"{judge.votes} votes"
    read = "likeliest reply" if judge.temperature == 0 else f"temperature {judge.temperature:g}"
    how = "score read in one token" if judge.way == "one_token" else f"{votes}, {read}"
    who = "each model version itself" if params.judge == SELF else params.judge
    sft = block.sft
    long = (
        f"{sft.epochs} epochs, {sft.batch_size} examples a batch"
        if sft.epochs
        else f"{sft.steps} steps of {sft.batch_size}"
    )
    return [
        ("Prompts", f"{block.prepare.prompts_per_split} new a round, {block.prepare.eval_prompts} held out"),
        ("Responses", f"{draw.samples} a prompt, temperature {draw.temperature:g}, top-p {draw.top_p:g}"),
        ("Judge", f"{who}; rubric {judge.rubric}, {how}"),
        ("Pairs", f"score gap above {block.pair.min_gap:g}"),
        (
            "DPO",
            f"beta {dpo.beta:g}, learning rate {dpo.learning_rate:g}, {dpo.epochs} epochs, "
            f"{dpo.batch_size} pairs a batch",
        ),
        ("SFT", f"{long}, learning rate {sft.learning_rate:g}"),
    ]


def legend(arm: str) -> Row:
    """Return how an arm is named and drawn."""
    one = look(arm)
    return {
        "arm": arm,
        "name": name_of(arm),
        "about": LONG_NAMES.get(arm, arm),
        "colour": one.colour,
        "dash": " ".join(map(str, one.dash)),
        "shape": one.shape,
    }


def summary_row(run: RunData, arm: str) -> Row:
    """Return an arm's line of the table at the top."""
    line = run.plan["lines"][arm]
    rounds = [run.pairs[model] | {"yield": run.rounds[model]["yield"]} for model in line[1:]]
    tokens = [row["total"] for row in run.compute if row["arm"] == arm]
    return {
        **legend(arm),
        "rounds": len(line) - 1,
        "final": line[-1],
        "true_score": _true_score(run, line[-1]),
        "gap": _first_last([number(row["gap"]) for row in rounds]),
        "true_gap": _first_last([number(row["true_gap"]) for row in rounds if row["true_gap"] is not None]),
        "yield": _first_last([asides.percent(row["yield"]) for row in rounds]),
        "tokens": f"{max(tokens):,}",
    }


def _true_score(run: RunData, model: str) -> str:
    found = run.models[model]
    return plus_minus(Estimate(found["true_score"], found["true_score_se"])) if run.has_truth else NOTHING


def _first_last(values: list[str]) -> str:
    return " → ".join([values[0], values[-1]] if len(values) > 1 else values)


def training_row(run: RunData, name: str) -> Row:
    """Return a training's line of the table of model versions."""
    row, rounds = run.plan["learns"][name], run.rounds[name]
    origins = {side: rounds[f"{side}_from"] for side in ("chosen", "rejected")}
    return {
        "name": name,
        "also": ", ".join(row["also"]),
        "policy": row["policy"],
        "strategy": row["strategy"],
        "split": row["split"],
        "anchor": row["anchor"] if row["anchor"] != row["own"] else "",
        "future": future_of(row) or "",
        "pairs": rounds["pairs"],
        "from_future": asides.percent(_share(origins["chosen"], "future")),
        "from_anchor": asides.percent(_share(origins["rejected"], "anchor")),
        "true_score": _true_score(run, name),
    }


def _share(counts: dict[str, int], side: str) -> float | None:
    total = sum(counts.values())
    return counts.get(side, 0) / total if total else None


def sentences(params: Params, run: RunData) -> list[str]:
    """Return what a reader must know beside the claims."""
    lines = run.plan["lines"]
    found = [asides.one_seed(params.seed)]
    for arm, line in lines.items():
        found.append(asides.best_round(name_of(arm), line, [run.models[model].get("true_score") for model in line]))
    for arm in lines:
        rows = [row for row in report_tables.judge(run) if row["arm"] == arm]
        candidates, fixed = ([row[where] for row in rows] for where in ("on_candidates", "on_fixed"))
        found.append(
            asides.judge_drift(name_of(arm), candidates, fixed, run.drift.get((lines[arm][-1], lines[arm][0])))
        )
    wrong = {name_of(arm): [run.pairs[model]["upside_down"] for model in line[1:]] for arm, line in lines.items()}
    last = {arm: max(row["total"] for row in run.compute if row["arm"] == arm) for arm in lines}
    found.append(asides.upside_down(wrong))
    if {"sr", "tsr"} <= set(lines):
        spent = {a: [(r["total"], r["true_score"]) for r in report_tables.compute(run) if r["arm"] == a] for a in lines}
        found.append(asides.at_cost(name_of("tsr"), name_of("sr"), spent["tsr"], spent["sr"]))
    found.append(asides.cost({name_of(arm): tokens for arm, tokens in last.items()}))
    found.append(asides.unfinished({line[-1]: run.models[line[-1]].get("finished") for line in lines.values()}))
    return [sentence for sentence in found if sentence]
