"""What is there already costs nothing: finished stages, finished rows, and only those of the profile in force."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_project import Project


@pytest.fixture
def untouched(project: Project) -> Iterator[Project]:
    """The project, with its params put back afterwards. Nothing runs in between, so nothing else has changed."""
    kept = (project.folder / "params.yaml").read_bytes()
    yield project
    (project.folder / "params.yaml").write_bytes(kept)


def told(project: Project, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.run("tsr", "forecast", "--format", "json", *words))
    return found


def stages(found: dict[str, Any], *, done: bool) -> set[str]:
    return {stage["stage"] for stage in found["stages"] if stage["done"] == done}


def test_a_finished_run_has_nothing_left_and_its_lengths_are_measured(project: Project) -> None:
    found = told(project)
    assert stages(found, done=False) <= {"report"}  # others use this run too, and make what the report shows
    assert {one["origin"] for one in found["lengths"].values() if "origin" in one} == {"measured"}
    assert 0 < found["lengths"]["yields"]["self_rewarding"] <= 1
    assert all(room["left"] == 0 for room in found["disk"])
    answered = next(stage for stage in found["stages"] if stage["stage"] == "generate@M0.r0")
    assert answered["requests"] == 24 * 4
    assert answered["measured"]
    trained = next(stage for stage in found["stages"] if stage["stage"] == "dpo@sr-1")
    rounds = json.loads((project.folder / "data/rounds/sr-1.json").read_text())
    assert trained["trained"] == rounds["tokens_trained"]


def test_a_change_leaves_what_comes_before_it(untouched: Project) -> None:
    untouched.edit_params(lambda p: p["micro"]["dpo"].update(beta=0.3))
    found = told(untouched)
    assert stages(found, done=True) >= {"sft", "generate@M0.r0", "judge@M0.M0.r0", "pair@sr-1", "evaluate@M0"}
    assert stages(found, done=False) >= {"dpo@sr-1", "generate@sr-1.r0", "judge@M0.sr-1.r0", "dpo@tsr-1", "report"}


def test_finished_rows_of_a_stage_that_was_stopped_are_counted(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables that are gone, whose rows the store has all, and a store that has lost some of them."""
    gone = [project.folder / f"data/{name}" for name in ("generations/M0/eval.parquet", "judgments/M0/M0/r0.parquet")]
    left = stages(told(project), done=False)
    kept = {path: path.rename(tmp_path / path.name) for path in gone}
    try:
        found = {stage["stage"]: stage for stage in told(project)["stages"]}
        for name in ("evaluate@M0", "judge@M0.M0.r0"):
            assert not found[name]["done"]
            assert found[name]["rows_kept"] == found[name]["requests"] > 0
        store = tmp_path / "store"
        shutil.copytree(project.folder / ".tsr", store)
        for shard in store.rglob("*.rows"):
            lines = shard.read_bytes().splitlines(keepends=True)
            shard.write_bytes(b"".join(lines[: len(lines) // 2]))
        monkeypatch.setenv("TSR_STORE", str(store))
        fewer = {stage["stage"]: stage for stage in told(project)["stages"]}
        assert 0 < fewer["judge@M0.M0.r0"]["rows_kept"] < found["judge@M0.M0.r0"]["rows_kept"]
    finally:
        for path, place in kept.items():
            place.rename(path)
    assert stages(told(project), done=False) == left <= {"report"}


def test_rates_that_a_run_wrote_down_tell_its_time(project: Project, tmp_path: Path) -> None:
    seconds = {"sft": 20.0, "generate": 2.0, "judge": 3.0, "dpo": 4.0, "measure": 2.0, "evaluate": 5.0}
    lines = []
    for stage in told(project)["stages"]:
        command = stage["stage"].replace("@", ".").split(".")
        works = stage["requests"] or stage["trained"] or stage["forward"]  # nobody rates the micro world's responses
        model = seconds.get(command[0], 0.0) if works else 0.0
        if command[0] in seconds:
            lines.append({"command": command, "seconds": model + 1, "model_seconds": model})
    (tmp_path / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = told(project, "--timings", str(tmp_path / "timings.jsonl"))
    spent = sum(line["seconds"] for line in lines)
    assert found["totals"]["hours"]["planned"] * 3600 == pytest.approx(spent, rel=0.01)
    assert found["totals"]["hours"]["left"] == 0


def test_another_profile_has_nothing_done(project: Project) -> None:
    found = told(project, "--profile", "small", "--gpu", "rtx-4090")
    assert stages(found, done=True) == set()
    assert {one["origin"] for one in found["lengths"].values() if "origin" in one} == {"assumed"}
    assert all(room["here"] == 0 for room in found["disk"])
