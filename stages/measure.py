"""Stage measure: what one round's pairs were like, for the judge, for the truth and for the model that learned."""

from typing import Any

import polars as pl

from stages import device, models, paths, tables
from stages.candidates import Sides, read_candidates
from stages.errors import TsrError
from stages.metrics import write_json
from stages.params import Profile
from stages.paths import ROLES
from stages.progress import progress
from stages.runtime import prepare_torch
from stages.sqlrun import SQL, connect, run_file
from stages.truth import true_scores


def run(settings: Profile, name: str, policy: str, sides: Sides) -> None:
    """Write `data/measures/<name>.parquet` and `data/rounds/<name>.json`."""
    pairs = tables.read("pairs", paths.pairs(name))
    if not pairs.height:
        raise TsrError(f"{paths.pairs(name)}: no pairs to measure")
    prompts = tables.read("prompts", paths.prompts(sides.split))
    candidates = read_candidates(sides)
    truth = true_scores(prompts, candidates)
    measured = measure_pairs(settings, name, policy, pairs, truth)
    tables.write("measures", measured, paths.measures(name))
    dropped = tables.read("dropped", paths.dropped(name))
    metrics = summary(pairs, dropped, measured, candidates, truth) | tokens(settings, pairs, candidates, sides)
    curve = pl.read_csv(paths.training_csv(name))
    metrics["grad_norm"] = curve["grad_norm"].mean()
    if "replay_tokens" in curve.columns:  # judging examples that were learned beside the pairs
        metrics["tokens_replayed"] = int(curve["replay_tokens"].sum())
        metrics["tokens_trained"] += metrics["tokens_replayed"]
    write_json(metrics, paths.measures_json(name))


def measure_pairs(settings: Profile, name: str, policy: str, pairs: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Return `measures` rows, one a pair."""
    prepare_torch()
    from stages.features import encode, log_ratio, policy_measures

    on = settings.training.dtype, device.found(settings.training.device)
    tokenizer = models.load_tokenizer(paths.model(policy))
    rows = [
        {side: encode(tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected")}
        for row in pairs.sort("pair_id").iter_rows(named=True)
    ]
    with progress(f"measure {name}", 2 * len(rows), "passes") as advance:  # one model at a time: two may not fit
        model = models.load_model(paths.model(policy), *on)
        columns, before = policy_measures(model, rows, settings.measure.gradient_pairs, advance)
        del model
        model = models.load_model(paths.model(name), *on)
        margins: list[float | None] = []
        for row, ratio in zip(rows, before, strict=True):
            margins.append(settings.dpo.beta * float(log_ratio(model, row) - ratio))
            advance()
    columns["margin"] = margins
    measured = (
        pairs.sort("pair_id")
        .select("pair_id", "model", "chosen_id", "rejected_id")
        .with_columns(**{c: pl.Series(v, dtype=pl.Float64) for c, v in columns.items()})
    )
    for side in ("chosen", "rejected"):
        side_truth = truth.rename({"generation_id": f"{side}_id", "truth": f"{side}_truth"})
        measured = measured.join(side_truth, on=f"{side}_id", how="left")
    return measured.select(list(tables.schema("measures"))).sort("pair_id")


def summary(
    pairs: pl.DataFrame, dropped: pl.DataFrame, measured: pl.DataFrame, candidates: pl.DataFrame, truth: pl.DataFrame
) -> dict[str, Any]:
    """Return the round's metrics: `sql/round.sql` and the counts that are tables of their own."""
    judged = candidates.unique("generation_id").join(truth, on="generation_id", how="left").sort("generation_id")
    frames = {
        "pairs": pairs,
        "dropped": dropped,
        "measures": measured,
        "judged": judged.select("generation_id", "score", "truth"),
    }
    with connect() as db:
        metrics: dict[str, Any] = run_file(db, SQL / "round.sql", frames, {}).to_dicts()[0]
    metrics["dropped_for"] = _counts(dropped["reason"])
    metrics["scores"] = _counts(judged["score"].cast(pl.String).fill_null("none"))
    roles = candidates.select("generation_id", "role").group_by("generation_id").agg(pl.col("role").unique())
    for side in ("chosen", "rejected"):
        metrics[f"{side}_from"] = _origins(pairs[f"{side}_id"], roles)
    return metrics


def _counts(values: pl.Series) -> dict[str, int]:
    counted = values.value_counts().sort(values.name)
    return {str(value): int(count) for value, count in counted.iter_rows()}


def _origins(ids: pl.Series, roles: pl.DataFrame) -> dict[str, int]:
    """Return how many of `ids` came from each role; own wins where a model plays several."""
    found = pl.DataFrame({"generation_id": ids}).join(roles, on="generation_id", how="left")["role"].to_list()
    return {role: sum(next(r for r in ROLES if r in have) == role for have in found) for role in ROLES}


def tokens(settings: Profile, pairs: pl.DataFrame, candidates: pl.DataFrame, sides: Sides) -> dict[str, int]:
    """Return the tokens that this round cost: sampled by the models, read and written by the judge, trained on."""
    judgments = pl.concat(
        [
            tables.read("judgments", paths.judgments(sides.judge, model, sides.split))
            for model in sorted({sides.own, sides.anchor, sides.future})
        ]
    )
    lengths = candidates.unique("generation_id").select("generation_id", "prompt_tokens", "response_tokens")
    trained = sum(
        pairs.join(lengths, left_on=f"{side}_id", right_on="generation_id")
        .select(pl.col("prompt_tokens") + pl.col("response_tokens"))
        .sum()
        .item()
        for side in ("chosen", "rejected")
    )
    return {
        "tokens_generated": int(lengths["response_tokens"].sum()),
        "tokens_judged": int((judgments["prompt_tokens"] + judgments["response_tokens"]).sum()),
        "tokens_trained": int(trained) * settings.dpo.epochs,
    }
