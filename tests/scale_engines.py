"""The rule of `future_guided` with its scores as most would write it: in polars, in pandas, in Python over dicts.

Each function reads the tables that `scale_data.build` makes, all of them in memory, and writes scores, pairs and
dropped prompts. They hold for that data: replies are read by one pattern, where stages/rubrics/additive knows more.
"""

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from scale_data import JUDGE, MODELS, SPLIT

from stages import tables
from stages.ids import content_id

ROLES = dict(zip(MODELS, ("anchor", "own", "future"), strict=True))
NAME, STRATEGY = "bench", "future_guided"
SAID = r"(?:\A|\n)\**(?:Final score|Score): ([0-9]+)(?:/5)?[*.]*$"
VOTE = ["generation_id", "raw", "finish_reason"]
ANSWER = ["generation_id", "prompt_id", "model", "response", "finish_reason", "response_tokens"]
SIDE = ["prompt_id", "role"]


def answers_of(data: Path, model: str) -> Path:
    return data / "generations" / model / f"{SPLIT}.parquet"


def votes_of(data: Path, model: str) -> Path:
    return data / "judgments" / JUDGE / model / f"{SPLIT}.parquet"


def prompts_of(data: Path) -> Path:
    return data / "prompts" / f"{SPLIT}.parquet"


def in_polars(data: Path, out: Path) -> None:
    found = []
    for model, role in ROLES.items():
        answers = pl.read_parquet(answers_of(data, model), columns=ANSWER)
        votes = pl.read_parquet(votes_of(data, model), columns=VOTE)
        said = pl.when(pl.col("finish_reason") == "stop").then(pl.col("raw").str.extract(SAID).cast(pl.Float64))
        counted = (
            votes.with_columns(value=said)
            .with_columns(value=pl.when(pl.col("value").is_between(0, 5)).then("value"))
            .group_by("generation_id")
            .agg(
                n_votes=pl.len().cast(pl.Int64),
                n_parsed=pl.col("value").count().cast(pl.Int64),
                score=pl.col("value").mean(),
                score_std=pl.col("value").std(ddof=0),
            )
        )
        n_votes, n_parsed = pl.col("n_votes"), pl.col("n_parsed")
        status = pl.when(n_votes == 0).then(pl.lit("no_votes")).when(n_parsed == 0).then(pl.lit("unparsed"))
        status = status.when(n_parsed < n_votes).then(pl.lit("partial")).otherwise(pl.lit("ok"))
        scores = (
            answers.select("generation_id", "model")
            .join(counted, on="generation_id", how="left")
            .with_columns(n_votes.fill_null(0), n_parsed.fill_null(0), judge=pl.lit(JUDGE))
            .with_columns(parse_status=status)
        )
        write(out / f"{model}.parquet", scores.sort("generation_id"), "scores")
        beside = scores.select("generation_id", "score")
        found.append(answers.join(beside, on="generation_id", how="left").with_columns(role=pl.lit(role)))
    candidates = pl.concat(found)
    is_stop = pl.col("finish_reason") == "stop"
    offers = candidates.filter(is_stop & pl.col("score").is_not_null()).select(*SIDE, "generation_id", "score")
    best = offers.sort("score", "generation_id", descending=[True, False]).unique(
        SIDE, keep="first", maintain_order=True
    )
    worst = offers.sort("score", "generation_id").unique(SIDE, keep="first", maintain_order=True)
    counts = candidates.group_by("prompt_id").agg(
        n_roles=pl.col("role").n_unique(),
        n_answered=((pl.col("role") == "own") & (pl.col("finish_reason") != "error")).sum(),
        n_finished=((pl.col("role") == "own") & is_stop).sum(),
        n_usable=((pl.col("role") == "own") & is_stop & pl.col("score").is_not_null()).sum(),
    )
    prompts = pl.read_parquet(prompts_of(data), columns=["prompt_id", "messages"])
    chosen = prompts.join(counts, on="prompt_id", how="left")
    for role in ROLES.values():
        for name, ends in (("best", best), ("worst", worst)):
            side = ends.filter(role=role).select(
                "prompt_id",
                pl.col("generation_id").alias(f"{role}_{name}"),
                pl.col("score").alias(f"{role}_{name}_score"),
            )
            chosen = chosen.join(side, on="prompt_id", how="left")
    ahead = pl.col("future_best_score") > pl.col("own_best_score")
    below = pl.col("anchor_worst_score") < pl.col("own_worst_score")
    chosen = chosen.with_columns(
        chosen_id=pl.when(ahead).then("future_best").otherwise("own_best"),
        rejected_id=pl.when(below).then("anchor_worst").otherwise("own_worst"),
    )
    for side in ("chosen", "rejected"):
        told = candidates.select(
            pl.col("generation_id").alias(f"{side}_id"),
            pl.col("model").alias(f"{side}_model"),
            pl.col("score").alias(f"{side}_score"),
            pl.col("response").alias(f"{side}_text"),
            pl.col("response_tokens").alias(f"{side}_tokens"),
        )
        chosen = chosen.join(told, on=f"{side}_id", how="left")
    better, worse = pl.col("chosen_score"), pl.col("rejected_score")
    reason = pl.when(pl.col("n_roles").fill_null(0) < 3).then(pl.lit("missing_side"))
    for column, why in (("n_answered", "failed"), ("n_finished", "truncated"), ("n_usable", "unscored")):
        reason = reason.when(pl.col(column) == 0).then(pl.lit(why))
    reason = reason.when(better <= worse).then(pl.lit("tie"))
    reason = reason.when(pl.col("chosen_text") == pl.col("rejected_text")).then(pl.lit("identical"))
    ended = chosen.with_columns(reason=reason, model=pl.lit(NAME), strategy=pl.lit(STRATEGY)).sort("prompt_id")
    pairs = ended.filter(pl.col("reason").is_null())
    ids = [content_id("pair", NAME, STRATEGY, *row) for row in pairs.select("chosen_id", "rejected_id").iter_rows()]
    message = {side: pl.struct(role=pl.lit("assistant"), content=f"{side}_text") for side in ("chosen", "rejected")}
    pairs = pairs.with_columns(
        pair_id=pl.Series(ids, dtype=pl.String),
        prompt="messages",
        gap=better - worse,
        length_delta=pl.col("chosen_tokens") - pl.col("rejected_tokens"),
        **{side: pl.concat_list(one) for side, one in message.items()},
    )
    write(out / "pairs.parquet", pairs, "pairs")
    write(out / "dropped.parquet", ended.filter(pl.col("reason").is_not_null()), "dropped")


