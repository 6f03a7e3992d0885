"""A judge that is not the model that learns: M0 throughout, or a model behind an API."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from fake_server import FINE, REFUSED, FakeServer, Fault
from small_run import Run

from stages import asking, cli, models, params, paths, plan, tables
from stages.errors import TsrError
from stages.leftovers import leftovers
from stages.params import Arms

ROOT = Path(__file__).parents[1]
ALL = Arms(sr=3, tsr=2, past_only=2, future_only=2)
SAYS_3 = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a+ b- =3"}}]}


def test_a_fixed_judge_judges_every_row() -> None:
    built = plan.build(ALL, "M0").as_dict()
    rounds = [row for table in ("judges", "learns") for row in built[table].values() if row.get("model") != "world"]
    assert {row["judge"] for row in rounds} == {"M0"}
    assert built["learns"]["sr-2"]["policy"] == "sr-1"
    assert {row["judge"] for row in built["models"].values()} == {"M0"}
    assert plan.build(ALL, "self").as_dict() == plan.build(ALL).as_dict()


def test_an_edited_rubric_is_a_stale_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC must see when a rubric is edited: its stages depend on the hashes that stand in the plan."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(asking.RUBRICS / "additive", tmp_path / "additive")
    monkeypatch.setattr(asking, "RUBRICS", tmp_path)
    before = plan.build(ALL, rubrics={"small": "additive"}).rubrics["small"]
    for file, key in (("ask.py", "ask"), ("parse.sql", "parse")):
        with (tmp_path / "additive" / file).open("a") as text:
            text.write("\n")
        after = plan.build(ALL, rubrics={"small": "additive"}).rubrics["small"]
        assert {k for k in before if before[k] != after[k]} == {key}
        before = after
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage, key in (("judge", ".ask"), ("evaluate", ".ask"), ("score", "")):
        assert {"stages/plan.yaml": [f"rubrics.${{profile}}{key}"]} in stages[stage]["do"]["params"]


@pytest.mark.parametrize("judge", ["base", "world"])
def test_what_cannot_judge_is_refused(judge: str) -> None:
    with pytest.raises(TsrError, match=f"judge: '{judge}' cannot judge"):
        plan.build(ALL, judge)


def test_a_plan_with_a_judge_that_is_nowhere_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TsrError, match=r"judge: no folder data/models/gpt5; put a model there, or its endpoint\.json"):
        plan.check_judges(plan.build(ALL, "gpt5"))


@pytest.mark.parametrize("judge", ["sr-1", "tsr-f1", "fut-2"])
def test_a_judge_that_the_plan_trains_is_refused(judge: str) -> None:
    with pytest.raises(TsrError, match=rf"^params\.yaml: judge: '{judge}' learns from its own judgments"):
        plan.build(ALL, judge)


def test_a_plan_can_be_read_without_the_judges_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stages").mkdir()
    loaded = params.load(ROOT / "params.yaml")
    judged = loaded.model_copy(update={"judge": "auto-j"})
    plan.write(plan.of(judged))
    assert plan.check_agrees(judged)
    with pytest.raises(TsrError, match="does not match arms, judge and rubrics"):
        plan.check_agrees(loaded)


def test_pruning_spares_models_that_the_plan_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("auto-j", "mine", "old-1"):
        paths.model(name).mkdir(parents=True)
    outs = [{"path": "data/models/old-1", "md5": "x.dir", "size": 1}]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"dpo@old-1": {"cmd": "c", "outs": outs}}}))
    assert leftovers(plan.build(ALL, "auto-j").as_dict()) == [paths.model("old-1")]


@pytest.fixture
def folder(finished: tuple[Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run whose judge is a model behind an API."""
    place = tmp_path / "run"
    shutil.copytree(finished[1], place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    paths.model("api").mkdir()
    (paths.model("api") / models.ENDPOINT).write_text(json.dumps({"model": "judge-2026"}))
    return place


def use(server: FakeServer, **judge: object) -> None:
    """Point params.yaml at the server."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["judge"] = "api"
    params["micro"]["judge"] |= {"backend": "openai", **judge}
    params["micro"]["backends"]["openai"] = {
        **{"base_url": server.url, "api_key_env": "NO_SUCH_KEY", "concurrency": 8, "timeout_s": 5.0, "retries": 1},
        **{"budget_tokens": 0, "logprobs": False},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    cli.app(["plan"], standalone_mode=False)


def test_a_judge_behind_an_api_goes_through_the_stages(folder: Path) -> None:
    with FakeServer(models=("judge-2026",), always=Fault(change=SAYS_3)) as server:
        use(server, distribution=False)
        cli.app(["judge", "api", "M0", "r0"], standalone_mode=False)
        cli.app(["score", "api", "M0", "r0"], standalone_mode=False)
        cli.app(["evaluate", "M0", "--judge", "api"], standalone_mode=False)
        asked = len(server.asked)
        paths.judgments("api", "M0", "r0").unlink()
        cli.app(["judge", "api", "M0", "r0"], standalone_mode=False)
        assert len(server.asked) == asked, "paid for twice"
    judged = tables.read("judgments", paths.judgments("api", "M0", "r0"))
    assert set(judged["backend"]) == {"openai"}
    assert set(judged["judge_hash"]) == {models.model_hash(paths.model("api"))}
    fixed = tables.read("judgments", paths.judgments("M0", paths.WORLD, "fixed"))
    assert set(fixed["judge"]) == {"api"}
    scored = tables.read("scores", paths.scores("api", "M0", "r0"))
    assert set(scored["score"]) == {3.0}
    assert {body["model"] for body in server.asked} == {"judge-2026"}


def test_refused_judgments_are_rows_up_to_the_share(folder: Path) -> None:
    script = [REFUSED, *[FINE] * 200]
    with FakeServer(models=("judge-2026",), script=script, always=Fault(change=SAYS_3)) as server:
        use(server, distribution=False, max_failed_share=0.2)
        cli.app(["judge", "api", "M0", "r0"], standalone_mode=False)
    judged = tables.read("judgments", paths.judgments("api", "M0", "r0"))
    lost = judged.filter(status="refused")
    assert 1 <= lost.height < judged.height
    assert set(lost["raw"]) == {""}
    cli.app(["score", "api", "M0", "r0"], standalone_mode=False)
    scored = tables.read("scores", paths.scores("api", "M0", "r0"))
    assert set(scored.join(lost, on="generation_id", how="semi")["parse_status"]) == {"unparsed"}


def test_too_many_refusals_stop_the_stage(folder: Path) -> None:
    with FakeServer(models=("judge-2026",), always=REFUSED) as server:
        use(server, distribution=False, max_failed_share=0.1)
        with pytest.raises(
            TsrError, match=r"^judge/api/M0/r0: \d+ of 48 rows failed \(refused \d+\); max_failed_share is 0\.1"
        ):
            cli.app(["judge", "api", "M0", "r0"], standalone_mode=False)
    assert not paths.judgments("api", "M0", "r0").exists()
