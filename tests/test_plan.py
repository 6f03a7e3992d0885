"""The plan: what each arm's rounds are (docs/method.md), shared work once, and stale plans refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.main import get_command

from stages import cli, params, paths, plan
from stages.errors import TsrError
from stages.params import Arms

ROOT = Path(__file__).parents[1]
LOADED = params.load(ROOT / "params.yaml")
COMMANDS = get_command(cli.app).commands  # type: ignore[attr-defined]
ALL = Arms(sr=4, tsr=2, past_only=2, future_only=2)


def rows(arms: Arms) -> dict[str, Any]:
    """The plan as plan.yaml holds it, read back from text."""
    loaded: dict[str, Any] = yaml.safe_load(plan.dumps(plan.build(arms)))
    return loaded


def learn(name: str, arms: Arms = ALL) -> dict[str, str]:
    """One training by any of its names, without its other names."""
    for known, row in rows(arms)["learns"].items():
        if name in [known, *row["also"]]:
            return {column: value for column, value in row.items() if column != "also"}
    raise KeyError(name)


def side(policy: str, strategy: str, split: str, anchor: str, future: str) -> dict[str, str]:
    """A training in which the policy judges and answers, as in every round of the paper."""
    return {
        "policy": policy,
        "strategy": strategy,
        "judge": policy,
        "split": split,
        "own": policy,
        "anchor": anchor,
        "future": future,
        "sql": f"stages/sql/strategies/{strategy}.sql",
        "second": policy,
        "trainer": "dpo",
        "replay": plan.AS_SET,
    }


def test_the_plan_on_disk_is_that_of_params() -> None:
    text = (ROOT / "stages" / "plan.yaml").read_text()
    assert text == plan.dumps(plan.of(LOADED))
    assert plan.check_agrees(LOADED, ROOT / "stages" / "plan.yaml")


def test_self_rewarding_takes_both_sides_from_the_current_model() -> None:
    assert learn("sr-1") == side("M0", "self_rewarding", "r0", anchor="M0", future="M0")
    for i in (1, 2, 3):
        me = f"sr-{i}"
        assert learn(f"sr-{i + 1}") == side(me, "self_rewarding", f"r{i}", anchor=me, future=me)


def test_tsr_trains_a_future_model_and_then_the_next_from_the_same_policy() -> None:
    only = Arms(tsr=3)
    assert learn("tsr-f1", only) == side("M0", "self_rewarding", "r0", anchor="M0", future="M0")
    assert learn("tsr-1", only) == side("M0", "future_guided", "r0", anchor="M0", future="tsr-f1")
    for i in (1, 2):
        me, ahead = f"tsr-{i}", f"tsr-f{i + 1}"
        assert learn(ahead, only) == side(me, "anchored_rejection", f"r{i}", anchor="M0", future=me)
        assert learn(f"tsr-{i + 1}", only) == side(me, "future_guided", f"r{i}", anchor="M0", future=ahead)


def test_past_only_has_the_anchor_and_no_future() -> None:
    assert learn("past-2") == side("sr-1", "anchored_rejection", "r1", anchor="M0", future="sr-1")


def test_future_only_has_the_future_and_no_anchor() -> None:
    assert learn("fut-f2") == side("tsr-1", "self_rewarding", "r1", anchor="tsr-1", future="tsr-1")
    assert learn("fut-2") == side("tsr-1", "future_guided", "r1", anchor="tsr-1", future="fut-f2")


def test_shared_work_is_done_once() -> None:
    made = rows(ALL)
    assert made["learns"]["sr-1"]["also"] == ["tsr-f1", "past-1", "fut-f1"]
    assert made["learns"]["tsr-1"]["also"] == ["fut-1"]
    assert not {"tsr-f1", "past-1", "fut-f1", "fut-1"} & set(made["learns"])
    assert list(made["answers"].values()).count({"model": "M0", "split": "r0"}) == 1
    for table in ("answers", "judges", "learns"):
        kept = [str({k: v for k, v in row.items() if k != "also"}) for row in made[table].values()]
        assert len(kept) == len(set(kept)), table
    assert made["lines"]["past_only"] == ["M0", "sr-1", "past-2"]
    assert made["lines"]["future_only"] == ["M0", "tsr-1", "fut-2"]


@pytest.mark.parametrize("arms", [ALL, Arms(sr=1), Arms(tsr=3), Arms(past_only=3), Arms(future_only=2, sr=1)])
def test_every_model_is_trained_before_it_is_used(arms: Arms) -> None:
    made = rows(arms)
    trained = ["M0"]
    for name, row in made["learns"].items():
        used = {row[column] for column in ("policy", "judge", "own", "anchor", "future")}
        assert used <= set(trained), name
        for model in (row["own"], row["anchor"], row["future"]):
            assert {"model": model, "split": row["split"]} in made["answers"].values()
            assert {"judge": row["judge"], "model": model, "split": row["split"]} in made["judges"].values()
        trained.append(name)
    assert list(made["models"]) == trained
    assert {name for line in made["lines"].values() for name in line} <= set(trained)


def test_nothing_is_answered_or_judged_in_vain() -> None:
    made = rows(ALL)
    used = {(row[side], row["split"]) for row in made["learns"].values() for side in ("own", "anchor", "future")}
    assert {(row["model"], row["split"]) for row in made["answers"].values()} == used
    judged = {(row["model"], row["split"]) for row in made["judges"].values()}
    assert judged == used | {("world", "rated")}, "beside the rounds, the teacher judges what people rated"


@pytest.mark.parametrize("more", [{"sr": 5}, {"tsr": 3}, {"past_only": 3}, {"future_only": 3}])
def test_another_round_adds_rows_and_changes_none(more: dict[str, int]) -> None:
    before, after = rows(ALL), rows(ALL.model_copy(update=more))
    for table in ("answers", "judges", "learns", "models"):
        assert after[table].items() >= before[table].items()
    assert len(after["learns"]) > len(before["learns"])


def test_a_fifth_round_of_self_rewarding_costs_one_training() -> None:
    before, after = rows(ALL), rows(ALL.model_copy(update={"sr": 5}))
    assert {t: set(after[t]) - set(before[t]) for t in ("answers", "judges", "learns")} == {
        "answers": {"sr-4.r4"},
        "judges": {"sr-4.sr-4.r4"},
        "learns": {"sr-5"},
    }


def test_keys_are_safe_as_stage_and_file_names() -> None:
    for table in ("answers", "judges", "learns", "models"):
        for key, row in rows(ALL)[table].items():
            assert all(c.isalnum() or c in ".-" for c in key)
            assert table in ("learns", "models") or key == ".".join(row.values())


def test_no_arm_is_one_line() -> None:
    with pytest.raises(TsrError, match=r"^params\.yaml: arms: none is set; expected at least one of sr"):
        plan.build(Arms())


def test_a_model_nobody_trains_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    for old, new, where in [
        ("future: tsr-f2", "future: tsr-f9", "learns.tsr-2.future: nobody trains 'tsr-f9'"),
        ("own: sr-1, ", "", "own: nobody trains None"),
    ]:
        path.write_text(plan.dumps(plan.build(ALL)).replace(old, new))
        with pytest.raises(TsrError) as refused:
            plan.read(path)
        assert str(refused.value).startswith(f"{path}: "), where
        assert where in str(refused.value)
        assert "there are: M0, sr-1" in str(refused.value)


@pytest.mark.parametrize("table", ["answers", "judges", "learns", "models", "lines"])
def test_a_missing_table_is_refused(table: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(plan.dumps(plan.build(ALL)).replace(f"\n{table}:", "\nother:"))
    with pytest.raises(TsrError, match=f"table '{table}' is missing; run `tsr plan`"):
        plan.read(path)


def test_a_stale_or_edited_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with pytest.raises(TsrError, match="no such file; run `tsr plan`"):
        plan.check_agrees(LOADED, path)
    path.write_text(plan.dumps(plan.of(LOADED)))
    assert plan.check_agrees(LOADED, path) == plan.of(LOADED).as_dict()
    for stale in (Arms(sr=4), LOADED.arms.model_copy(update={"sr": 5})):
        with pytest.raises(TsrError, match=r"does not match arms, judge and rubrics in params\.yaml; run `tsr plan`"):
            plan.check_agrees(LOADED.model_copy(update={"arms": stale}), path)
    path.write_text(path.read_text().replace("strategy: future_guided", "strategy: self_rewarding"))
    with pytest.raises(TsrError, match="does not match"):
        plan.check_agrees(LOADED, path)


def test_leftovers_are_what_no_row_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages import paths
    from stages.leftovers import leftovers, planned

    monkeypatch.chdir(tmp_path)
    built = plan.build(Arms(sr=1)).as_dict()
    stale = [paths.pairs("old-1"), paths.scores("M0", "old-1", "r0"), paths.metrics_json("old-1"), paths.model("old-1")]
    for path in [*planned(built), *stale]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    assert leftovers(built) == sorted(stale)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an imported dataset and a training curve, as (path of a file in) the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    Path("stages").mkdir()
    shutil.copyfile(ROOT / "stages/plan.yaml", "stages/plan.yaml")
    for name in ("data/imported/it/pairs/best.parquet", "reports/training/tsr-1.csv"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    monkeypatch.setenv("TSR_DATA", "")
    return Path("data/imported/it")


OF_THE_PLAN = {
    "plan": ["--prune"],
    "prepare": [],
    "base": [],
    "eft": ["--judge", "base"],
    "sft": [],
    "health": [],
    "tournament": [],
    "benchmark": ["M0", "--tasks", "gsm8k"],
    "arena-hard": [],
    "mt-bench": [],
    "alpaca-eval": [],
    "generate": ["M0", "r0"],
    "judge": ["M0", "M0", "r0"],
    "score": ["M0", "M0", "r0"],
    "refer": ["r0"],
    "oracle": ["truth", "M0", "r0"],
    "tune": ["rs-1", "--policy", "M0"],
    "claims": [],
    "measure": [
        *("sr-1", "--policy", "M0", "--judge", "M0", "--split", "r0"),
        *("--own", "M0", "--anchor", "M0", "--future", "M0"),
    ],
    "evaluate": ["M0", "--judge", "M0"],
    "report": [],
    "verify": [],
    "targets": [],
    "forecast": [],
    "doctor": [],
    "gc": [],
    "run": [],
}


def test_every_command_works_on_any_tables_or_on_those_of_the_plan() -> None:
    assert set(COMMANDS) == {*OF_THE_PLAN, *cli.ANYWHERE}


@pytest.mark.parametrize("given", ["option", "variable"])
@pytest.mark.parametrize("command", OF_THE_PLAN)
def test_what_belongs_to_the_plan_refuses_other_tables(
    command: str, given: str, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(Path().rglob("*"))
    if given == "variable":
        monkeypatch.setenv("TSR_DATA", str(beside))
    option = ["--data", str(beside)] if given == "option" else []
    with pytest.raises(
        TsrError, match=rf"^{command}: works on the plan's own tables in data, not on those in {beside}"
    ):
        cli.app([*option, command, *OF_THE_PLAN[command]], standalone_mode=False)
    assert sorted(Path().rglob("*")) == before


def test_prune_lists_what_it_deletes(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = paths.pairs("trial")
    trial.parent.mkdir()
    trial.touch()
    cli.app(["plan"], standalone_mode=False)
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == [
        f"in no row of the plan: {trial}",
        "`tsr plan --prune` deletes these 1, pairs made by hand among them",
    ]
    cli.app(["plan", "--prune"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[1:] == [f"deleted {trial}"]
    assert not trial.exists()
    assert (beside / "pairs/best.parquet").exists() and Path("reports/training/tsr-1.csv").exists()


def test_an_arm_of_ones_own_names_its_strategy_and_its_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path("shortest.sql")
    mine.write_text("select 1")
    own = {"rounds": 2, "strategy": str(mine), "past": True, "future": True, "second_judge": "M0"}
    arms = Arms(tsr=1, mine=own)
    first, second = learn("mine-1", arms), learn("mine-2", arms)
    beside = {"sql": str(mine), "second": "M0"}
    assert first == side("M0", str(mine), "r0", anchor="M0", future="tsr-f1") | beside
    assert second == side("mine-1", str(mine), "r1", anchor="M0", future="mine-f2") | beside
    made = rows(arms)
    assert made["learns"]["tsr-f1"]["also"] == ["mine-f1"]
    assert {"judge": "M0", "model": "mine-f2", "split": "r1"} in made["judges"].values()
    assert made["lines"]["mine"] == ["M0", "mine-1", "mine-2"]


def test_an_arm_of_ones_own_without_past_and_future_trains_once_a_round() -> None:
    own = {"rounds": 2, "strategy": "margin", "past": False, "future": False}
    assert learn("mine-2", Arms(mine=own)) == side("mine-1", "margin", "r1", anchor="mine-1", future="mine-1")
    assert list(rows(Arms(mine=own))["learns"]) == ["mine-1", "mine-2"]


def test_an_anchor_may_move_with_the_model() -> None:
    arms = Arms(moving={"rounds": 3, "strategy": "anchored_rejection", "past": "previous", "future": False})
    assert [learn(f"moving-{n}", arms)["anchor"] for n in (1, 2, 3)] == ["M0", "M0", "moving-1"]
    assert "M0.r2" not in rows(arms)["answers"] and "moving-1.r2" in rows(arms)["answers"]


def test_the_future_model_may_go_on_learning() -> None:
    own = {"rounds": 2, "strategy": "future_guided", "past": False, "future": True, "policy": "future"}
    arms = Arms(onward=own, future_only=2)
    expected = side("onward-1", "future_guided", "r1", anchor="onward-1", future="onward-f2")
    assert learn("onward-2", arms) == expected | {"policy": "onward-f2"}
    made = rows(arms)
    assert made["contrasts"]["onward-2"]["start"] == "onward-f2"
    assert made["learns"]["fut-f1"]["also"] == ["onward-f1"], "up to the future model both arms are one"
    with pytest.raises(ValidationError, match="policy: future needs future: true"):
        Arms(onward=own | {"future": False})


def test_an_arm_of_ones_own_may_replay_judging_examples() -> None:
    own = {"rounds": 1, "strategy": "self_rewarding", "past": False, "future": False}
    made = rows(Arms(sr=1, same=own, more=own | {"replay": 8}))
    assert made["learns"]["sr-1"]["also"] == ["same-1"]
    assert made["contrasts"] == {"sr-1": {"start": "M0", "replay": plan.AS_SET}, "more-1": {"start": "M0", "replay": 8}}


def test_rejection_sampling_learns_from_the_best_alone_by_sft() -> None:
    made = rows(Arms(sr=1, rejection_sampling=2))
    for number, policy in ((1, "M0"), (2, "rs-1")):
        split = f"r{number - 1}"
        expected = side(policy, "rejection_sampling", split, anchor=policy, future=policy) | {"trainer": "sft"}
        assert learn(f"rs-{number}", Arms(sr=1, rejection_sampling=2)) == expected
    assert made["imitates"] == {"rs-1": {"start": "M0"}, "rs-2": {"start": "rs-1"}}
    assert made["contrasts"] == {"sr-1": {"start": "M0", "replay": plan.AS_SET}}
    assert list(made["answers"]) == ["M0.r0", "rs-1.r1"], "M0's responses serve both arms"


@pytest.mark.parametrize(
    ("arm", "name", "splits"), [("spin", "spin", ["ift", "ift"]), ("spin_fair", "fair", ["r0", "r1"])]
)
def test_spin_sets_reference_answers_against_own_ones(arm: str, name: str, splits: list[str]) -> None:
    arms = Arms(**{arm: 2})
    made = rows(arms)
    for number, split in enumerate(splits, start=1):
        policy = f"{name}-{number - 1}" if number > 1 else "M0"
        expected = side(policy, "spin", split, anchor=policy, future="reference") | {"judge": "origin"}
        assert learn(f"{name}-{number}", arms) == expected | {"second": "origin"}
        assert made["oracles"][f"origin.reference.{split}"] in made["oracles"].values()
    assert list(made["references"]) == list(dict.fromkeys(splits))
    assert list(made["judges"]) == ["base.world.rated"], "no model judges"
    assert not [key for key in made["answers"] if key.startswith("reference")]
    assert made["models"][f"{name}-1"] == {"model": f"{name}-1", "judge": f"{name}-1"}


def test_sft_is_m0_alone() -> None:
    assert rows(Arms(sft=0, sr=1))["lines"] == {"sr": ["M0", "sr-1"], "sft": ["M0"]}
    alone = rows(Arms(sft=0))
    assert (alone["lines"], list(alone["models"]), alone["learns"]) == ({"sft": ["M0"]}, ["M0"], {})


@pytest.mark.parametrize("more", [{"rejection_sampling": 2}, {"spin": 1}, {"spin_fair": 2}, {"sft": 0}])
def test_a_further_arm_adds_rows_and_changes_none(more: dict[str, int]) -> None:
    before, after = rows(ALL), rows(ALL.model_copy(update=more))
    for table in plan.TABLES:
        assert after[table].items() >= before[table].items()


def test_the_truth_as_judge_is_no_model_and_models_keep_judging_the_fixed_set() -> None:
    built = plan.build(ALL, "truth").as_dict()
    assert {row["judge"] for row in built["learns"].values()} == {"truth"}
    assert list(built["judges"]) == ["base.world.rated"]
    assert built["oracles"]["truth.M0.r0"] == {"judge": "truth", "model": "M0", "split": "r0"}
    assert all(row["judge"] == model for model, row in built["models"].items())
    plan.check_judges(plan.build(ALL, "truth"))


def test_the_truth_is_refused_where_nobody_knows_it() -> None:
    asked = LOADED.model_copy(update={"judge": "truth", "profile": "small"})
    with pytest.raises(
        TsrError, match=r"^params\.yaml: judge: nobody knows the truth of 'chat_data'; expected micro_w"
    ):
        plan.of(asked)
    with pytest.raises(TsrError, match="judge: 'origin' cannot judge"):
        plan.build(ALL, "origin")
