"""Where things lie. Names of models and splits come from the plan and cannot leave their folders."""

import os
import re
from pathlib import Path

from stages.errors import TsrError

MODELS = Path("data/models")
REPORTS = Path("reports")
ROLES = ("own", "anchor", "future")  # of the model versions that answer in a round
WORLD = "world"  # stands as the model of responses that no model made
REFERENCE = "reference"  # stands as the model of reference answers, where they are responses among others
HUMAN = "human"  # stands as the judge of ratings that came with such responses
TRUTH = "truth"  # stands as the judge that gives true scores
ORIGIN = "origin"  # stands as the judge that tells a reference answer from a model's
ORACLES = (TRUTH, ORIGIN)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST = 100  # characters of a name; files that are made beside get longer ones, and 255 is the end


def store() -> Path:
    """Return the folder of finished rows; the variable TSR_STORE names another, to be shared by several checkouts."""
    return Path(os.environ.get("TSR_STORE") or ".tsr")


def data() -> Path:
    """Return the folder of the tables: `data`, or the one that `tsr --data` or the variable TSR_DATA names.

    Weights are no table: they stay in `data/models`, whatever the tables are.
    """
    return Path(os.environ.get("TSR_DATA") or "data")


def of_the_plan() -> bool:
    """Return whether the tables in use are those that the plan makes; only `data` is."""
    return data() == Path("data")


def imported(name: str) -> Path:
    """Return the folder of a dataset that came from elsewhere; it has the layout of `data`."""
    return data() / "imported" / checked(name)


def checked(name: str) -> str:
    """Return `name` if it is safe as a file name, else raise TsrError."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise TsrError(f"name {name!r}: expected letters, digits, dots, dashes and underscores")
    if len(name) > LONGEST:
        raise TsrError(f"name {name[:20]!r}...: has {len(name)} characters; expected at most {LONGEST}")
    return name


def prompts(split: str) -> Path:
    """Return the path of a prompt split."""
    return data() / "prompts" / f"{checked(split)}.parquet"


def funnel(folder: str) -> Path:
    """Return the path of the counts of what became of a source's rows, beside the tables that were made of them."""
    return data() / checked(folder) / "funnel.json"


def eft() -> Path:
    """Return the path of the judgments to learn from that a judge made; the micro world has its own in `prompts`."""
    return data() / "eft" / "eft.parquet"


def model(name: str) -> Path:
    """Return the folder of a model version."""
    return MODELS / checked(name)


def generations(name: str, split: str) -> Path:
    """Return the path of one model version's responses to one split."""
    return data() / "generations" / checked(name) / f"{checked(split)}.parquet"


def judgments(judge: str, name: str, split: str) -> Path:
    """Return the path of one judge's votes on one model version's responses to one split."""
    return data() / "judgments" / checked(judge) / checked(name) / f"{checked(split)}.parquet"


def scores(judge: str, name: str, split: str) -> Path:
    """Return the path of the scores parsed from those votes."""
    return data() / "scores" / checked(judge) / checked(name) / f"{checked(split)}.parquet"


def pairs(name: str) -> Path:
    """Return the path of the pairs that model version `name` learns from."""
    return data() / "pairs" / f"{checked(name)}.parquet"


def dropped(name: str) -> Path:
    """Return the path of the prompts that gave no pair."""
    return data() / "dropped" / f"{checked(name)}.parquet"


def measures(name: str) -> Path:
    """Return the path of the per-pair measures of one round."""
    return data() / "measures" / f"{checked(name)}.parquet"


def measures_json(name: str) -> Path:
    """Return the path of one round's metrics."""
    return data() / "rounds" / f"{checked(name)}.json"


def evaluation_json(name: str) -> Path:
    """Return the path of one model version's metrics."""
    return data() / "evaluations" / f"{checked(name)}.json"


def games(judge: str, split: str) -> Path:
    """Return the path of one judge's verdicts on the responses of several model versions to one split."""
    return data() / "games" / checked(judge) / f"{checked(split)}.parquet"


def benchmark(name: str, task: str) -> Path:
    """Return the path of one model version's items of one public benchmark."""
    return data() / "benchmarks" / checked(name) / f"{checked(task)}.parquet"


def training_csv(name: str) -> Path:
    """Return the path of one training's curves; those on imported pairs lie beside the pairs."""
    home = REPORTS if of_the_plan() else data()
    return home / "training" / f"{checked(name)}.csv"


def metrics_json(name: str) -> Path:
    """Return the path of one model version's line in `dvc metrics show`."""
    return REPORTS / "metrics" / f"{checked(name)}.json"
