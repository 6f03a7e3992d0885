"""dvc.yaml as tasks of one process, and what a call of `tsr claims` asks for."""

import copy
from pathlib import Path

import pytest
import yaml
from pipeline_file import PLAN, ROOT, STAGES, rows

from stages import plan
from stages.claims import graph, running, settings
from stages.claims.graph import Graph
from stages.claims.kept import Cost, Kept
from stages.errors import TsrError

LINES = PLAN["lines"]


@pytest.fixture(scope="module")
def whole() -> Graph:
    return graph.of(PLAN, "micro", "base", ROOT / "dvc.yaml")


def test_every_stage_of_dvc_yaml_can_run_here() -> None:
    assert set(running.STAGES) == set(STAGES) - graph.NOT_RUN


def test_all_arms_run_every_stage_that_dvc_runs(whole: Graph) -> None:
    expected = {f"{name}@{key}" if key else name for name in running.STAGES for key in rows(name)}
    assert {task.name for task in whole.tasks(LINES.values())} == expected


def test_a_task_comes_after_all_that_it_rests_on(whole: Graph) -> None:
    names = [task.name for task in whole.tasks(LINES.values())]
    for place, name in enumerate(names):
        assert set(whole.before[name]) <= set(names[:place]), name
    assert set(whole.before["dpo@tsr-2"]) == {"pair@tsr-2", "dpo@tsr-1", "eft"}
    assert set(whole.before["measure@sr-1"]) >= {"dpo@sr-1", "sft", "prepare", "pair@sr-1", "judge@M0.M0.r0"}


def test_an_arm_alone_runs_what_it_rests_on_and_measures_all_it_trains(whole: Graph) -> None:
    names = {task.name for task in whole.tasks([LINES["tsr"]])}
    assert {"measure@tsr-f2", "evaluate@tsr-f2", "dpo@sr-1", "evaluate@M0", "eft", "score@base.world.rated"} <= names
    assert not {name for name in names if name.endswith(("sr-2", "past-2", "fut-2")) and "tsr" not in name}
    assert {task.name for task in whole.tasks([["M0"]])} >= {"sft", "evaluate@M0"}


def test_what_rests_on_a_training_of_a_round(whole: Graph) -> None:
    after = whole.after_training(whole.tasks(LINES.values()))
    assert {"dpo@sr-1", "measure@sr-1", "generate@sr-1.r1", "pair@past-2"} <= after
    assert not {"sft", "evaluate@M0", "generate@M0.r1", "judge@M0.M0.r0", "pair@sr-1"} & after


def test_params_and_files_are_those_of_dvc_yaml(whole: Graph) -> None:
    task = whole.task("judge@M0.sr-1.r0")
    assert task.params == ("seed", "micro.backends", "micro.judge", "plan:rubrics.micro.ask")
    assert "data/generations/sr-1/r0.parquet" in task.deps
    assert task.outs == ("data/judgments/M0/sr-1/r0.parquet",)
    assert whole.task("dpo@sr-1").outs == ("data/models/sr-1", "reports/training/sr-1.csv")
    assert whole.maker("data/prompts/r3.parquet") == "prepare", "a file in a folder that a stage makes"
    assert whole.maker("stages/dpo.py") is None


