"""What an answered and judged benchmark leaves: items as a table, figures as JSON with what they rest on."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import paths, tables
from stages.backends import Backend
from stages.chat_bench.questions import Question
from stages.exporting.folder import made_by
from stages.ids import content_id, file_sha256, seed32_for
from stages.metrics import write_json

RESAMPLES = 1000  # draws of the questions, for the intervals


def interval(seed: int, sums: NDArray[np.float64], weights: NDArray[np.float64]) -> list[float] | None:
    """Return the 95% interval of sum(sums) / sum(weights), a value a question, by drawing questions again."""
    if not weights.any():
        return None
    draws = np.random.default_rng(seed32_for(seed, "interval")).integers(len(sums), size=(RESAMPLES, len(sums)))
    drawn = weights[draws].sum(axis=1)
    low, high = np.quantile((sums[draws].sum(axis=1) / np.where(drawn > 0, drawn, 1))[drawn > 0], [0.025, 0.975])
    return [round(float(low), 6), round(float(high), 6)]


def keep(
    task: str,
    version: str,
    model: str,
    judge: str,
    engines: tuple[Backend, Backend],
    questions: list[Question],
    judged: pl.DataFrame,
    told: dict[str, Any],
    files: dict[str, Path],
) -> None:
    """Write the items and the figures of one benchmark.

    `engines` are the model's and the judge's; `judged` has question, metric, response, value, reason and raw.
    """
    answers, judges = engines
    items = pl.DataFrame(
        [(q.name, q.place, content_id("item", q.turns, q.references)) for q in questions],
        schema={"question": pl.String, "item": pl.Int64, "item_hash": pl.String},
        orient="row",
    )
    columns = {
        "model": model,
        "model_hash": answers.model_hash,
        "task": task,
        "task_version": version,
        "filter": judge,
        "judge": judge,
        "judge_hash": judges.model_hash,
    }
    rows = (
        judged.join(items, on="question", how="left")
        .rename({"reason": "note"})
        .with_columns(**{name: pl.lit(value) for name, value in columns.items()})
    )
    tables.write("benchmarks", rows.select(list(tables.schema("benchmarks"))), paths.benchmark(model, task))
    lineage = {
        "made_by": made_by(),
        "task": task,
        "judge_prompts": version,
        "model": {"name": model, "model_hash": answers.model_hash, "backend": answers.name},
        "judge": {"name": judge, "model_hash": judges.model_hash, "backend": judges.name},
        "files": {name: {"name": path.name, "sha256": file_sha256(path)} for name, path in files.items()},
        "questions": len(questions),
    }
    place = paths.REPORTS / "evaluation" / paths.checked(model) / f"{task}.json"
    write_json(lineage | told, place)
    print(f"written: {place}, {paths.benchmark(model, task)}")