def in_pandas(data: Path, out: Path) -> None:
    import pandas as pd

    found = []
    for model, role in ROLES.items():
        answers = pd.read_parquet(answers_of(data, model), columns=ANSWER)
        votes = pd.read_parquet(votes_of(data, model), columns=VOTE)
        said = votes["raw"].str.extract(SAID, expand=False).where(votes["finish_reason"] == "stop").astype("float64")
        votes["value"] = said.where(said.between(0, 5))
        grouped = votes.groupby("generation_id")["value"]
        counted = pd.DataFrame(
            {
                "n_votes": grouped.size(),
                "n_parsed": grouped.count(),
                "score": grouped.mean(),
                "score_std": grouped.std(ddof=0),
            }
        )
        scores = answers[["generation_id", "model"]].join(counted, on="generation_id")
        scores[["n_votes", "n_parsed"]] = scores[["n_votes", "n_parsed"]].fillna(0).astype("int64")
        scores["judge"], scores["parse_status"] = JUDGE, "ok"
        scores.loc[scores["n_parsed"] < scores["n_votes"], "parse_status"] = "partial"
        scores.loc[scores["n_parsed"] == 0, "parse_status"] = "unparsed"
        scores.loc[scores["n_votes"] == 0, "parse_status"] = "no_votes"
        write(out / f"{model}.parquet", scores.sort_values("generation_id"), "scores")
        found.append(
            answers.merge(scores[["generation_id", "score"]], on="generation_id", how="left").assign(role=role)
        )
    candidates = pd.concat(found, ignore_index=True)
    is_own, is_stop = candidates["role"] == "own", candidates["finish_reason"] == "stop"
    candidates["answered"] = is_own & (candidates["finish_reason"] != "error")
    candidates["finished"] = is_own & is_stop
    candidates["usable"] = is_own & is_stop & candidates["score"].notna()
    by_prompt = candidates.groupby("prompt_id")
    counts = by_prompt[["answered", "finished", "usable"]].sum().assign(n_roles=by_prompt["role"].nunique())
    offers = candidates.loc[is_stop & candidates["score"].notna(), [*SIDE, "generation_id", "score"]]
    best = offers.sort_values(["score", "generation_id"], ascending=[False, True]).drop_duplicates(SIDE)
    worst = offers.sort_values(["score", "generation_id"]).drop_duplicates(SIDE)
    chosen = pd.read_parquet(prompts_of(data), columns=["prompt_id", "messages"]).join(counts, on="prompt_id")
    for role in ROLES.values():
        for name, ends in (("best", best), ("worst", worst)):
            side = ends[ends["role"] == role].set_index("prompt_id")[["generation_id", "score"]]
            side.columns = [f"{role}_{name}", f"{role}_{name}_score"]
            chosen = chosen.join(side, on="prompt_id")
    ahead = chosen["future_best_score"] > chosen["own_best_score"]
    below = chosen["anchor_worst_score"] < chosen["own_worst_score"]
    chosen["chosen_id"] = chosen["future_best"].where(ahead, chosen["own_best"])
    chosen["rejected_id"] = chosen["anchor_worst"].where(below, chosen["own_worst"])
    by_id = candidates.set_index("generation_id")[["model", "score", "response", "response_tokens"]]
    for side in ("chosen", "rejected"):
        told = by_id.set_axis([f"{side}_{name}" for name in ("model", "score", "text", "tokens")], axis=1)
        chosen = chosen.join(told, on=f"{side}_id")
    reason = pd.Series(None, index=chosen.index, dtype="object")
    reason[chosen["chosen_text"] == chosen["rejected_text"]] = "identical"
    reason[chosen["chosen_score"] <= chosen["rejected_score"]] = "tie"
    for column, why in (("usable", "unscored"), ("finished", "truncated"), ("answered", "failed")):
        reason[chosen[column] == 0] = why
    reason[~(chosen["n_roles"] == 3)] = "missing_side"
    ended = chosen.assign(reason=reason, model=NAME, strategy=STRATEGY).sort_values("prompt_id")
    pairs = ended[ended["reason"].isna()].rename(columns={"messages": "prompt"})
    pairs["pair_id"] = [
        content_id("pair", NAME, STRATEGY, *ids) for ids in zip(pairs["chosen_id"], pairs["rejected_id"], strict=True)
    ]
    for side in ("chosen", "rejected"):
        pairs[side] = [[{"role": "assistant", "content": text}] for text in pairs[f"{side}_text"]]
    pairs["gap"] = pairs["chosen_score"] - pairs["rejected_score"]
    pairs["length_delta"] = (pairs["chosen_tokens"] - pairs["rejected_tokens"]).astype("int64")
    write(out / "pairs.parquet", pairs, "pairs")
    write(out / "dropped.parquet", ended[ended["reason"].notna()], "dropped")


