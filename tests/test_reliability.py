"""What `make test-faults` has written, and what the docs quote of it."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "reports/reliability.json"
FOUND = json.loads(FILE.read_text()) if FILE.is_file() else {}
pytestmark = pytest.mark.skipif(not FOUND, reason="`make test-faults` has not run here")


def test_every_fault_was_survived_and_the_sums_are_right() -> None:
    for one in ("injected", "survived"):
        assert FOUND[one] == sum(row[one] for row in FOUND["faults"]) == sum(row[one] for row in FOUND["by_fault"])
    assert FOUND["survived"] == FOUND["injected"] > 0
    assert FOUND["finished_rows"]["kept through kills"] > 0


def test_every_kind_of_stage_was_killed_a_hundred_times_together() -> None:
    from pipeline_file import STAGES

    killed = {row["struck"]: row["injected"] for row in FOUND["faults"] if row["fault"] == "kill -9"}
    assert killed.keys() >= {*STAGES, "dvc repro"}
    assert sum(killed[stage] for stage in STAGES) >= 100


def test_every_kind_of_fault_was_put_in_and_the_soak_was_whole() -> None:
    assert {row["fault"] for row in FOUND["by_fault"]} == {
        *("kill -9", "disk full", "truncated", "flipped bit", "clock set back", "two runs at once", "remote vanished"),
        *("Ctrl-C", "SIGTERM", "kill -9 of the first process"),
    }
    assert FOUND["soak"]["generations"] == FOUND["soak"]["judgments"] == 100_000


def test_the_readme_counts_the_faults_that_were_survived() -> None:
    assert f"`make test-faults`, which put {FOUND['survived']} kills" in (ROOT / "README.md").read_text()
