"""Stage report: the run in numbers, plots and pairs. Reads the plan's rows only; needs no model.

Writes `reports/index.html` (one page, opens offline), `reports/headline.svg` (the README's picture),
`reports/metrics.json` and `reports/plots/*.csv`.
"""

import os
from pathlib import Path
from typing import Any

import polars as pl

from stages import paths
from stages.metrics import rounded, write_json
from stages.params import Params
from stages.reporting import report_tables
from stages.reporting.headline import headline
from stages.reporting.page import render
from stages.reporting.report_data import RunData, read_run


def run(params: Params) -> None:
    """Write the report of the run that the plan describes."""
    found = read_run(params)
    page = render(params, found)
    write_json(report_tables.metrics(found), paths.REPORTS / "metrics.json")
    for name, rows in plots(found).items():
        write_text(csv(rows), paths.REPORTS / "plots" / f"{name}.csv")
    write_text(headline(found), paths.REPORTS / "headline.svg")
    write_text(page, paths.REPORTS / "index.html")
    print(f"report: {paths.REPORTS / 'index.html'}")


def plots(found: RunData) -> dict[str, list[dict[str, Any]]]:
    """Return the tidy tables behind the plots, by file name."""
    return {
        "quality": report_tables.quality(found),
        "gap": report_tables.gap(found),
        "drops": report_tables.drops(found),
        "judge": report_tables.judge(found),
        "scores": found.scores,
        "learning": report_tables.learning(found),
        "compute": report_tables.compute(found),
    }


def csv(rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV, rounded as the metrics are, nulls empty."""
    return pl.DataFrame([rounded(row) for row in rows], infer_schema_length=None).write_csv()


def write_text(text: str, path: Path) -> None:
    """Write a text file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