def in_dicts(data: Path, out: Path) -> None:
    by_id: dict[str, dict[str, Any]] = {}
    by_side: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for model, role in ROLES.items():
        answers = pq.read_table(answers_of(data, model), columns=ANSWER).to_pylist()
        values: dict[str, list[float | None]] = defaultdict(list)
        for vote in pq.read_table(votes_of(data, model), columns=VOTE).to_pylist():
            values[vote["generation_id"]].append(vote_value(vote))
        scores = []
        for answer in answers:
            row = score_row(answer, values[answer["generation_id"]])
            scores.append(row)
            answer["score"] = row["score"]
            by_id[answer["generation_id"]] = answer
            by_side[answer["prompt_id"]][role].append(answer)
        write(out / f"{model}.parquet", scores, "scores")
    pairs, dropped = [], []
    for prompt in pq.read_table(prompts_of(data), columns=["prompt_id", "messages"]).to_pylist():
        row = prompt | {"model": NAME, "strategy": STRATEGY}
        chosen, rejected, reason = verdict(by_side[prompt["prompt_id"]])
        if reason:
            dropped.append(row | {"reason": reason})
        else:
            pairs.append(row | pair_row(prompt["messages"], chosen, rejected))
    write(out / "pairs.parquet", pairs, "pairs")
    write(out / "dropped.parquet", dropped, "dropped")


