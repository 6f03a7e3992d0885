"""Rows for tests, in the compact form that the cases beside the SQL files use."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from stages import tables
from stages.backends.transformers import Settings, TransformersBackend, open_backend
from stages.candidates import COLUMNS, ROLES
from stages.completing import Work
from stages.generate import generate
from stages.params import Generate, Judge
from stages.parsing import Reading, load_rubric
from stages.sqlrun import connect

Row = dict[str, Any]
GENERATE = Generate(
    backend="transformers", max_failed_share=0.0, temperature=0.8, top_p=1.0, max_new_tokens=6, samples=3
)
JUDGE = Judge(
    backend="transformers",
    max_failed_share=0.0,
    rubric="micro",
    way="votes",
    distribution=False,
    votes=1,
    temperature=0.0,
    top_p=1.0,
    max_new_tokens=4,
)
TYPES = dict.fromkeys(("score", "score_std", "second_score"), pl.Float64)
TYPES |= dict.fromkeys(("prompt_tokens", "response_tokens", "n_votes", "n_parsed"), pl.Int64)


def candidates(given: list[Row]) -> pl.DataFrame:
    """Candidates from rows {prompt, role, id, score, response = id, finish = stop}.

    A role without any row is played by a copy of the own rows, as M0 is its own anchor in round 0.
    """
    own = [row for row in given if row["role"] == "own"]
    played = {row["role"] for row in given}
    copies = [row | {"role": role, "model": "own"} for role in ROLES if role not in played for row in own]
    rows = [_candidate(row) for row in [*given, *copies]]
    return pl.DataFrame(rows, schema={name: TYPES.get(name, pl.String) for name in COLUMNS}, orient="row")


def _candidate(row: Row) -> Row:
    response = row.get("response", row["id"])
    return {
        "prompt_id": row["prompt"],
        "role": row["role"],
        "generation_id": row["id"],
        "model": row.get("model", row["role"]),
        "response": response,
        "finish_reason": row.get("finish", "stop"),
        "prompt_tokens": 1,
        "response_tokens": len(response) + 1,
        "score": row["score"],
        "score_std": row.get("std", 0.0),
        "n_votes": row.get("votes", 3),
        "n_parsed": row.get("parsed", row.get("votes", 3)),
        "second_score": row.get("second", row["score"]),
    }


def prompts(ids: list[str]) -> pl.DataFrame:
    """A prompts table with one made-up message each."""
    return tables.frame(
        "prompts",
        [
            {
                "prompt_id": pid,
                "split": "r0",
                "source": "test",
                "messages": [{"role": "user", "content": pid}],
                "reference": None,
                "meta": "{}",
            }
            for pid in ids
        ],
    )


def generations(ids: list[str], **columns: Any) -> pl.DataFrame:
    """A generations table; `columns` override the same value for every row."""
    base = {
        "model": "M0",
        "model_hash": "h",
        "prompt_id": "p",
        "seed": 1,
        "response": "r",
        "finish_reason": "stop",
        "status": "ok",
        "error": None,
        "prompt_tokens": 1,
        "response_tokens": 2,
        "logprob_sum": -1.0,
        "backend": "none",
    }
    return tables.frame(
        "generations", [{"generation_id": gid, "sample_id": n} | base | columns for n, gid in enumerate(ids)]
    )


def judgments(raw: dict[str, list[str]]) -> pl.DataFrame:
    """A judgments table from generation id -> raw replies."""
    return tables.frame(
        "judgments",
        [
            {
                "generation_id": gid,
                "judge": "J",
                "judge_hash": "h",
                "rubric_hash": "h",
                "way": "votes",
                "vote_id": vote,
                "seed": 1,
                "raw": text,
                "digit_logprobs": None,
                "finish_reason": "stop",
                "status": "ok",
                "error": None,
                "prompt_tokens": 1,
                "response_tokens": 1,
                "backend": "none",
            }
            for gid, texts in raw.items()
            for vote, text in enumerate(texts)
        ],
    )


def embedded(folder: Path, tile: int = 8) -> TransformersBackend:
    """The embedded backend for a model folder."""
    # model_construct: unchecked, so that a test can take any
    return open_backend(folder, Settings.model_construct(tile_rows=tile, dtype="float32", device="cpu"))


def work(share: float = 0.0, store: Path | None = None) -> Work:
    """A table to be filled, with a store of its own unless one is given."""
    return Work("generate/M0/r0", share, store or Path(tempfile.mkdtemp()))


def sampled(folder: Path, ids: list[str], samples: int = 3, seed: int = 7) -> dict[tuple[str, int], Row]:
    """Generation rows by prompt and sample."""
    how = GENERATE.model_copy(update={"samples": samples})
    made = generate(seed, how, "M0", prompts(ids), embedded(folder), work())
    return {(row["prompt_id"], row["sample_id"]): row for row in made.to_dicts()}


READING = Reading("micro", 0.5)


@cache
def _rubric(name: str) -> duckdb.DuckDBPyConnection:
    db = connect()
    load_rubric(db, name)
    return db


def parse(rubric: str, raw: str) -> float | None:
    """The score in a reply that ended by itself; None where it has none or one out of range."""
    said = "select score from (select parse($raw) as score) where score between low() and high()"
    found = _rubric(rubric).execute(said, {"raw": raw}).fetchone()
    return found[0] if found else None


def limits(rubric: str) -> tuple[float, float]:
    """The lowest and the highest score of a rubric."""
    return _rubric(rubric).execute("select low(), high()").fetchone()  # type: ignore[return-value]
