"""Where things lie. Names of models and splits come from the plan and cannot leave their folders."""

import os
import re
from pathlib import Path

from stages.errors import TsrError

DATA = Path("data")
REPORTS = Path("reports")
ROLES = ("own", "anchor", "future")  # of the model versions that answer in a round
WORLD = "world"  # stands as the model of responses that no model made
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def store() -> Path:
    """Return the folder of finished rows; the variable TSR_STORE names another, to be shared by several checkouts."""
    return Path(os.environ.get("TSR_STORE") or ".tsr")


def checked(name: str) -> str:
    """Return `name` if it is safe as a file name, else raise TsrError."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise TsrError(f"name {name!r}: expected letters, digits, dots, dashes and underscores")
    return name


def prompts(split: str) -> Path:
    """Return the path of a prompt split."""
    return DATA / "prompts" / f"{checked(split)}.parquet"


def model(name: str) -> Path:
    """Return the folder of a model version."""
    return DATA / "models" / checked(name)


def generations(name: str, split: str) -> Path:
    """Return the path of one model version's responses to one split."""
    return DATA / "generations" / checked(name) / f"{checked(split)}.parquet"


def judgments(judge: str, name: str, split: str) -> Path:
    """Return the path of one judge's votes on one model version's responses to one split."""
    return DATA / "judgments" / checked(judge) / checked(name) / f"{checked(split)}.parquet"


def scores(judge: str, name: str, split: str) -> Path:
    """Return the path of the scores parsed from those votes."""
    return DATA / "scores" / checked(judge) / checked(name) / f"{checked(split)}.parquet"


def pairs(name: str) -> Path:
    """Return the path of the pairs that model version `name` learns from."""
    return DATA / "pairs" / f"{checked(name)}.parquet"


def dropped(name: str) -> Path:
    """Return the path of the prompts that gave no pair."""
    return DATA / "dropped" / f"{checked(name)}.parquet"


def measures(name: str) -> Path:
    """Return the path of the per-pair measures of one round."""
    return DATA / "measures" / f"{checked(name)}.parquet"


def measures_json(name: str) -> Path:
    """Return the path of one round's metrics."""
    return DATA / "rounds" / f"{checked(name)}.json"


def evaluation_json(name: str) -> Path:
    """Return the path of one model version's metrics."""
    return DATA / "evaluations" / f"{checked(name)}.json"


def training_csv(name: str) -> Path:
    """Return the path of one training's curves."""
    return REPORTS / "training" / f"{checked(name)}.csv"


def metrics_json(name: str) -> Path:
    """Return the path of one model version's line in `dvc metrics show`."""
    return REPORTS / "metrics" / f"{checked(name)}.json"
