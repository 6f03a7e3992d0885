"""Made-up results of `tsr claims`: every table by its contract, every number said by the test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages import tables
from stages.claims.collecting import NAMES
from stages.ids import content_id

Row = dict[str, Any]
EMPTY = {"string": "x", "int": 0, "float": 0.0}
Says = Callable[[str, int, str, int], Row]  # judge, seed, arm, round: columns of lines, models and rounds


def filled(table: str, **known: Any) -> Row:
    """A row with what is known; elsewhere nothing where the contract allows it, and else the emptiest value."""
    columns = tables.contract(table)["columns"]
    blank = {name: None if spec.get("nullable") else EMPTY[spec["type"]] for name, spec in columns.items()}
    return blank | {name: value for name, value in known.items() if name in columns}


def make(home: Path, rounds: dict[str, dict[str, int]], seeds: list[int], says: Says, **of_runs: Any) -> None:
    """Write the tables of some judges, each with its arms and their rounds. `says` may set `ended`, as a line does."""
    found: dict[str, list[Row]] = {name: [] for name in NAMES}
    for judge, arms in rounds.items():
        for seed in seeds:
            told = {"changed": "{}", "code": "c", "profile": "micro", "settings": f"settings {judge}"} | of_runs
            run = content_id("run", judge, seed, told["settings"])
            found["claims_runs"].append(filled("claims_runs", run=run, seed=seed, judge=judge, **told))
            models = {}
            for arm, last in arms.items():
                for number in range(last + 1):
                    model = f"{arm}-{number}" if number else "M0"
                    here = {"run": run, "arm": arm, "round": number, "model": model} | says(judge, seed, arm, number)
                    found["claims_lines"].append(filled("claims_lines", **here))
                    models[model] = filled("claims_models", **here)
                    if number and not here.get("ended"):
                        found["claims_rounds"].append(filled("claims_rounds", **here))
            found["claims_models"] += models.values()
    for name, rows in found.items():
        tables.write(name, tables.frame(name, rows), home / f"{name}.parquet")
