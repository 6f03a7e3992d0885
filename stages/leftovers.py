"""Outputs that no row of the plan makes any more.

DVC leaves them where they are, and a query over `data/pairs/*.parquet` would count them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages import lockfile, paths


def planned(plan: dict[str, Any]) -> set[Path]:
    """Return every path that the plan's rows make."""
    found = {paths.model("base"), paths.model("M0"), paths.training_csv("M0")}
    for split in ("fixed", "rated"):
        found |= {paths.generations(paths.WORLD, split), paths.scores(paths.HUMAN, paths.WORLD, split)}
    found |= {paths.generations(row["model"], row["split"]) for row in plan["answers"].values()}
    found |= {paths.generations(paths.REFERENCE, split) for split in plan["references"]}
    for row in [*plan["judges"].values(), *plan["oracles"].values()]:
        names = (row["judge"], row["model"], row["split"])
        found |= {paths.judgments(*names), paths.scores(*names), paths.model(row["judge"])}
    for name in plan["learns"]:
        found |= {paths.model(name), paths.training_csv(name), paths.measures_json(name)}
        found |= {paths.pairs(name), paths.dropped(name), paths.measures(name)}
    for name in plan["models"]:
        found |= {paths.generations(name, "eval"), paths.judgments(name, paths.WORLD, "fixed")}
        found |= {paths.evaluation_json(name), paths.metrics_json(name)}
    return found


def leftovers(plan: dict[str, Any]) -> list[Path]:
    """Return the outputs on disk that the plan's rows do not make, sorted."""
    return sorted(set(_present()) - planned(plan))


def _present() -> Iterator[Path]:
    yield from (folder for folder in paths.MODELS.glob("*") if folder.is_dir() and _is_made(folder))
    for table in ("generations", "judgments", "scores", "pairs", "dropped", "measures"):
        yield from (paths.data() / table).rglob("*.parquet")
    for folder in (paths.data() / "rounds", paths.data() / "evaluations", paths.REPORTS / "metrics"):
        yield from folder.glob("*.json")
    yield from (paths.REPORTS / "training").glob("*.csv")


def _is_made(folder: Path) -> bool:
    """Return whether a stage made a model folder: a judge that the user put there is no leftover."""
    return not lockfile.LOCK_FILE.exists() or folder in {out.path for out in lockfile.outputs()}
