"""What the report knows of a run: read from the plan's rows only, so that leftovers of removed rows have no say."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages import paths, plan, tables
from stages.errors import TsrError
from stages.health.signals import of_plan
from stages.health.thresholds import read as read_thresholds
from stages.health.verdicts import Health, judged
from stages.params import Params
from stages.parsing import Reading, read_votes, score
from stages.reporting import lineage
from stages.reporting.claims import comparisons
from stages.reporting.funnel import funnel_rows
from stages.reporting.human import with_ratings
from stages.reporting.tournaments import read_tournaments
from stages.reporting.verdicts import Estimate
from stages.sqlrun import SQL, connect, run_file
from stages.truth import true_scores

Row = dict[str, Any]
QUERIES = SQL / "report"
EXAMPLES = 20
BENCHMARKS = paths.REPORTS / "benchmarks.json"
_ROUND_KEYS = (
    *("pairs", "prompts", "yield", "dropped_for", "chosen_from", "rejected_from"),
    *("tokens_generated", "tokens_judged", "tokens_trained"),
    *("judge_agreement", "judge_bias", "accuracy", "grad_norm"),
)
_MODEL_KEYS = ("true_score", "true_score_se", "finished")


@dataclass(frozen=True)
class RunData:
    """One run. `rounds`, `pairs`, `models` and `fixed` have one row of numbers a model version, by its name.

    `judging` compares ways of reading a judge on the fixed responses. `ahead` compares true scores, `drift` two judges:
    (agreement, leniency); both by (model, other). `funnel` is empty where the source chooses nothing.
    """

    plan: dict[str, Any]
    rounds: dict[str, Row]
    models: dict[str, Row]
    pairs: dict[str, Row]
    fixed: dict[str, Row]
    ahead: dict[tuple[str, str], Estimate]
    drift: dict[tuple[str, str], tuple[Estimate, Estimate | None]]
    scores: list[Row]
    compute: list[Row]
    examples: list[Row]
    judging: list[Row]
    judging_seconds: dict[str, float]
    funnel: list[Row]
    tournaments: list[Row]
    health: Health

    @property
    def has_truth(self) -> bool:
        """Return whether the source of the prompts can tell a true score."""
        return self.models[plan.FIRST].get("true_score") is not None


def read_run(params: Params) -> RunData:
    """Read everything that the report is made of.

    Raises TsrError for a missing file, naming it.
    """
    rows = plan.check_agrees(params)
    # What M0 learned to judge from belongs to no round.
    judges = rows["judges"] | rows["oracles"]
    rows["judges"] = {key: row for key, row in judges.items() if row["model"] != paths.WORLD}
    rounds = {name: _read_json(paths.measures_json(name), _ROUND_KEYS) for name in rows["learns"]}
    models = {name: _read_json(paths.evaluation_json(name), _MODEL_KEYS) for name in rows["models"]}
    pair_rows = pl.concat([_pair_rows(name) for name in rows["learns"]])
    wanted = pl.DataFrame(comparisons(rows["lines"]), schema={"model": pl.String, "other": pl.String}, orient="row")
    answers = eval_truth(sorted({*wanted["model"], *wanted["other"]}))
    fixed = fixed_scores(params, list(models))
    with connect() as db:
        return RunData(
            plan=rows,
            rounds=rounds,
            models=models,
            pairs=_by(run_file(db, QUERIES / "pairs.sql", {"pair_rows": pair_rows}, {}), "model"),
            fixed=_by(run_file(db, QUERIES / "fixed.sql", {"judged": fixed}, {}), "judge"),
            ahead=_differences(run_file(db, QUERIES / "paired.sql", {"answers": answers, "comparisons": wanted}, {})),
            drift=_drifts(run_file(db, QUERIES / "drift.sql", {"judged": fixed, "comparisons": wanted}, {})),
            scores=run_file(db, QUERIES / "scores.sql", _score_frames(rows), {}).to_dicts(),
            compute=run_file(db, QUERIES / "compute.sql", _compute_frames(params, rows, rounds), {}).to_dicts(),
            examples=_examples(db, rows, pair_rows),
            judging=run_file(db, QUERIES / "judging.sql", {"readings": _readings(params, list(models))}, {}).to_dicts(),
            judging_seconds=_judging_seconds() if params.block.prepare.source == "micro_world" else {},
            funnel=funnel_rows(),
            tournaments=read_tournaments(),
            health=judged(of_plan(rows, params.block.judge.rubric, fixed), read_thresholds()),
        )


def _read_json(path: Path, keys: tuple[str, ...]) -> Row:
    if not path.exists():
        raise TsrError(f"{path}: no such file; run `dvc repro`")
    try:
        loaded: Row = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise TsrError(f"{path}: not valid JSON: {error}") from error
    if missing := [key for key in keys if key not in loaded]:
        raise TsrError(f"{path}: key {missing[0]!r} is missing; run `dvc repro`")
    return loaded


def _judging_seconds() -> dict[str, float]:
    """Return seconds for 1,000 judgments by way, as `make bench` measured them; clocks have no place in tables.

    They are the micro world's: another model takes another time.
    """
    if not BENCHMARKS.exists():
        return {}
    found: dict[str, float] = json.loads(BENCHMARKS.read_text()).get("judging_seconds_per_1000", {})
    return found


def _by(frame: pl.DataFrame, key: str) -> dict[str, Row]:
    return {row[key]: row for row in frame.to_dicts()}


def _pair_rows(name: str) -> pl.DataFrame:
    """Return one model version's pairs with their measures, both or neither of every pair."""
    pairs = tables.read("pairs", paths.pairs(name))
    measures = tables.read("measures", paths.measures(name))
    joined = pairs.join(measures, on=["pair_id", "model"], how="inner")
    if not joined.height == pairs.height == measures.height:
        counts = f"{pairs.height} pairs, {measures.height} measures, {joined.height} in common"
        raise TsrError(f"{paths.measures(name)}: not of these pairs ({counts}); run `dvc repro`")
    return joined.sort("pair_id")


