"""A stage under DVC compares what it reads with dvc.lock, before it reads it."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from pipeline_file import PLAN, ROOT

from stages import dvc_cache, intact, lockfile, params
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


PROMPTS = Path("data/prompts")


def keep_list(cache: Path = Path(".dvc/cache")) -> Path:
    """DVC's list of the files in the folder of prompts."""
    files = sorted(PROMPTS.iterdir())
    listed = [{"md5": lockfile.actual_md5(file), "relpath": file.name} for file in files]
    md5 = lockfile.actual_md5(PROMPTS)
    kept = cache / "files/md5" / md5[:2] / md5[2:]
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(listed))
    return kept


def test_a_file_of_a_folder_is_named_where_the_cache_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_list()
    changed = PROMPTS / "r1.parquet"
    changed.write_text("other rows")
    with pytest.raises(TsrError, match=r"^data/prompts/r1\.parquet: damaged"):
        check(monkeypatch, "pair@sr-1")
    changed.unlink()
    (PROMPTS / "more.parquet").write_text("of the user's")
    check(monkeypatch, "pair@sr-1")  # `dvc pull` fetches single files too: what is absent is the stage's to miss


@pytest.mark.parametrize("fault", ["changed", "gone", "added"])
def test_without_a_list_the_folder_is_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    check(monkeypatch, "pair@sr-1")
    last = PROMPTS / "r1.parquet"
    if fault == "gone":
        last.unlink()
    else:
        (last if fault == "changed" else PROMPTS / "r2.parquet").write_text("other rows")
    told = r"^data/prompts: damaged or changed since stage prepare made it: its md5 is \w+\.dir; dvc\.lock says "
    with pytest.raises(TsrError, match=told):
        check(monkeypatch, "pair@sr-1")


@pytest.mark.parametrize(
    ("file", "said", "cache"),
    [
        (".dvc/config", "[core]\n    analytics = false\n[cache]\n    type = copy\n    dir = ../shared\n", "shared"),
        (".dvc/config.local", '[Cache]\nDir = "../of, mine"  # here\n', "of, mine"),
        ("user/config", "['remote \"store\"']\n    url = s3://a/b%20c\n[cache]\n    dir = ../home\n", "home"),
        ("machine/config", "[cache]\n    dir = ~/kept\n", "kept"),
    ],
)
def test_the_list_is_looked_up_where_dvc_keeps_it(
    monkeypatch: pytest.MonkeyPatch, file: str, said: str, cache: str
) -> None:
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", "user")
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", "machine")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(said)
    keep_list(Path(cache))
    (PROMPTS / "r1.parquet").write_text("other rows")
    with pytest.raises(TsrError, match=r"^data/prompts/r1\.parquet: damaged"):
        check(monkeypatch, "pair@sr-1")


def test_this_checkouts_cache_counts_before_the_projects() -> None:
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[cache]\n    dir = /project\n")
    assert dvc_cache.folder() == Path("/project")
    Path(".dvc/config.local").write_text("[cache]\n    dir = /checkout\n")
    assert dvc_cache.folder() == Path("/checkout")
    Path(".dvc/config.local").write_text("[cache\n")
    with pytest.raises(TsrError, match=r"^\.dvc/config\.local: not a configuration of DVC: "):
        dvc_cache.folder()


def test_dvc_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.config import Config

    Path(".dvc").mkdir()
    for said in ("../a", "b/c", "/d", "~/e"):
        Path(".dvc/config").write_text(f"[cache]\n    dir = {said}\n")
        monkeypatch.setenv("HOME", str(Path.cwd()))
        theirs = Config(dvc_dir=".dvc", validate=False)["cache"]["dir"]
        assert dvc_cache.folder().resolve() == Path(theirs).resolve()


@pytest.mark.parametrize("damage", ["cut off", "no key", "wrong type", "flipped", "empty", "no list"])
def test_a_damaged_list_is_one_line(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    kept = keep_list()
    whole = kept.read_text()
    kept.write_text(
        {
            "cut off": whole[: len(whole) // 2],
            "no key": whole.replace("relpath", "path"),
            "wrong type": '[1, "two"]',
            "flipped": whole.replace("r1.parquet", "r3.parquet"),
            "empty": "",
            "no list": "null",
        }[damage]
    )
    told = rf"^{kept}: DVC's list of a folder's files is damaged: expected one whose md5 is \w+; delete it, then `dvc "
    with pytest.raises(TsrError, match=told):
        check(monkeypatch, "pair@sr-1")
    kept.unlink()  # as the message says
    check(monkeypatch, "pair@sr-1")


@pytest.mark.parametrize("form", ["null", "[1]", '[{"md5": "a"}]', '{"a": 1}', "["])
def test_a_list_with_the_right_hash_that_is_none_is_one_line_too(form: str) -> None:
    md5 = hashlib.md5(form.encode(), usedforsecurity=False).hexdigest() + ".dir"
    kept = Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    kept.parent.mkdir(parents=True)
    kept.write_text(form)
    with pytest.raises(TsrError, match="list of a folder's files is damaged"):
        dvc_cache.listed(md5)


def test_nothing_is_compared_outside_dvc_or_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    SCORES.write_text("other rows")
    check(monkeypatch, "")
    Path("dvc.lock").write_text("stages: {score@M0.M0.r0: {outs: [{path: da")  # another run is writing it
    check(monkeypatch, "pair@sr-1")
    Path("dvc.lock").unlink()
    check(monkeypatch, "pair@sr-1")
