"""Sharing by plain DVC, between real repositories: what travels, what is caught, what runs again."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from console import bucket, commands, scene, session
from pipeline_file import PLAN, STAGES, outputs
from tiny_project import ROOT, Project

from stages.errors import TsrError
from stages.lockfile import outputs as lock_outputs
from stages.targets import LOOPS, TABLES, WEIGHTS, targets

STRATEGY = "stages/sql/strategies/future_guided.sql"
ANCHORED = "stages/sql/strategies/anchored_rejection.sql"
SCORES = "data/scores/M0/M0/r0.parquet"
PULL_TO_PAIR = "dvc repro --pull --allow-missing pair@tsr-1"


class Team:
    """Repositories of some people under one folder: ~/tsr has the run and a folder remote, others clone."""

    def __init__(self, home: Path, finished: Path) -> None:
        self.home = home
        scene(home, finished)
        self.type("cd tsr", "dvc remote add -q -d store ~/store", "git commit -qam store", "git push -q")
        self.type("cd tsr", "dvc push -q $(tsr targets)")

    def type(self, *typed: str, ok: bool = True, **env: str) -> str:
        """Type commands into a shell in the folder of all; return the output of the last."""
        ran = session(list(typed), self.home, **env)
        failed = [f"{c}: {s}\n{o}" for c, (s, o) in zip(typed, ran, strict=True) if s]
        assert not (ok and failed), failed[0]
        self.code, told = ran[-1]
        return told

    def clone(self, name: str) -> Path:
        """A fresh clone that nothing was pulled into."""
        shutil.rmtree(self.home / name, ignore_errors=True)
        self.type(f"git clone -q ~/tsr.git {name}")
        return self.home / name

    def here(self, name: str, folder: str = "data") -> set[str]:
        """Files of a clone that git does not have."""
        found = (p.relative_to(self.home / name) for p in (self.home / name / folder).rglob("*") if p.is_file())
        return {str(p) for p in found} - {"data/README.md"}


@pytest.fixture(scope="module")
def team(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Team:
    return Team(tmp_path_factory.mktemp("team"), project.folder)


def flip(path: Path, at: int = 40) -> None:
    """Flip one bit in place, whatever protects the file: a file that is linked elsewhere changes there too."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def md5_of(team: Team, path: str) -> str:
    return next(out.md5 for out in lock_outputs(team.home / "tsr/dvc.lock") if str(out.path) == path)


def test_targets_are_all_stages_but_the_report() -> None:
    assert {*TABLES, *WEIGHTS} == set(STAGES) - {"report"}
    assert set(WEIGHTS) == {name for name in STAGES if any("data/models" in out for out in outputs(name))}
    planned = {name for name in STAGES if PLAN.get(LOOPS.get(name, "answers")) != {}}
    assert targets(PLAN) == [name for name in TABLES if name in planned]
    assert targets(PLAN, models=True) == [name for name in (*TABLES, *WEIGHTS) if name in planned]
    assert {"refer", "oracle", "tune"}.isdisjoint(planned)


def test_targets_of_an_arm_are_what_its_pairs_rest_on() -> None:
    found = targets(PLAN, "tsr")
    assert len(found) == len(set(found))
    assert {name for name in found if name.startswith("pair@")} == {
        f"pair@{n}" for n in ("sr-1", "tsr-1", "tsr-f2", "tsr-2")
    }
    assert {"generate@M0.r1", "judge@tsr-1.tsr-f2.r1", "score@tsr-1.tsr-1.r1", "evaluate@tsr-2"} <= set(found)
    assert not [name for name in found if "sr-2" in name.replace("tsr-2", "") or name.startswith("dpo")]
    assert set(targets(PLAN, "tsr", models=True)) - set(found) == {
        "base",
        "sft",
        *(f"dpo@{n}" for n in ("sr-1", "tsr-1", "tsr-f2", "tsr-2")),
    }
    learns = PLAN["learns"] | {"tsr-2": PLAN["learns"]["tsr-2"] | {"second": "J"}}
    beside = {f"{stage}@J.{answer}" for stage in ("judge", "score") for answer in ("tsr-1.r1", "M0.r1", "tsr-f2.r1")}
    assert set(targets(PLAN | {"learns": learns}, "tsr")) - set(found) == beside
    with pytest.raises(TsrError, match=r"arm 'spin' is not planned; there are: sr, tsr, past_only, future_only"):
        targets(PLAN, "spin")


