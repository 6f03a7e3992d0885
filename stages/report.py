"""Stage report: the run in numbers, plots and pairs. Reads the plan's rows only; needs no model.

Writes `reports/index.html` (one page, opens offline), `reports/headline.svg` (the README's picture),
`reports/metrics/*.json`, one a model version, and `reports/plots/*.csv`.
"""

from typing import Any

import polars as pl

from stages import paths
from stages.files import write_text
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
    for model, numbers in report_tables.metrics(found).items():
        write_json(numbers, paths.metrics_json(model))
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