def test_a_missing_pipeline_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TsrError, match=r"dvc\.yaml: no such file; run tsr in the folder that holds dvc\.yaml"):
        graph.of(PLAN, "micro", "base", tmp_path / "dvc.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_arms_of_the_paper_are_asked_for_where_none_is_named(project: Path) -> None:
    asked = settings.read("", "", [])
    assert set(asked.arms) == {"sr", "tsr", "past_only", "future_only", "sft", "rejection_sampling"} | {
        "spin",
        "spin_fair",
    }
    assert asked.params(3).seed == 3
    assert asked.params(3).arms.rounds["sr"] == 5


def test_a_model_version_has_one_name_whatever_is_asked_for(project: Path) -> None:
    alone, all_of_them = settings.read("tsr", "", []), settings.read("", "", [])
    plans = [plan.of(asked.params(1)).as_dict() for asked in (alone, all_of_them)]
    assert plans[0]["lines"]["tsr"] == plans[1]["lines"]["tsr"] == LINES["tsr"]
    assert alone.run_id(1) == all_of_them.run_id(1) != alone.run_id(2)


def test_rounds_can_be_named_and_are_limited_by_the_splits(project: Path) -> None:
    assert settings.read("sr=2,tsr", "", []).params(0).arms.rounds["sr"] == 2
    with pytest.raises(TsrError, match=r"arms\.sr: 6 rounds need the prompt splits r0 \.\. r5"):
        settings.read("sr=6", "", [])
    few = settings.read("sr=2", "", ["micro.prepare.splits=2"])
    assert few.params(0).arms.rounds["tsr"] == 2
    assert "sr" in few.params(0).arms.rounds and "spin_fair" not in few.params(0).arms.rounds


def test_a_changed_setting_is_another_run_and_is_told(project: Path) -> None:
    plain, changed = settings.read("sr", "", []), settings.read("sr", "", ["micro.dpo.learning_rate=2e-4"])
    assert changed.params(0).block.dpo.learning_rate == 2e-4
    assert changed.changed == {"micro.dpo.learning_rate": 2e-4}
    assert changed.hash != plain.hash
    same = settings.read("sr", "", ["micro.dpo.learning_rate=1e-4", "micro.following.log_to=tensorboard"])
    assert same.hash == plain.hash, "what a value was changed from does not matter, nor how a run is followed"


def test_a_judge_is_another_run(project: Path) -> None:
    assert len({settings.read("sr", judge, []).hash for judge in ("self", "M0", "truth")}) == 3
    assert settings.read("sr", "", ["judge=M0"]).hash == settings.read("sr", "M0", []).hash


def test_whole_numbers_serve_where_params_have_a_fraction(project: Path) -> None:
    assert settings.read("sr", "", ["micro.prepare.misconceptions=1"]).params(0)


def test_an_arm_of_ones_own(project: Path) -> None:
    mine = "arms.mine={rounds: 2, strategy: margin, past: false, future: false}"
    asked = settings.read("mine,sr=1", "", [mine])
    assert plan.of(asked.params(0)).lines["mine"] == ["M0", "mine-1", "mine-2"]
    other = settings.read("mine", "", [mine.replace("margin", "consensus")])
    assert asked.hash != other.hash, "two arms of one name are not one arm"
    assert settings.read("sr", "", [mine]).hash == settings.read("sr", "", []).hash


@pytest.mark.parametrize(
    ("arms", "changes", "told"),
    [
        ("srr", [], "--arms: unknown arm 'srr'; expected sr, tsr"),
        ("sr=x", [], "--arms: 'sr=x': expected a number of rounds"),
        ("sr=0", [], "--arms: 'sr=0': expected a number of rounds"),
        ("sr", ["micro.dpo.betta=1"], "--set micro.dpo.betta: no such key in params.yaml"),
        ("sr", ["micro.dop.beta=1"], "--set micro.dop.beta: no such key"),
        ("sr", ["micro.dpo.beta.x=1"], "--set micro.dpo.beta.x: no such key"),
        ("sr", ["beta"], "--set 'beta': expected KEY=VALUE"),
        ("sr", ["micro.dpo.beta={"], "not a value in YAML"),
        ("sr", ["micro.dpo.beta=much"], "micro.dpo.beta: Input should be a valid number, got 'much'"),
        ("sr", ["judge=nobody"], "judge: no folder data/models/nobody"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(arms: str, changes: list[str], told: str, project: Path) -> None:
    with pytest.raises(TsrError) as refused:
        settings.read(arms, "", changes)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_kept_tasks_come_back_as_they_were(tmp_path: Path) -> None:
    run, other, store = tmp_path / "run", tmp_path / "other", Kept(tmp_path / "kept")
    (run / "data/models/M0").mkdir(parents=True)
    (run / "data/models/M0/weights").write_text("w")
    (run / "data/a.parquet").write_text("a")
    outs = ("data/models/M0", "data/a.parquet")
    assert store.cost("k") is None
    store.keep("k", "sft", outs, run, Cost(2.0, 1.5))
    assert store.cost("k") == Cost(2.0, 1.5)
    (other / "data/models/M0").mkdir(parents=True)
    (other / "data/models/M0/stale").touch()
    store.restore("k", outs, other)
    assert [file.name for file in (other / "data/models/M0").iterdir()] == ["weights"]
    assert (other / "data/a.parquet").read_text() == "a"
    store.drop(["k", "never"])
    assert store.cost("k") is None
    assert (other / "data/a.parquet").read_text() == "a", "what was restored stays"


def test_the_plan_of_dvc_is_a_part_of_that_of_claims(project: Path) -> None:
    """So a stage that both run makes the same files, under the same names."""
    theirs = plan.of(settings.read("", "", []).params(7)).as_dict()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    mine = plan.of(settings.params.parse(copy.deepcopy(params), Path("params.yaml"))).as_dict()
    for table in ("answers", "judges", "learns", "models"):
        assert theirs[table].items() >= mine[table].items()