def test_the_tables_travel_without_the_weights(team: Team) -> None:
    sent = {path.parent.name + path.name for path in (team.home / "store/files/md5").glob("*/*")}
    wanted = {True: set(), False: set()}
    for out in lock_outputs(team.home / "tsr/dvc.lock"):
        if out.path.parts[0] == "data":
            wanted[out.path.parts[1] == "models"].add(out.md5)
    assert wanted[False] <= sent
    assert not wanted[True] & sent


def test_one_round_of_pairs_is_pulled_alone(team: Team) -> None:
    team.clone("one")
    team.type("cd one", "dvc pull -q pair@tsr-1")
    assert team.here("one") == {"data/pairs/tsr-1.parquet", "data/dropped/tsr-1.parquet"}
    assert "outputs are here and match dvc.lock; 0 of 10 tables" in team.type("cd one", "tsr verify --partial")


def test_verify_catches_one_flipped_byte_of_what_was_pulled(team: Team) -> None:
    clone = team.clone("arm")
    team.type("cd arm", "dvc pull -q $(tsr targets tsr)")
    assert not (clone / "data/models").exists()
    flip(clone / SCORES)
    told = team.type("cd arm", "tsr verify --partial", ok=False)
    assert team.code == 2
    assert f"{SCORES}: md5 " in told and f"dvc.lock says {md5_of(team, SCORES)}" in told
    team.type("cd arm", f"rm {SCORES}", f"dvc checkout -q {SCORES}")
    assert "outputs are here and match dvc.lock" in team.type("cd arm", "tsr verify --partial")


def test_another_strategy_runs_pair_and_nothing_before_it(team: Team) -> None:
    """In a clone with nothing pulled: DVC fetches what `pair` reads, and neither weights nor votes."""
    clone = team.clone("what-if")
    shutil.copyfile(clone / ANCHORED, clone / STRATEGY)
    told = team.type("cd what-if", PULL_TO_PAIR)
    assert told.count("Running stage") == 1 and "Running stage 'pair@tsr-1'" in told
    assert team.here("what-if") == {
        "data/prompts/r0.parquet",
        *(f"data/generations/{model}/r0.parquet" for model in ("M0", "sr-1")),
        *(f"data/scores/M0/{model}/r0.parquet" for model in ("M0", "sr-1")),
        "data/pairs/tsr-1.parquet",
        "data/dropped/tsr-1.parquet",
    }
    locks = [{out.path: out.md5 for out in lock_outputs(team.home / f"{name}/dvc.lock")} for name in ("tsr", "what-if")]
    changed = {str(path) for path in locks[0] if locks[0][path] != locks[1][path]}
    assert "data/pairs/tsr-1.parquet" in changed <= {"data/pairs/tsr-1.parquet", "data/dropped/tsr-1.parquet"}


