"""Tool health: the verdicts on the plan's run as far as it has come, or how they fared over the seeds of claims."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages import paths, plan
from stages.errors import TsrError
from stages.health import signals, told, verdicts
from stages.health.thresholds import read
from stages.params import Params
from stages.reporting.lineage import steps
from stages.reporting.report_data import fixed_scores

FORMATS = ("text", "json")
FAIL_ON = ("watch", "collapsing")


@dataclass(frozen=True)
class Asked:
    """Which arms (none: all), under whose thresholds, of which claims (empty: the plan's run), and how it is told."""

    arms: tuple[str, ...]
    thresholds: Path | None
    claims: str
    fail_on: str
    form: str


def run(params: Params, asked: Asked) -> int:
    """Print the verdicts; return the exit code: 1 if a round is as bad as `fail_on` or worse, else 0."""
    if asked.form not in FORMATS:
        raise TsrError(f"health: --format {asked.form!r}: expected {' or '.join(FORMATS)}")
    if asked.fail_on not in ("", *FAIL_ON):
        raise TsrError(f"health: --fail-on {asked.fail_on!r}: expected {' or '.join(FAIL_ON)}")
    if asked.claims and (asked.fail_on or asked.arms):
        raise TsrError("health: --claims looks back on all arms; expected neither ARM nor --fail-on beside it")
    limits = read(asked.thresholds)
    if asked.claims:
        from stages.health import hindsight  # scipy

        print(hindsight.told(hindsight.look_back(asked.claims, limits), asked.form))
        return 0
    found = verdicts.judged(_of_plan(params), limits)
    arms = _arms(found, asked.arms)
    found = found.of(arms)
    if asked.form == "json":
        print(told.as_lines(found))
    elif asked.arms:
        print("\n\n".join(told.detail(found, arm) for arm in arms))
    else:
        print(told.summary(found))
    bad = (
        asked.fail_on and not found.rounds.filter(pl.col("verdict").is_in(verdicts.at_least(asked.fail_on))).is_empty()
    )
    return 1 if bad else 0


def _of_plan(params: Params) -> pl.DataFrame:
    planned = plan.read()
    return signals.of_plan(planned, params.block.judge.rubric, _fixed(params, planned))


def _fixed(params: Params, planned: dict[str, Any]) -> pl.DataFrame:
    """Return the scores of the fixed responses under the judges of the rounds that have scored them."""
    judges = sorted({step.row["judge"] for step in steps(planned)})
    there = [judge for judge in judges if paths.judgments(judge, paths.WORLD, "fixed").is_file()]
    if not there or not paths.generations(paths.WORLD, "fixed").is_file():
        return signals.NOT_JUDGED
    return fixed_scores(params, there)


def _arms(found: verdicts.Health, asked: tuple[str, ...]) -> list[str]:
    """Return the arms to show, in the plan's order or as asked. Raises TsrError for one that has no round."""
    there = found.rounds["arm"].unique().to_list()
    known = [arm for arm in plan.read()["lines"] if arm in there]
    if not known:
        raise TsrError(f"{paths.data() / 'pairs'}: no round has pairs yet; run `dvc repro`")
    if missing := [arm for arm in asked if arm not in known]:
        raise TsrError(f"health: arm {missing[0]!r}: has no pairs yet; {', '.join(known)} have")
    return list(asked) or known