def eval_truth(models: list[str]) -> pl.DataFrame:
    """Return (model, prompt_id, truth) of the held-out responses; empty without a verifier."""
    prompts = tables.read("prompts", paths.prompts("eval"))
    answers = pl.concat([tables.read("generations", paths.generations(name, "eval")) for name in models])
    truth = true_scores(prompts, answers).drop_nulls("truth")
    return answers.join(truth, on="generation_id").select("model", "prompt_id", "truth").sort(pl.all())


def fixed_scores(params: Params, models: list[str]) -> pl.DataFrame:
    """Return (judge, generation_id, score, truth) of the fixed responses, under every model version as judge.

    Parsed here, as stage `score` does it, so that mending the parser judges nothing again.
    """
    settings = params.block.judge
    reading = Reading(settings.rubric, params.block.score.least_mass)
    fixed, truth = _fixed_set(settings.rubric)
    scored = []
    for name in models:
        judged = _fixed_judgments(name).filter(pl.col("way") == settings.way)
        scored.append(score(reading, name, fixed, judged))
    joined = pl.concat(scored).join(truth, on="generation_id", how="left")
    return joined.select("judge", "generation_id", "score", "truth").sort("judge", "generation_id")


def _fixed_set(rubric: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the fixed responses and their true scores, or what people rated them on the rubric's scale."""
    fixed = tables.read("generations", paths.generations(paths.WORLD, "fixed"))
    prompts = tables.read("prompts", paths.prompts("fixed"))
    return fixed, with_ratings(true_scores(prompts, fixed), prompts, fixed, rubric)


def _fixed_judgments(name: str) -> pl.DataFrame:
    return tables.read("judgments", paths.judgments(name, paths.WORLD, "fixed"))


def _readings(params: Params, models: list[str]) -> pl.DataFrame:
    """Return (judge, reading, generation_id, score, truth, tokens): each response's judgment, read in each way.

    `votes`: the mean of the scores in the replies; `after_reasoning`: the mean of the distributions at their place;
    `one_token`: the mean of the distribution where nothing but the score was asked for. Tokens are those of all votes.
    """
    reading = Reading(params.block.judge.rubric, params.block.score.least_mass)
    parts = []
    for name in models:
        judged = _fixed_judgments(name)
        told = judged.filter((pl.col("way") == "votes") & pl.col("digit_logprobs").is_not_null())
        after = told.with_columns(way=pl.lit("one_token"))  # the distribution in a reply, read as if it were all
        for rows, label in ((judged, pl.col("way")), (after, pl.lit("after_reasoning"))):
            values = rows.join(read_votes(reading, rows), on=["generation_id", "way", "vote_id"])
            tokens = pl.col("prompt_tokens") + pl.col("response_tokens")
            parts.append(
                values.select("generation_id", judge=pl.lit(name), reading=label, score="value", tokens=tokens)
            )
    keys = ["judge", "reading", "generation_id"]
    read = pl.concat(parts).group_by(keys).agg(pl.col("score").mean(), pl.col("tokens").sum())
    readings = read.join(_fixed_set(reading.rubric)[1], on="generation_id", how="left")
    return readings.select("judge", "reading", "generation_id", "score", "truth", "tokens").sort(pl.all())


def _differences(frame: pl.DataFrame) -> dict[tuple[str, str], Estimate]:
    return {(row["model"], row["other"]): Estimate(row["difference"], row["se"]) for row in frame.to_dicts()}


def _drifts(frame: pl.DataFrame) -> dict[tuple[str, str], tuple[Estimate, Estimate | None]]:
    """Return (model, other) -> differences in agreement and in leniency."""
    return {
        (row["model"], row["other"]): (
            Estimate(row["agreement"], row["agreement_se"]),
            None if row["leniency"] is None else Estimate(row["leniency"], row["leniency_se"]),
        )
        for row in frame.to_dicts()
    }


def _score_frames(rows: dict[str, Any]) -> dict[str, pl.DataFrame]:
    roles = [
        {"arm": s.arm, "round": s.round, "side": side, "judge": s.row["judge"], "model": model, "split": s.row["split"]}
        for s in lineage.steps(rows)
        for side, model in lineage.side_models(s.row).items()
    ]
    scored = [
        tables.read("scores", paths.scores(**_names(row))).select("judge", "model", "score", split=pl.lit(row["split"]))
        for row in rows["judges"].values()
    ]
    return {"roles": pl.DataFrame(roles), "scored": pl.concat(scored)}


def _names(row: dict[str, str]) -> dict[str, str]:
    return {"judge": row["judge"], "name": row["model"], "split": row["split"]}


def _compute_frames(params: Params, rows: dict[str, Any], rounds: dict[str, Row]) -> dict[str, pl.DataFrame]:
    """Return what each arm needs and what it costs: tokens sampled, read and written by judges, trained on."""
    costs = [
        {"kind": "trained", "key": name, "tokens": tokens_trained(params, name, rows["learns"][name], row)}
        for name, row in rounds.items()
    ]
    for key, row in rows["answers"].items():
        answered = tables.read("generations", paths.generations(row["model"], row["split"]))
        costs.append({"kind": "generated", "key": key, "tokens": answered["response_tokens"].sum()})
    for key, row in rows["judges"].items():
        votes = tables.read("judgments", paths.judgments(**_names(row)))
        tokens = votes.select(pl.col("prompt_tokens") + pl.col("response_tokens")).sum().item()
        costs.append({"kind": "judged", "key": key, "tokens": tokens})
    return {"work": pl.DataFrame(lineage.work(rows)), "costs": pl.DataFrame(costs)}


def tokens_trained(params: Params, name: str, learn: Row, told: Row) -> int:
    """Return the tokens that a training took: `told` counts both sides for DPO; SFT takes the chosen one alone."""
    if learn["trainer"] == plan.DPO:
        return int(told["tokens_trained"])
    chosen = tables.read("pairs", paths.pairs(name)).select(generation_id="chosen_id")
    answers = tables.read("generations", paths.generations(learn["own"], learn["split"]))
    learned = answers.join(chosen, on="generation_id").select(pl.col("prompt_tokens") + pl.col("response_tokens"))
    return int(learned.sum().item()) * params.block.tune.epochs


def _examples(db: Any, rows: dict[str, Any], pair_rows: pl.DataFrame) -> list[Row]:
    """Return the pairs to show, in the plan's order."""
    found = run_file(db, QUERIES / "examples.sql", {"pair_rows": pair_rows}, {"count": EXAMPLES}).to_dicts()
    order = list(rows["learns"])
    return sorted(found, key=lambda row: (order.index(row["model"]), row["kind"], row["pair_id"]))
