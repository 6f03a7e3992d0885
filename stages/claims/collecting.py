"""What stays of one seed: its lines, rounds, model versions, held-out answers and costs, as tables under contract.

Read in the run's folder, by the functions and the SQL of the report.
"""

import json
from typing import Any

import polars as pl

from stages import models, paths, plan, tables
from stages.claims.graph import TRAINERS
from stages.claims.kept import code_hash
from stages.claims.running import Outcome, Seed, inside
from stages.ids import content_id
from stages.parsing import load_rubric
from stages.reporting import lineage, report_data
from stages.sqlrun import SQL, connect, run_file
from stages.strategies import name_of
from stages.truth import true_scores

Row = dict[str, Any]
Tables = dict[str, pl.DataFrame]
NAMES = ("claims_runs", "claims_lines", "claims_rounds", "claims_models", "claims_answers", "claims_costs")
NO_PAIRS = "no_pairs"
_AS_THEY_ARE = (
    *("prompts", "pairs", "yield", "gap", "chosen_score", "rejected_score", "true_gap", "chosen_truth"),
    *("rejected_truth", "upside_down", "length_delta", "cosine", "cosine_centred", "feature_distance"),
    *("gradient_distance", "grad_norm", "margin", "accuracy", "candidates_truth"),
)
_OF_THE_JUDGE = ("judge_agreement", "judge_error", "judge_bias")


def collect(seed: Seed, outcome: Outcome) -> Tables:
    """Return the tables of a run that has ended; its folder must still be there."""
    with inside(seed.folder):
        trained = [task.key for task in outcome.tasks if task.stage in TRAINERS and task.name in outcome.costs]
        costs = [_cost(outcome, task.name) for task in outcome.tasks if task.name in outcome.costs]
        parts = {
            "claims_runs": [_run(seed, outcome)],
            "claims_lines": _lines(outcome, costs),
            "claims_rounds": [_round(outcome, name) for name in trained],
            "claims_models": _models(outcome, [plan.FIRST, *trained]),
            "claims_answers": _answers([plan.FIRST, *trained]),
            "claims_costs": costs,
        }
    found = {name: tables.frame(name, [{"run": outcome.run} | row for row in rows]) for name, rows in parts.items()}
    return {name: tables.validate(name, rows, f"seed {outcome.seed}") for name, rows in found.items()}


def _run(seed: Seed, outcome: Outcome) -> Row:
    deps = {dep for task in seed.graph.all for dep in task.deps if dep.startswith("stages/")}
    return {
        "settings": outcome.settings.hash,
        "seed": outcome.seed,
        "profile": outcome.params.profile,
        "judge": outcome.params.judge,
        "changed": json.dumps(outcome.settings.changed, sort_keys=True),
        "code": content_id("code", sorted((dep, code_hash(seed.root / dep)) for dep in deps)),
    }


def _lines(outcome: Outcome, costs: list[Row]) -> list[Row]:
    """Return each arm's rounds with what they cost; a round that could not be trained keeps the model before it."""
    lines = {arm: outcome.plan["lines"][arm] for arm in outcome.settings.arms}
    spent = _spent(outcome.plan | {"lines": lines}, costs)
    nothing = dict.fromkeys(("tokens_generated", "tokens_judged", "tokens_trained", "tokens", "updates"), 0)
    rows = []
    for arm, line in lines.items():
        last = plan.FIRST
        for number, model in enumerate(line):
            there = f"evaluate@{model}" in outcome.costs
            last = model if there else last
            told = spent.get((arm, number), nothing | {"cpu_seconds": 0.0})
            rows.append({"arm": arm, "round": number, "model": last, "ended": None if there else NO_PAIRS} | told)
    return rows


def _spent(planned: Row, costs: list[Row]) -> dict[tuple[str, int], Row]:
    work = pl.DataFrame(
        lineage.work(planned), schema={"arm": pl.String, "round": pl.Int64, "kind": pl.String, "key": pl.String}
    )
    with connect() as db:
        rows = run_file(db, SQL / "claims" / "spent.sql", {"work": work, "costs": pl.DataFrame(costs)}, {}).to_dicts()
    return {(row.pop("arm"), row.pop("round")): row for row in rows}


