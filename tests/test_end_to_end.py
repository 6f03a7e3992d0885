"""One tiny `dvc repro` in a copy of the repository, and what a user does next with it."""

import json
import re
import shutil
from collections.abc import Iterator

import pytest
import yaml
from tiny_project import ROOT, Project

OWN_CHECKOUT = {"importing.md", "sharing.md", "walkthrough.md"}  # console.py runs these pages


def documented_commands() -> list[str]:
    """Return what stands behind `$` in the console blocks of README and docs."""
    pages = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in OWN_CHECKOUT)]
    blocks = [block for page in pages for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)]
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def edited(project) -> Iterator[Project]:
    """The project, with params, plan and code put back afterwards."""
    kept = {name: (project.folder / name).read_bytes() for name in ("params.yaml", "stages/plan.yaml")}
    yield project
    for name, content in kept.items():
        (project.folder / name).write_bytes(content)
    project.run("dvc", "repro", "-q")  # a stage that failed has lost its outputs: DVC removes them first


def test_repro_leaves_every_table_and_the_report(project):
    plan = yaml.safe_load((project.folder / "stages/plan.yaml").read_text())
    for name in plan["learns"]:
        for table in ("pairs", "dropped", "measures"):
            assert (project.folder / f"data/{table}/{name}.parquet").is_file()
        assert json.loads((project.folder / f"data/rounds/{name}.json").read_text())["prompts"] == 24
    assert "<svg" in (project.folder / "reports/index.html").read_text()


def test_second_repro_does_nothing(project):
    lock = (project.folder / "dvc.lock").read_bytes()
    assert "up to date" in project.run("dvc", "repro")
    assert (project.folder / "dvc.lock").read_bytes() == lock


def test_verify_passes_and_catches_one_flipped_byte(project):
    assert "all outputs match" in project.run("tsr", "verify")
    path = project.folder / "data/scores/M0/M0/r0.parquet"
    kept = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(kept[:40] + bytes([kept[40] ^ 1]) + kept[41:])
    told = project.run("tsr", "verify", ok=False)
    path.write_bytes(kept)
    assert project.code == 2
    assert "data/scores/M0/M0/r0.parquet" in told


def test_changing_beta_makes_no_first_round_response_again(edited):
    edited.edit_params(lambda p: p["micro"]["dpo"].update(beta=0.3))
    stages = edited.changed()
    assert "dpo@sr-1" in stages
    assert not stages & {"prepare", "base", "sft", "generate@M0.r0", "judge@M0.M0.r0", "score@M0.M0.r0", "pair@sr-1"}


def test_mending_the_parser_judges_nothing_again(edited):
    path = edited.folder / "stages/rubrics/micro/parse.sql"
    kept = path.read_text()
    path.write_text(kept + "\n-- mended\n")
    assert "run `tsr plan`" in edited.run("tsr", "plan", "--check", ok=False)
    edited.run("tsr", "plan")
    stages = edited.changed()
    path.write_text(kept)
    assert "score@M0.M0.r0" in stages
    assert not {s for s in stages if s.startswith(("generate@", "judge@", "evaluate@", "dpo@"))}


def test_one_more_round_runs_only_its_own_stages_and_the_report(edited):
    edited.edit_params(lambda p: p["arms"].update(sr=2))
    edited.run("tsr", "plan")
    own = {"generate@sr-1.r1", "judge@sr-1.sr-1.r1", "score@sr-1.sr-1.r1"}
    own |= {f"{stage}@sr-2" for stage in ("pair", "dpo", "measure", "evaluate")}
    assert edited.changed() == own | {"report"}


def test_a_stale_plan_stops_the_first_stage(edited):
    edited.edit_params(lambda p: p["arms"].update(sr=2))
    edited.edit_params(lambda p: p["micro"]["pair"].update(min_gap=0.5))
    told = edited.run("dvc", "repro", ok=False)
    assert edited.code != 0
    assert "run `tsr plan`" in told
    assert "failed to reproduce 'pair@sr-1'" in told


def test_the_files_can_be_queried_as_they_lie(project):
    query = "select model, avg(score) from 'data/scores/**/*.parquet' group by all order by all"
    out = project.run("duckdb", "-csv", "-c", query)
    assert [line.split(",")[0] for line in out.splitlines()] == ["model", "M0", "sr-1"]


def test_dvc_shows_metrics_and_plots(project):
    assert "gap" in project.run("dvc", "metrics", "show")
    assert "file://" in project.run("dvc", "plots", "show")


# These run for minutes; the fixture and the slow test run them.
# Tests of their own run these, small.
LONG = ("dvc repro", "dvc exp run", "python tests/bench_", "tsr health --claims")


@pytest.mark.parametrize("command", [c for c in documented_commands() if not c.startswith(LONG)])
def test_the_commands_in_the_docs_run(project, command):
    assert project.run("bash", "-c", command).strip() or "diff" in command


@pytest.mark.slow
def test_two_runs_from_nothing_give_the_same_lock_file(project):
    kept = (project.folder / "dvc.lock").read_bytes()
    made = [path for path in (project.folder / "data").iterdir() if path.is_dir()]
    for path in [*made, project.folder / ".dvc/cache", project.folder / ".dvc/tmp"]:
        shutil.rmtree(path)
    (project.folder / "dvc.lock").unlink()
    project.run("dvc", "repro", "-q")
    assert (project.folder / "dvc.lock").read_bytes() == kept
    assert project.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_an_experiment_changes_what_follows_and_can_be_compared(project):
    project.run("dvc", "exp", "run", "-S", "micro.dpo.beta=0.3")
    assert "0.3" in project.run("dvc", "params", "diff")
    assert "margin" in project.run("dvc", "metrics", "diff")
    assert "all outputs match" in project.run("tsr", "verify")
