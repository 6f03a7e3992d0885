"""Tidy tables of a run: one for each group of plots, the metrics for `dvc metrics`, the facts for the claims."""

from stages.reporting.claims import Facts
from stages.reporting.lineage import homes, steps
from stages.reporting.report_data import Row, RunData
from stages.reporting.verdicts import Estimate

LEARNING = ("cosine", "cosine_centred", "feature_distance", "gradient_distance", "margin")  # with standard errors
SERIES = ("gap", "true_gap", "upside_down", *LEARNING)
KEPT = "pair"  # stands beside the drop reasons


def quality(run: RunData) -> list[Row]:
    """Return true scores by arm and round; round 0 is M0."""
    return [
        {
            "arm": arm,
            "round": number,
            "model": model,
            "true_score": run.models[model].get("true_score"),
            "se": run.models[model].get("true_score_se"),
        }
        for arm, line in run.plan["lines"].items()
        for number, model in enumerate(line)
    ]


def gap(run: RunData) -> list[Row]:
    """Return the chosen-rejected gap by arm and round, for the judge and for the truth."""
    rows = []
    for step in steps(run.plan):
        pairs = run.pairs[step.model]
        rows.append(
            {
                "arm": step.arm,
                "round": step.round,
                "model": step.model,
                "judged_gap": pairs["gap"],
                "judged_gap_se": pairs["gap_se"],
                "true_gap": pairs["true_gap"],
                "true_gap_se": pairs["true_gap_se"],
                "upside_down": pairs["upside_down"],
                "upside_down_se": pairs["upside_down_se"],
                "yield": run.rounds[step.model]["yield"],
            }
        )
    return rows


def drops(run: RunData) -> list[Row]:
    """Return what became of the prompts of each training: `pair`, or the reason why not."""
    rows = []
    for model, (arm, number) in homes(run.plan).items():
        found = run.rounds[model]
        for reason, count in {KEPT: found["pairs"], **found["dropped_for"]}.items():
            share = count / found["prompts"] if found["prompts"] else None
            rows.append(
                {"arm": arm, "round": number, "model": model, "reason": reason, "prompts": count, "share": share}
            )
    order = list(run.plan["learns"])
    return sorted(rows, key=lambda row: (order.index(row["model"]), row["reason"] != KEPT, row["reason"]))


def judge(run: RunData) -> list[Row]:
    """Return how judges agree with the truth, by arm and rounds of training behind the judge.

    On the candidates of the round it judged (none yet for the last model version), and on the fixed responses.
    """
    own = {(s.arm, s.row["judge"]): run.rounds[s.model] for s in steps(run.plan)}
    return [
        {
            "arm": arm,
            "trained": number,
            "judge": model,
            "on_candidates": own.get((arm, model), {}).get("judge_agreement"),
            "on_fixed": run.fixed[model]["agreement"],
            "on_fixed_se": run.fixed[model]["agreement_se"],
            "bias_on_candidates": own.get((arm, model), {}).get("judge_bias"),
            "bias_on_fixed": run.fixed[model]["bias"],
            "parsed_on_fixed": run.fixed[model]["parsed"],
        }
        for arm, line in run.plan["lines"].items()
        for number, model in enumerate(line)
    ]


def learning(run: RunData) -> list[Row]:
    """Return what the pairs were to the model that learned from them, by arm and round."""
    rows = []
    for step in steps(run.plan):
        pairs, found = run.pairs[step.model], run.rounds[step.model]
        row: Row = {"arm": step.arm, "round": step.round, "model": step.model}
        for name in LEARNING:
            row |= {name: pairs[name], f"{name}_se": pairs[f"{name}_se"]}
        rows.append(row | {"accuracy": found["accuracy"], "grad_norm": found["grad_norm"]})
    return rows


def compute(run: RunData) -> list[Row]:
    """Return tokens by arm and round, cumulative, with the true score they bought; in the plan's order."""
    scores = {(row["arm"], row["round"]): row["true_score"] for row in quality(run)}
    order = list(run.plan["lines"])
    rows = [row | {"true_score": scores[row["arm"], row["round"]]} for row in run.compute]
    return sorted(rows, key=lambda row: (order.index(row["arm"]), row["round"]))


def metrics(run: RunData) -> dict[str, Row]:
    """Return one flat row a model version, for `dvc metrics`: its quality, and the round it learned from."""
    return {name: _quality_of(run, name) | _round_of(run, name) for name in run.models}


def _quality_of(run: RunData, name: str) -> Row:
    model = run.models[name]
    return {
        "true_score": model.get("true_score"),
        "true_score_se": model.get("true_score_se"),
        "fixed_agreement": run.fixed[name]["agreement"],
    }


def _round_of(run: RunData, name: str) -> Row:
    if name not in run.rounds:
        return {}
    kept = ("yield", "judge_agreement", "grad_norm", "tokens_generated", "tokens_judged", "tokens_trained")
    return {key: run.rounds[name][key] for key in kept} | {key: run.pairs[name][key] for key in SERIES}


def facts(run: RunData) -> Facts:
    """Return what the claims are held against."""
    series: dict[str, dict[str, list[Estimate]]] = {}
    for step in steps(run.plan):
        pairs = run.pairs[step.model]
        for name in SERIES:
            if pairs[name] is not None:
                estimate = Estimate(pairs[name], pairs[f"{name}_se"])
                series.setdefault(step.arm, {}).setdefault(name, []).append(estimate)
    tokens = {arm: max(row["total"] for row in run.compute if row["arm"] == arm) for arm in run.plan["lines"]}
    return Facts(series, run.plan["lines"], run.ahead, tokens)