def _cost(outcome: Outcome, name: str) -> Row:
    task, cost = next(task for task in outcome.tasks if task.name == name), outcome.costs[name]
    row = {"stage": task.stage, "key": task.key, "seconds": cost.seconds, "cpu_seconds": cost.cpu_seconds}
    return row | {"tokens": _tokens(outcome, task.stage, task.key, task.row), "updates": _updates(task.stage, task.key)}


def _tokens(outcome: Outcome, stage: str, key: str, row: Row) -> int:
    if stage == "generate":
        answered = tables.read("generations", paths.generations(row["model"], row["split"]))
        return int(answered["response_tokens"].sum())
    if stage == "judge":
        votes = tables.read("judgments", paths.judgments(row["judge"], row["model"], row["split"]))
        return int(votes.select(pl.col("prompt_tokens") + pl.col("response_tokens")).sum().item() or 0)
    if stage in TRAINERS:
        told = _told(key)
        return report_data.tokens_trained(outcome.params, key, outcome.plan["learns"][key], told)
    return 0


def _updates(stage: str, key: str) -> int:
    if stage not in (*TRAINERS, "sft"):
        return 0
    return int(models.read_json(paths.model(key or plan.FIRST) / models.MADE_BY)["steps"])


def _told(name: str) -> Row:
    """Return what stage measure said of a round."""
    told: Row = json.loads(paths.measures_json(name).read_text())
    return told


def _round(outcome: Outcome, name: str) -> Row:
    learn, told = outcome.plan["learns"][name], _told(name)
    row = {key: told[key] for key in _AS_THEY_ARE}
    row |= {key: learn[key] for key in ("strategy", "judge", "policy", "split")}
    knows = learn["judge"] != paths.ORIGIN  # that one's scores say where a response comes from, not how good it is
    row |= {key: told[key] if knows else None for key in _OF_THE_JUDGE}
    own = _own(outcome, learn)
    row |= own if knows else own | {"at_top": None, "tied": None, "own_score": None}
    return row | {
        "model": name,
        "strategy": name_of(learn["strategy"]),
        "ties": told["dropped_for"].get("tie", 0),
        "chosen_from_future": told["chosen_from"]["future"],
        "rejected_from_anchor": told["rejected_from"]["anchor"],
    }


def _own(outcome: Outcome, learn: Row) -> Row:
    """Return what sql/claims/own.sql says of the current model's responses in a round."""
    answers = tables.read("generations", paths.generations(learn["own"], learn["split"]))
    scores = tables.read("scores", paths.scores(learn["judge"], learn["own"], learn["split"]))
    truth = true_scores(tables.read("prompts", paths.prompts(learn["split"])), answers)
    joined = answers.join(scores.select("generation_id", "score"), on="generation_id", how="left")
    own = joined.join(truth, on="generation_id", how="left").sort("generation_id")
    with connect() as db:
        load_rubric(db, outcome.params.block.judge.rubric)
        frames = {"own": own.select("prompt_id", "score", "truth", "response_tokens")}
        return run_file(db, SQL / "claims" / "own.sql", frames, {}).row(0, named=True)


def _models(outcome: Outcome, names: list[str]) -> list[Row]:
    judged = report_data.fixed_scores(outcome.params, names)
    with connect() as db:
        fixed = run_file(db, report_data.QUERIES / "fixed.sql", {"judged": judged}, {}).rows_by_key("judge", named=True)
    rows = []
    for name in names:
        told = json.loads(paths.evaluation_json(name).read_text())
        drift = {f"fixed_{key}": fixed[name][0][key] for key in ("agreement", "error", "bias", "parsed")}
        rows.append({"model": name, "model_hash": models.model_hash(paths.model(name))} | told | drift)
    return rows


def _answers(names: list[str]) -> list[Row]:
    truth = report_data.eval_truth(sorted(names))
    return truth.group_by("model", "prompt_id").agg(pl.col("truth").mean()).sort("model", "prompt_id").to_dicts()