READ = re.compile(SAID)


def vote_value(vote: dict[str, Any]) -> float | None:
    said = READ.search(vote["raw"]) if vote["finish_reason"] == "stop" else None
    return float(said[1]) if said and 0 <= float(said[1]) <= 5 else None


def score_row(answer: dict[str, Any], values: list[float | None]) -> dict[str, Any]:
    parsed = [value for value in values if value is not None]
    mean = sum(parsed) / len(parsed) if parsed else None
    status = "ok" if len(parsed) == len(values) else "partial"
    status = "no_votes" if not values else status if parsed else "unparsed"
    return {
        "generation_id": answer["generation_id"],
        "model": answer["model"],
        "judge": JUDGE,
        "n_votes": len(values),
        "n_parsed": len(parsed),
        "score": mean,
        "score_std": math.sqrt(sum((value - mean) ** 2 for value in parsed) / len(parsed)) if parsed else None,
        "parse_status": status,
    }


def verdict(sides: dict[str, list[dict[str, Any]]]) -> tuple[Any, Any, str | None]:
    own = sides.get("own", [])
    finished = {role: [row for row in rows if row["finish_reason"] == "stop"] for role, rows in sides.items()}
    usable = {role: [row for row in rows if row["score"] is not None] for role, rows in finished.items()}
    if len(sides) < len(ROLES):
        return None, None, "missing_side"
    if all(row["finish_reason"] == "error" for row in own):
        return None, None, "failed"
    if not finished["own"]:
        return None, None, "truncated"
    if not usable["own"]:
        return None, None, "unscored"
    best = {r: min(rows, key=lambda x: (-x["score"], x["generation_id"])) for r, rows in usable.items() if rows}
    worst = {r: min(rows, key=lambda x: (x["score"], x["generation_id"])) for r, rows in usable.items() if rows}
    is_ahead = "future" in best and best["future"]["score"] > best["own"]["score"]
    is_below = "anchor" in worst and worst["anchor"]["score"] < worst["own"]["score"]
    chosen = best["future" if is_ahead else "own"]
    rejected = worst["anchor" if is_below else "own"]
    if chosen["score"] <= rejected["score"]:
        return chosen, rejected, "tie"
    return chosen, rejected, "identical" if chosen["response"] == rejected["response"] else None


def pair_row(messages: list[dict[str, str]], chosen: dict[str, Any], rejected: dict[str, Any]) -> dict[str, Any]:
    row = {"prompt": messages, "gap": chosen["score"] - rejected["score"]}
    row["pair_id"] = content_id("pair", NAME, STRATEGY, chosen["generation_id"], rejected["generation_id"])
    row["length_delta"] = chosen["response_tokens"] - rejected["response_tokens"]
    for side, answer in (("chosen", chosen), ("rejected", rejected)):
        row[side] = [{"role": "assistant", "content": answer["response"]}]
        row[f"{side}_id"] = answer["generation_id"]
        row |= {f"{side}_{column}": answer[column] for column in ("model", "score")}
    return row


def write(path: Path, rows: Any, table: str) -> None:
    """Write the columns of a contract table from a frame of polars or pandas, or from dicts; nothing is checked."""
    schema = pl.DataFrame(schema=tables.schema(table)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, pl.DataFrame):
        rows.select(schema.names).write_parquet(path, compression_level=3)
        return
    made = pa.Table.from_pylist if isinstance(rows, list) else pa.Table.from_pandas
    options = {} if isinstance(rows, list) else {"preserve_index": False}
    pq.write_table(made(rows, schema=schema, **options), path, compression="zstd", compression_level=3)