def test_an_imported_dataset_is_versioned_pushed_and_pulled(team: Team) -> None:
    chats = "data/imported/chats"
    for table in ("prompts/r0.parquet", "generations/M0/r0.parquet", "scores/M0/M0/r0.parquet"):
        (team.home / "tsr" / chats / table).parent.mkdir(parents=True)
        shutil.copyfile(team.home / "tsr/data" / table, team.home / "tsr" / chats / table)
    team.type("cd tsr", f"dvc add -q {chats}", f"git add {chats}.dvc", "git commit -qm chats", "git push -q")
    assert team.type("cd tsr", "git status --porcelain -uall") == ""
    team.type("cd tsr", f"dvc push -q {chats}.dvc")
    clone = team.clone("chats")
    team.type("cd chats", f"dvc pull -q {chats}.dvc")
    sent, got = (team.home / name / chats for name in ("tsr", "chats"))
    assert team.here("chats") == {
        f"{chats}.dvc",
        *(str(p.relative_to(team.home / "tsr")) for p in sent.rglob("*.parquet")),
    }
    assert all((got / p.relative_to(sent)).read_bytes() == p.read_bytes() for p in sent.rglob("*.parquet"))
    team.type("cd chats", "tsr verify --partial")
    flip(clone / chats / "generations/M0/r0.parquet")
    told = team.type("cd chats", "tsr verify --partial", ok=False)
    assert team.code == 2 and f"{chats}.dvc says" in told


def test_the_page_s_python_reads_the_pairs_from_anywhere(team: Team) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/sharing.md").read_text(), re.DOTALL)
    (team.home / "paper").mkdir()
    (team.home / "paper/page.py").write_text(block)
    told = team.type("cd paper", "python page.py")
    pairs = pl.read_parquet(team.home / "tsr/data/pairs/tsr-1.parquet")
    *_, last = [line for line in told.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in last.strip("│").split("│")] == [
        str(pairs.height),
        str(round(pairs["gap"].mean(), 2)),
    ]


@pytest.mark.slow
def test_a_flipped_byte_under_linked_files_comes_back_from_the_remote(team: Team) -> None:
    clone = team.clone("linked")
    team.type("cd linked", "dvc config cache.type hardlink,symlink", "dvc pull -q score")
    assert (clone / SCORES).stat().st_nlink > 1 and not (clone / SCORES).stat().st_mode & 0o222
    flip(clone / SCORES)
    team.type("cd linked", "tsr verify --partial", ok=False)
    assert team.code == 2
    team.type("cd linked", f"rm -f {SCORES}", f"dvc checkout -q {SCORES}", "tsr verify --partial", ok=False)
    assert team.code == 2  # the cache is damaged too, and a checkout does not look
    team.type("cd linked", f"rm -f {SCORES}", "dvc pull -q score", "tsr verify --partial")


@pytest.mark.slow
def test_a_damaged_object_is_noticed(team: Team) -> None:
    """In a folder remote by DVC itself; in a bucket by nobody but verify."""
    md5 = md5_of(team, SCORES)
    team.clone("damaged")
    shutil.copytree(team.home / "store", team.home / "worn")
    flip(team.home / "worn/files/md5" / md5[:2] / md5[2:])
    team.type("cd damaged", "dvc remote add -q worn ~/worn", "dvc pull -q -r worn score", ok=False)
    assert team.code != 0 and SCORES not in team.here("damaged")
    with bucket("tables") as env:
        import boto3

        team.type("cd tsr", "dvc remote add -q --local cloud s3://tables", "dvc push -q -r cloud score", **env)
        s3, key = (
            boto3.client("s3", endpoint_url=env["AWS_ENDPOINT_URL"], **_keys(env)),
            f"files/md5/{md5[:2]}/{md5[2:]}",
        )
        body = bytearray(s3.get_object(Bucket="tables", Key=key)["Body"].read())
        body[40] ^= 1
        s3.put_object(Bucket="tables", Key=key, Body=bytes(body))
        team.clone("far")
        team.type("cd far", "dvc remote add -q cloud s3://tables", "dvc pull -q -r cloud score", **env)
        told = team.type("cd far", "tsr verify --partial", ok=False)
    assert team.code == 2 and f"{SCORES}: md5 " in told


def _keys(env: dict[str, str]) -> dict[str, str]:
    return {
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "region_name": env["AWS_DEFAULT_REGION"],
    }


