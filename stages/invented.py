"""Prompts whose text nobody knows: an import kept them under their key, so that their responses can be looked at."""

import polars as pl

from stages import paths, tables
from stages.errors import TsrError

META = "text_not_known"  # the key in a prompt's `meta`


def count(name: str) -> int:
    """Return how many pairs of `data/pairs/<name>.parquet` are on such prompts; the plan makes none."""
    if paths.of_the_plan():
        return 0
    made_up = pl.col("meta").str.json_path_match(f"$.{META}").is_not_null()
    files = sorted((paths.data() / "prompts").glob("*.parquet"))
    ids = [pid for path in files for pid in tables.read("prompts", path).filter(made_up)["prompt_id"]]
    return tables.read("pairs", paths.pairs(name)).filter(pl.col("prompt_id").is_in(ids)).height if ids else 0


def refuse(name: str) -> None:
    """Raise TsrError where a training would learn from such pairs."""
    if found := count(name):
        told = f"{found} pairs are on prompts whose text is not known, only their key"
        raise TsrError(f"{paths.pairs(name)}: {told}; expected none to train on")
