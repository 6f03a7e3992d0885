"""Seeds of arms in one process: stopped and gone on with, shared between settings, and the same as DVC's run."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from small_run import TINY
from tiny_project import Project

from stages import cli, tables
from stages.claims import collecting, run, running, settings, summary
from stages.claims.running import Outcome, Seed
from stages.errors import TsrError

ROOT = Path(__file__).parents[1]
ARMS = "sr=2,spin_fair=2"  # a hardly trained judge says nothing that can be read, so sr ends; SPIN needs no judge


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with tiny params."""
    folder = tmp_path_factory.mktemp("claims")
    (folder / "stages").symlink_to(ROOT / "stages")
    shutil.copy(ROOT / "dvc.yaml", folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block, values in TINY.items():
        params["micro"][block] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def ended(place: Path) -> tuple[Seed, Outcome, collecting.Tables]:
    """One seed that has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        seed = Seed(settings.read(ARMS, "", []), 1, place)
        outcome = seed.go(lambda _: None)
        return seed, outcome, collecting.collect(seed, outcome)


@pytest.fixture
def here(place: Path, ended: tuple[Seed, Outcome, collecting.Tables], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def stages_run(monkeypatch: pytest.MonkeyPatch, seed: Seed) -> list[str]:
    """The tasks that a seed does not find kept, and so runs."""
    seen: list[str] = []
    going = Seed._run
    monkeypatch.setattr(Seed, "_run", lambda self, task: (seen.append(task.name), going(self, task))[1])
    seed.go(lambda _: None)
    return seen


def test_tables_hold_every_round_of_every_arm(ended: tuple[Seed, Outcome, collecting.Tables]) -> None:
    _, outcome, found = ended
    lines = {(row["arm"], row["round"]): row for row in found["claims_lines"].to_dicts()}
    assert set(lines) == {(arm, number) for arm in ("sr", "spin_fair") for number in range(3)}
    assert [lines["spin_fair", n]["model"] for n in range(3)] == ["M0", "fair-1", "fair-2"]
    updates = {row["key"]: row["updates"] for row in found["claims_costs"].filter(stage="dpo").to_dicts()}
    assert lines["spin_fair", 1]["updates"] == updates["fair-1"] > 0
    assert lines["spin_fair", 2]["updates"] == updates["fair-1"] + updates["fair-2"], "counted from M0 on"
    assert lines["spin_fair", 1]["tokens_judged"] == 0, "an oracle reads nothing"
    assert found["claims_runs"].row(0, named=True)["changed"] == "{}"
    rounds = {row["model"]: row for row in found["claims_rounds"].to_dicts()}
    assert rounds["fair-1"]["judge"] == "origin"
    assert rounds["fair-1"]["judge_agreement"] is None
    assert rounds["fair-1"]["own_truth"] is not None
    answers = found["claims_answers"].filter(model="fair-2")
    models = {row["model"]: row for row in found["claims_models"].to_dicts()}
    assert answers["truth"].mean() == pytest.approx(models["fair-2"]["true_score"], abs=1e-6)
    costs = found["claims_costs"].filter(stage="dpo")
    assert costs["tokens"].min() > 0 and costs["updates"].min() > 0
    assert {row["key"] for row in costs.to_dicts()} == {"fair-1", "fair-2"}
    assert outcome.keys["sft"]


def test_a_training_without_pairs_ends_its_line_and_no_other(ended: tuple[Seed, Outcome, collecting.Tables]) -> None:
    _, outcome, found = ended
    assert {"dpo@sr-1", "measure@sr-1", "evaluate@sr-1", "dpo@sr-2"} <= outcome.ended
    sr = found["claims_lines"].filter(pl.col("arm") == "sr").sort("round")
    assert sr["ended"].to_list() == [None, "no_pairs", "no_pairs"]
    assert set(sr["model"]) == {"M0"}, "no pairs, no update"
    assert sr["tokens_trained"].sum() == 0 < sr["tokens_judged"][1]


def test_a_seed_again_runs_nothing(
    here: Path, ended: tuple[Seed, Outcome, collecting.Tables], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, outcome, found = ended
    before = (seed.folder / "data/models/fair-2/model.safetensors").read_bytes()
    shutil.rmtree(seed.folder)
    monkeypatch.setattr(Seed, "_run", lambda self, task: pytest.fail(f"{task.name} ran again"))
    again = seed.go(lambda _: None)
    assert again.keys == outcome.keys
    assert (seed.folder / "data/models/fair-2/model.safetensors").read_bytes() == before
    assert all(collecting.collect(seed, again)[name].equals(found[name]) for name in collecting.NAMES)


def test_a_stopped_seed_goes_on_where_it_was(
    here: Path, ended: tuple[Seed, Outcome, collecting.Tables], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, outcome, _ = ended
    seed.kept.drop([outcome.keys["dpo@fair-2"], outcome.keys["evaluate@fair-2"]])
    ran: list[str] = []
    stage, evaluate = running.STAGES["dpo"], running.STAGES["evaluate"]
    monkeypatch.setitem(running.STAGES, "dpo", lambda *a: (ran.append(f"dpo@{a[1]}"), stage(*a))[1])
    monkeypatch.setitem(running.STAGES, "evaluate", lambda *_: (_ for _ in ()).throw(TsrError("out of breath")))
    with pytest.raises(TsrError, match=r"^seed 1, evaluate@fair-2: out of breath"):
        seed.go(lambda _: None)
    monkeypatch.setitem(running.STAGES, "evaluate", lambda *a: (ran.append(f"evaluate@{a[1]}"), evaluate(*a))[1])
    assert seed.go(lambda _: None).keys == outcome.keys, "the same work under the same hashes"
    assert ran == ["dpo@fair-2", "evaluate@fair-2"]


def test_settings_share_what_they_do_not_change(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Seed(settings.read(ARMS, "", ["micro.dpo.beta=0.2"]), 1, here)
    ran = stages_run(monkeypatch, other)
    assert {name.split("@")[0] for name in ran} >= {"dpo", "measure"}
    assert not {"base", "prepare", "sft", "generate@M0.r0", "judge@M0.M0.r0", "pair@fair-1", "evaluate@M0"} & set(ran)


def test_another_seed_shares_nothing_that_a_seed_decides(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = stages_run(monkeypatch, Seed(settings.read("sft", "", []), 2, here))
    assert {"base", "prepare", "sft", "evaluate@M0"} <= set(ran)


def test_a_run_that_has_ended_leaves_what_other_settings_share(
    here: Path, ended: tuple[Seed, Outcome, collecting.Tables]
) -> None:
    seed, outcome, _ = ended
    home = here / "copy"
    shutil.copytree(here / ".tsr/claims", home / "claims")
    copied = Seed(seed.settings, 1, here, home / "claims")
    copied.forget(outcome, everything=False)
    assert not copied.folder.exists()
    kept = {name for name, key in outcome.keys.items() if copied.kept.cost(key)}
    assert {"sft", "generate@M0.r0", "oracle@origin.reference.r1", "pair@fair-1"} <= kept
    assert not {"dpo@fair-1", "generate@fair-1.r1", "evaluate@fair-1"} & kept
    shutil.rmtree(home)


def test_rows_of_a_run_take_the_place_of_its_own_and_of_no_other(
    here: Path, ended: tuple[Seed, Outcome, collecting.Tables]
) -> None:
    _, _, found = ended
    home = here / "reports/claims/joined"
    run._join(found, home)
    other = {name: rows.with_columns(run=pl.lit("another")) for name, rows in found.items()}
    run._join(other, home)
    run._join(found, home)
    assert summary.read_table("claims_lines", home).height == 2 * found["claims_lines"].height
    told = summary.by_round(home)
    assert told.height == 2 * found["claims_lines"].height
    first = told.filter((pl.col("round") == 0) & (pl.col("run") != "another"))
    assert first["gap"].null_count() == first.height == 2
    ended_early = told.filter((pl.col("arm") == "sr") & (pl.col("round") == 2))
    assert ended_early["gap"].null_count() == 2 and ended_early["true_score"].null_count() == 0


def test_rows_that_came_out_otherwise_are_named(here: Path, ended: tuple[Seed, Outcome, collecting.Tables]) -> None:
    known = ended[2]["claims_models"]
    assert run._agreeing("claims_models", known.head(1), known, here) == 1
    moved = known.with_columns(true_score=pl.col("true_score") + 0.5)
    with pytest.raises(
        TsrError, match=r"claims_models\.parquet: 3 of 3 rows came out otherwise, first run=\w+, model=M0"
    ):
        run._agreeing("claims_models", moved, known, here)
    later = ended[2]["claims_costs"]
    slower = later.with_columns(seconds=pl.col("seconds") + 1)
    assert run._agreeing("claims_costs", slower, later, here) == later.height, "a clock is not held against a seed"


@pytest.mark.slow
def test_the_command_runs_seeds_in_processes_and_checks_them(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["claims", "--seeds", "2", "--from", "5", "--arms", "spin_fair=1,sft", "--into", "two"]
    cli.app(words, standalone_mode=False)
    out, err = capfd.readouterr()
    assert "claims, 2 seeds: " in err and "stages in" in err
    assert "reports/claims/two: 2 seeds of spin_fair, sft\n" in out
    assert set(summary.read_table("claims_runs", Path("reports/claims/two"))["seed"]) == {5, 6}
    cli.app(words, standalone_mode=False)
    assert "2 of them there before" in capfd.readouterr().out
    cli.app([*words[:2], "1", *words[3:], "--check"], standalone_mode=False)
    assert "1 seed of spin_fair, sft run anew; " in capfd.readouterr().out
    with pytest.raises(TsrError, match=r"^reports/claims/two: seed 7 is not there"):
        cli.app([*words[:4], "7", *words[5:], "--check"], standalone_mode=False)
    told = r"^seed \d, generate@M0\.r0: generate/M0/r0: 1 of 48 rows failed .* \(its output is in .*\.log\)$"
    with pytest.raises(TsrError, match=told):
        cli.app([*words, "-S", "micro.generate.max_new_tokens=600"], standalone_mode=False)


@pytest.mark.slow
def test_a_seed_is_the_run_that_dvc_makes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table, every weight, every curve, and the numbers of the report."""
    monkeypatch.chdir(project.folder)
    params = yaml.safe_load(Path("params.yaml").read_text())
    asked = settings.read(",".join(f"{arm}={rounds}" for arm, rounds in params["arms"].items()), "", [])
    seed = Seed(asked, params["seed"], project.folder)
    outcome = seed.go(lambda _: None)
    made = sorted(file for folder in ("data", "reports/training") for file in (seed.folder / folder).rglob("*"))
    for file in filter(Path.is_file, made):
        assert file.read_bytes() == (project.folder / file.relative_to(seed.folder)).read_bytes(), file
    names = {str(file.relative_to(seed.folder)) for file in made if file.is_file()}
    theirs = {str(path.relative_to(project.folder)) for path in (project.folder / "data").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("data/")} == theirs - {"data/README.md"}
    found = collecting.collect(seed, outcome)
    metrics = {row["model"]: row for row in found["claims_models"].to_dicts()}
    rounds = {row["model"]: row for row in found["claims_rounds"].to_dicts()}
    for name, row in metrics.items():
        told = json.loads((project.folder / f"reports/metrics/{name}.json").read_text())
        mine = row | rounds.get(name, {})
        shared = set(told) & set(mine)
        assert shared >= {"true_score", "true_score_se", "fixed_agreement"}
        assert {key: told[key] for key in shared} == pytest.approx({key: mine[key] for key in shared}, abs=1e-6)
    tables.validate("claims_lines", found["claims_lines"], "here")
    seed.forget(outcome, everything=False)
    shutil.rmtree(project.folder / ".tsr/claims")