@pytest.mark.slow
def test_without_the_weights_a_changed_round_trains_but_generates_and_judges_nothing_that_is_there(team: Team) -> None:
    clone = team.clone("rerun")
    shutil.copyfile(clone / ANCHORED, clone / STRATEGY)
    told = team.type("cd rerun", "dvc pull -q $(tsr targets)", "dvc repro dpo@tsr-1")
    ran = {line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage")}
    assert ran == {"base", "sft", "dpo@sr-1", "pair@tsr-1", "dpo@tsr-1"}
    locks = [{out.path: out.md5 for out in lock_outputs(team.home / f"{name}/dvc.lock")} for name in ("tsr", "rerun")]
    assert locks[0][Path("data/models/M0")] == locks[1][Path("data/models/M0")]


@pytest.mark.slow
def test_with_the_weights_all_that_follows_a_strategy_runs_and_no_more(team: Team) -> None:
    team.type("cd tsr", "dvc push -q $(tsr targets --models)")
    clone = team.clone("all")
    shutil.copyfile(clone / ANCHORED, clone / STRATEGY)
    team.type("cd all", "dvc repro -q --pull --allow-missing", ok=False)
    assert team.code != 0  # the report reads whole folders, and those are not pulled
    told = team.type("cd all", "git checkout -q dvc.lock", "dvc pull -q $(tsr targets --models)", "dvc repro")
    ran = {line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage")}
    assert not {name for name in ran if name.startswith(("base", "sft", "generate@", "judge@", "score@"))}
    assert "report" in ran
    team.type("cd all", "tsr verify --partial")


@pytest.mark.slow
def test_push_false_keeps_weights_at_home_and_runs_nothing(team: Team) -> None:
    clone = team.clone("guarded")
    text = (clone / "dvc.yaml").read_text()
    for out in ("data/models/base", "data/models/M0", '"data/models/${key}"'):
        assert text.count(f"outs: [{out}]") == 1
        text = text.replace(f"outs: [{out}]", f"outs: [{out}: {{push: false}}]")
    (clone / "dvc.yaml").write_text(text)
    shutil.copytree(team.home / "tsr/.dvc/cache", clone / ".dvc/cache")
    team.type("cd guarded", "dvc checkout -q")
    assert "up to date" in team.type("cd guarded", "dvc status")
    team.type("cd guarded", "dvc remote add -q -f -d store ~/guarded-store", "dvc push -q", "git commit -qam g")
    weights = [out.md5 for out in lock_outputs(clone / "dvc.lock") if out.path.parts[:2] == ("data", "models")]
    assert weights and not [m for m in weights if (team.home / "guarded-store/files/md5" / m[:2] / m[2:]).exists()]
    team.type("git clone -q guarded unguarded", "cd unguarded", "dvc pull -q", ok=False)
    assert team.code != 0
    team.type("cd unguarded", "dvc pull -q --allow-missing", "tsr verify --partial")


@pytest.mark.slow
def test_the_session_in_the_docs_runs(project: Project, tmp_path: Path) -> None:
    scene(tmp_path, project.folder)
    typed = commands(ROOT / "docs/sharing.md")
    with bucket("team-tables") as env:
        ran = session(typed, tmp_path, **env)
    assert [f"{c}: {s} {o}" for c, (s, o) in zip(typed, ran, strict=True) if s] == []
    said = dict(zip(typed, (output for _, output in ran), strict=True))
    caught = next(output for command, output in said.items() if "PIPESTATUS" in command)
    assert f"{SCORES}: md5 " in caught and "exit status 2" in caught
    repro = next(output for command, output in said.items() if PULL_TO_PAIR in command)
    assert repro.count("Running stage") == 1
    assert (tmp_path / "what-if/data/models/tsr-1").is_dir()
    assert yaml.safe_load((tmp_path / "pairs/README.md").read_text().split("---\n")[1])["license"] == "cc-by-4.0"
    assert json.loads((tmp_path / "best/model_outputs.json").read_text())[0]["generator"] == "sr-1"
