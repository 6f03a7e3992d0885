"""A stage under DVC compares what it reads with dvc.lock, before it reads it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from pipeline_file import PLAN, ROOT

from stages import intact, lockfile, params
from stages.errors import TsrError

SCORES = Path("data/scores/M0/M0/r0.parquet")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, prompts and a base model that two stages have made."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    for path in (SCORES, Path("data/prompts/r0.parquet"), Path("data/prompts/r1.parquet")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"rows of {path}")
    lock("score@M0.M0.r0", SCORES)
    lock("prepare", Path("data/prompts"))


def lock(stage: str, path: Path) -> None:
    said = yaml.safe_load(Path("dvc.lock").read_text()) if Path("dvc.lock").exists() else {"stages": {}}
    said["stages"][stage] = {"outs": [{"path": str(path), "md5": lockfile.actual_md5(path)}]}
    Path("dvc.lock").write_text(yaml.safe_dump(said))


def check(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    intact.check(params.load(ROOT / "params.yaml"), PLAN)


def test_what_is_as_it_was_made_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    check(monkeypatch, "pair@sr-1")


def test_a_changed_file_is_named_with_its_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    SCORES.write_text("other rows")
    with pytest.raises(TsrError, match=r"damaged or changed since stage score@M0\.M0\.r0 made it: its md5 is "):
        check(monkeypatch, "pair@sr-1")
    check(monkeypatch, "judge@M0.M0.r0")  # reads no scores
    check(monkeypatch, "no stage of ours")


def test_a_file_of_a_folder_is_named_where_the_cache_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(Path("data/prompts").iterdir())
    listed = [{"md5": lockfile.actual_md5(file), "relpath": file.name} for file in files]
    md5 = lockfile.actual_md5(Path("data/prompts"))
    files[1].write_text("other rows")
    check(monkeypatch, "pair@sr-1")  # nobody knows what the folder's files were
    kept = intact.CACHE / md5[:2] / md5[2:]
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(listed))
    with pytest.raises(TsrError, match=r"^data/prompts/r1\.parquet: damaged"):
        check(monkeypatch, "pair@sr-1")
    files[1].unlink()
    check(monkeypatch, "pair@sr-1")  # `dvc pull` fetches single files too: what is absent is the stage's to miss


def test_nothing_is_compared_outside_dvc_or_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    SCORES.write_text("other rows")
    check(monkeypatch, "")
    Path("dvc.lock").write_text("stages: {score@M0.M0.r0: {outs: [{path: da")  # another run is writing it
    check(monkeypatch, "pair@sr-1")
    Path("dvc.lock").unlink()
    check(monkeypatch, "pair@sr-1")
