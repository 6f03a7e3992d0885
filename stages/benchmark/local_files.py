"""Benchmark data from local files, in the layout that it is published in, as the rows that lm-eval's tasks read.

Under the folder that the user names: `gsm8k/train` and `test`, `arc_challenge/train` and `test`,
`truthfulqa/TruthfulQA`, `human_eval/HumanEval`, each a .jsonl, .jsonl.gz, .parquet or, for TruthfulQA, a .csv.
"""

import io
from pathlib import Path
from typing import Any

import polars as pl

from stages import bounds
from stages.errors import TsrError

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet", ".csv")
CHOICES = pl.Struct({"text": pl.List(pl.String), "label": pl.List(pl.String)})
TARGETS = pl.Struct({"choices": pl.List(pl.String), "labels": pl.List(pl.Int64)})
_SCHEMAS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": pl.String, "answer": pl.String},
    "arc_challenge": {"question": pl.String, "choices": CHOICES, "answerKey": pl.String},
    "truthfulqa": {"Question": pl.String, "Best Answer": pl.String}
    | {"Correct Answers": pl.String, "Incorrect Answers": pl.String},
    "human_eval": {"task_id": pl.String, "prompt": pl.String, "entry_point": pl.String, "test": pl.String},
}
_FILES = {
    "gsm8k": {"train": "train", "test": "test"},
    "arc_challenge": {"train": "train", "test": "test"},
    "truthfulqa": {"validation": "TruthfulQA"},
    "human_eval": {"test": "HumanEval"},
}


def files(root: Path, dataset: str) -> dict[str, Path]:
    """Return split -> file of a data set under `root`. Raises TsrError for one that is not there."""
    return {split: _find(root / dataset, stem) for split, stem in _FILES[dataset].items()}


def rows(dataset: str, path: Path) -> pl.DataFrame:
    """Return a split's rows as lm-eval's task reads them. Raises TsrError for a file of another schema."""
    found = _read(path)
    for name, wanted in _SCHEMAS[dataset].items():
        if name not in found.columns:
            raise TsrError(f"{path}: column {name!r} is missing; {dataset} has: {', '.join(_SCHEMAS[dataset])}")
        if found.schema[name] != wanted:
            raise TsrError(f"{path}: column {name!r} has type {found.schema[name]}; expected {wanted}")
    found = found.select(list(_SCHEMAS[dataset]))
    broken = found.with_row_index("row").filter(pl.any_horizontal(pl.exclude("row").is_null()))
    if broken.height:
        raise TsrError(f"{path}: row {broken['row'][0] + 1} has an empty field; {broken.height} rows are like that")
    if not found.height:
        raise TsrError(f"{path}: no rows")
    return _choices(found) if dataset == "truthfulqa" else found


def _find(folder: Path, stem: str) -> Path:
    there = [path for ending in ENDINGS if (path := folder / f"{stem}{ending}").is_file()]
    if not there:
        raise TsrError(f"{folder}: no {stem} in it; expected {stem}{f' or {stem}'.join(ENDINGS)}")
    return there[0]


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            bounds.check_parquet(path)
            found = pl.read_parquet(path, hive_partitioning=False, glob=False)
            bounds.check_texts(found, path)
            return found
        bounds.check_bytes(path, bounds.JSON_UNFOLDS * path.stat().st_size)
        if path.suffix == ".csv":
            return pl.read_csv(path, infer_schema=False, glob=False)
        raw = bounds.unpacked(path) if path.suffix == ".gz" else path.read_bytes()
        return pl.read_ndjson(io.BytesIO(raw), infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TsrError(f"{path}: not readable: {str(error).splitlines()[0][:200]}") from error


def _choices(found: pl.DataFrame) -> pl.DataFrame:
    """Return TruthfulQA's table as multiple choice, as its authors make it of the same table.

    One true answer, the best one, for mc1; all true ones for mc2. Each ends with a full stop.
    """
    told = [
        {
            "question": question,
            "mc1_targets": _targets([_closed(best)], _split(wrong)),
            "mc2_targets": _targets(_split(right), _split(wrong)),
        }
        for question, best, right, wrong in found.iter_rows()
    ]
    return pl.DataFrame(told, schema={"question": pl.String, "mc1_targets": TARGETS, "mc2_targets": TARGETS})


def _targets(right: list[str], wrong: list[str]) -> dict[str, list[str] | list[int]]:
    return {"choices": right + wrong, "labels": [1] * len(right) + [0] * len(wrong)}


def _split(answers: str) -> list[str]:
    return [_closed(answer) for answer in answers.split(";") if answer.strip()]


def _closed(answer: str) -> str:
    return answer.strip() if answer.strip().endswith(".") else answer.strip() + "."
