"""What a run will take: work from the plan, times from rates and figures, disk, and one line for what is not known."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from stages import cli, paths
from stages.errors import TsrError
from stages.forecast import lengths, memory, shape, speed, told, work
from stages.forecast.assumed import Assumed
from stages.forecast.forecast import Forecast, How, forecast
from stages.lockfile import Ran
from stages.metrics import write_json
from stages.params import Arms, OwnArm, Params, load

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def params() -> Params:
    """The repository's params.yaml, with `paper` for the arm sr alone, of two rounds."""
    loaded = load(ROOT / "params.yaml")
    alone = loaded.arms.model_copy(update={"sr": 2, "tsr": None, "past_only": None, "future_only": None})
    return loaded.model_copy(update={"arms": alone})


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`training.launch` names a file in the repository."""
    monkeypatch.chdir(ROOT)


def of(params: Params, **how: Any) -> Forecast:
    return forecast(params, How(**{"profile": "paper", "gpu": "h100-80"} | how))


def task(found: Forecast, name: str) -> work.Task:
    return next(one for one in found.tasks if one.name == name)


def test_work_is_what_the_plan_and_the_settings_ask_for(params: Params) -> None:
    found = of(params, assume=("yield=0.5",))
    names = [one.name for one in found.tasks if one.kind not in ("prepare", "base", "eft", "report", "score", "pair")]
    assert names == [
        *("sft", "generate@M0.r0", "generate@sr-1.r1", "judge@base.world.rated", "judge@M0.M0.r0"),
        *("judge@sr-1.sr-1.r1", "dpo@sr-1", "dpo@sr-2", "measure@sr-1", "measure@sr-2"),
        *("evaluate@M0", "evaluate@sr-1", "evaluate@sr-2"),
    ]
    answered, judged, dpo = task(found, "generate@M0.r0"), task(found, "judge@M0.M0.r0"), task(found, "dpo@sr-1")
    prompt, response, reply = 1024 * 0.25, 1024 * 0.4, 768 * 0.5
    assert answered.requests == 4000 * 7
    assert (answered.read, answered.written) == pytest.approx((28_000 * prompt, 28_000 * response))
    assert answered.asked[0].fresh == 4000 * prompt  # a prompt is read once for seven samples
    assert judged.requests == 28_000 * 3
    assert judged.written == pytest.approx(84_000 * reply)
    assert judged.read == pytest.approx(84_000 * (prompt + response + found.lengths.question.value))
    assert task(found, "judge@base.world.rated").requests == 2000 * 4 * 3
    assert dpo.trained == pytest.approx(2000 * 2 * (prompt + response))
    assert dpo.forward == dpo.trained  # the reference, once
    assert dpo.steps == 125
    evaluated = task(found, "evaluate@M0")
    assert [part.requests for part in evaluated.asked] == [500, 300 * 3, 300]  # answers, votes, the next token
    assert task(found, "sft").steps == 3 * -(-(5000 + 1872) // 16)
    assert not any(one.done for one in found.tasks)


def test_work_that_arms_share_is_counted_once() -> None:
    everything = forecast(load(ROOT / "params.yaml"), How("paper", "h100-80"))
    assert sum(one.kind == "generate" for one in everything.tasks) == 9  # stages/plan.yaml has nine rows
    assert sum(one.kind == "dpo" for one in everything.tasks) == 10


def test_judging_examples_beside_the_pairs_are_trained_on_too(params: Params) -> None:
    own = {"rounds": 1, "strategy": "self_rewarding", "past": True, "future": False}
    arms = Arms(sr=1, rejection_sampling=1, more=OwnArm(**own, replay=32), without=OwnArm(**own, replay=0))
    asked = params.model_copy(update={"arms": arms})
    before, after = of(asked), of(changed(asked, dpo={"replay": 16}))
    plain = task(before, "dpo@sr-1")

    def grown(found: Forecast, name: str) -> float:
        assert task(found, name).forward == plain.forward, "the reference reads pairs alone"
        return task(found, name).trained - plain.trained

    a_step = plain.steps * before.lengths.eft.value
    assert plain.trained == plain.forward
    assert [grown(before, name) / a_step for name in ("dpo@more-1", "dpo@without-1", "dpo@rs-1")] == pytest.approx(
        [32, 0, 0]
    )
    told = [grown(after, f"dpo@{name}-1") / a_step for name in ("sr", "more", "without", "rs")]
    assert told == pytest.approx([16, 32, 0, 0])


def test_of_a_finished_round_judging_examples_are_told_from_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the round's figures alone: the training's curve goes with the weights, which may be elsewhere."""
    monkeypatch.chdir(tmp_path)
    paths.pairs("sr-1").parent.mkdir(parents=True)
    pl.DataFrame({"strategy": ["self_rewarding"]}).write_parquet(paths.pairs("sr-1"))
    recorded = {"measure@sr-1": Ran("measure@sr-1", {"micro.dpo.epochs": 2}, {}, [])}
    for replayed, length in (({}, 50.0), ({"tokens_replayed": 200}, 40.0)):
        write_json({"pairs": 10, "yield": 0.5, "tokens_trained": 1000} | replayed, paths.measures_json("sr-1"))
        pair, yields = lengths._pairs(recorded)
        assert pair is not None
        assert (pair.value, yields) == (length, {"self_rewarding": 0.5})


def machine(name: str, model: str, **engine: Any) -> speed.Machine:
    profile = load(ROOT / "params.yaml").profiles["paper"]
    settings = profile.backends["vllm"].model_copy(update={"max_num_seqs": 1024} | engine)
    profile = profile.model_copy(update={"backends": profile.backends | {"vllm": settings}})
    asked, gpu = Assumed({"start_seconds": 1e-9}), memory.find_gpu(name)
    return speed.Machine(shape.of_hub(model), profile, gpu, 8, asked, lengths.of(profile, {}, asked))


@pytest.mark.parametrize(
    ("gpu", "rows", "read", "written", "published", "tolerance"),
    [
        # vLLM, Llama-3.1-8B in bfloat16; docs/forecast.md says where each was read.
        ("a100-40", 1, 1024, 128, 75, 0.15),  # one request at a time
        ("h100-80", 1, 200, 200, 1 / 0.00648, 0.15),  # the same, by the time between two tokens
        ("h100-80", 256, 200, 200, 12_500, 0.35),  # a full batch of short chats
    ],
)
def test_writing_is_as_fast_as_others_have_measured(
    gpu: str, rows: int, read: int, written: int, published: float, tolerance: float
) -> None:
    on, requests = machine(gpu, "meta-llama/Llama-3.1-8B", max_num_seqs=rows), 1000
    asked = work.Asked("generate", requests, requests * read, requests * written, requests * read)
    seconds = on.seconds(work.Task("generate", asked=(asked,)), speed.Rates())
    assert seconds is not None
    assert asked.written / seconds == pytest.approx(published, rel=tolerance)


def test_training_takes_six_flops_a_weight_and_token_and_two_more_for_what_is_computed_again() -> None:
    on = machine("a100-80", "meta-llama/Llama-3.1-8B")
    seconds = on.seconds(work.Task("sft", trained=1e6), speed.Rates())
    flops = 8 * on.shape.active * 1e6
    assert seconds == pytest.approx(flops / (312e12 * 0.4 * 8), rel=0.05)  # the rest is attention
    half = on.profile.model_copy(update={"training": on.profile.training.model_copy(update={"adapter": "lora"})})
    frozen = replace(on, profile=half).seconds(work.Task("sft", trained=1e6), speed.Rates())
    assert frozen == pytest.approx(seconds * 6 / 8, rel=0.02)


def test_a_faster_gpu_takes_less_and_a_given_rate_counts_before_all(params: Params) -> None:
    hours = {name: told.as_dict(of(params, gpu=name))["totals"]["hours"]["left"] for name in ("a100-80", "h100-80")}
    assert hours["h100-80"] < hours["a100-80"]
    given = of(params, rates=("generate=1000",), assume=("start_seconds=10",))
    seconds = given.seconds[[one.name for one in given.tasks].index("generate@M0.r0")]
    assert seconds == pytest.approx(10 + task(given, "generate@M0.r0").tokens / 1000)


def test_without_a_gpu_named_the_smallest_is_taken_that_all_fits_on(params: Params) -> None:
    found = of(params, gpu="")
    assert not found.chosen
    assert found.gpu is not None
    for gpu in memory.known_gpus().values():
        peaks = memory.peaks(found.shape, params.profiles["paper"], memory.Launch(8, True), gpu, Assumed())
        assert all(peak.total <= gpu.gib * memory.GIB for peak in peaks) == (gpu.gib >= found.gpu.gib)


def test_workers_share_the_work() -> None:
    alone = machine("h100-80", "meta-llama/Llama-3.1-8B")
    assert alone.profile.backends["ray"].workers == 8
    asking = alone.profile.generate.model_copy(update={"backend": "ray"})
    many = replace(alone, profile=alone.profile.model_copy(update={"generate": asking}))
    task = work.Task("generate", asked=(work.Asked("generate", 100_000, 10**7, 10**7, 10**7),))
    assert (alone.gpus(task), many.gpus(task)) == (1, 8)
    one, eight = (on.seconds(task, speed.Rates()) for on in (alone, many))
    assert one and eight and one / eight == pytest.approx(8)


def changed(params: Params, **blocks: dict[str, Any]) -> Params:
    """`paper` with some keys of its blocks changed; `vllm` is that engine's."""
    paper = params.profiles["paper"]
    engines = {**paper.backends, "vllm": paper.backends["vllm"].model_copy(update=blocks.pop("vllm", {}))}
    update = {name: getattr(paper, name).model_copy(update=keys) for name, keys in blocks.items()}
    return params.model_copy(update={"profiles": {"paper": paper.model_copy(update={**update, "backends": engines})}})


@pytest.mark.parametrize(("positions", "share", "fit"), [(8192, 0.9, True), (65536, 0.9, False), (8192, 0.65, False)])
def test_an_engine_that_could_not_start_does_not_fit(params: Params, positions: int, share: float, fit: bool) -> None:
    """vLLM refuses where its share of 24 GiB, less 15 of weights, holds no row of all positions (1 GiB for 8192)."""
    found = of(changed(params, vllm={"max_model_len": positions, "gpu_memory_utilization": share}), gpu="rtx-3090")
    assert {one["stage"]: one["fits"] for one in told.as_dict(found)["memory"]}["judge"] == fit


def test_a_judge_holds_the_rubric_too(params: Params) -> None:
    """The embedded engine: 64 rows of prompt, response, rubric and reply."""
    embedded = {name: {"backend": "transformers"} for name in ("generate", "judge")}
    found = of(changed(params, **embedded))
    caches = {peak.stage: peak.cache / 64 / found.shape.cache_bytes(2) for peak in found.peaks}
    assert caches["generate"] == 1024 + 1024
    assert caches["judge"] == 1024 + 1024 + round(found.lengths.question.value) + 768
    embedded["judge"] |= {"way": "one_token", "votes": 1}
    found = of(changed(params, **embedded))
    caches = {peak.stage: peak.cache / 64 / found.shape.cache_bytes(2) for peak in found.peaks}
    assert caches["judge"] == 1024 + 1024 + round(found.lengths.question.value) + 1


def test_a_judge_that_the_run_does_not_make_has_a_shape_of_its_own(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.paths.MODELS", tmp_path)
    large = {**yaml.safe_load(shape.KNOWN.read_text())["models"]["Qwen/Qwen2.5-7B"], "num_hidden_layers": 56}
    (tmp_path / "large").mkdir()
    (tmp_path / "large/config.json").write_text(json.dumps(large))
    alone, found = of(params), of(params.model_copy(update={"judge": "large"}))
    peaks = {peak.stage: peak.weights for peak in found.peaks}
    assert peaks["judge large"] == 2 * shape.of_file(tmp_path / "large").parameters > peaks["judge"]
    seconds = {one.name: s for one, s in zip(found.tasks, found.seconds, strict=True)}
    before = {one.name: s for one, s in zip(alone.tasks, alone.seconds, strict=True)}
    assert seconds["judge@large.M0.r0"] > 1.3 * before["judge@M0.M0.r0"]
    assert seconds["judge@base.world.rated"] == before["judge@base.world.rated"]  # the teacher
    assert seconds["evaluate@M0"] == before["evaluate@M0"]  # each judges the fixed set itself


def test_prompts_without_a_limit_are_bounded_by_what_can_be_trained_on(params: Params) -> None:
    found = of(changed(params, prepare={"max_prompt_tokens": 0}))
    assert found.lengths.prompt.value == pytest.approx((4096 - 1024) / 4)
    with pytest.raises(TsrError, match=r"prepare\.max_prompt_tokens: is 0, and no max_tokens bounds a prompt"):
        of(changed(params, prepare={"max_prompt_tokens": 0}, sft={"max_tokens": 0}, dpo={"max_tokens": 0}))


def test_disk_of_the_weights_is_a_version_a_training_and_the_base(params: Params) -> None:
    rooms = {room.table: room for room in of(params).rooms}
    n = shape.of_hub("meta-llama/Llama-3.1-8B").parameters
    assert rooms["models"].planned == 2 * n * 4  # base, M0, sr-1, sr-2 in bfloat16
    assert rooms["models"].files == 4
    assert rooms["checkpoints of a training"].planned == 3 * 12 * n
    assert all(room.here == 0 for room in rooms.values())  # what lies in data is another profile's


def test_measured_rates_are_tokens_by_seconds_of_what_was_not_there_already(tmp_path: Path) -> None:
    asked = (work.Asked("generate", 10, 600, 400, 600),)
    finished = [work.Task("generate", "M0.r0", asked, done=True), work.Task("generate", "sr-1.r1", asked, done=True)]
    lines = [
        {"command": ["generate", "M0", "r0"], "seconds": 12.0, "model_seconds": 10.0},
        {"command": ["generate", "sr-1", "r1"], "seconds": 4.0, "model_seconds": 0.1, "reused": 10},
        {"command": ["verify"], "seconds": 9.0, "model_seconds": 0.0},
    ]
    file = tmp_path / "timings.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rates = speed.of_timings(file, finished)
    assert rates.tokens == {"generate": 100.0}
    assert rates.start == {"generate": pytest.approx(2.95)}
    file.write_text('{"command": ["generate", "M0", "r0"]}\n')
    with pytest.raises(TsrError, match="expected a line for each command"):
        speed.of_timings(file, finished)


def test_the_benchmarks_of_another_run_tell_no_rate_unless_they_have_its_tokens(tmp_path: Path) -> None:
    kinds = {kind: {"runs": 1, "seconds": 12.0, "model_seconds": 10.0} for kind in speed.MODEL_KINDS}
    file = tmp_path / "benchmarks.json"
    file.write_text(json.dumps({"default_run": {"seconds": 90.0, "seconds_by_stage": kinds}}))
    one_each = [work.Task(kind, trained=500.0, done=True) for kind in speed.MODEL_KINDS]
    rates = speed.of_benchmarks(file, one_each)
    assert rates is not None
    assert rates.tokens["judge"] == 50.0
    assert (rates.start["judge"], rates.around) == (2.0, 3.0)
    assert speed.of_benchmarks(file, one_each[:-1]) is None
    kinds = {kind: one | {"tokens": 700} for kind, one in kinds.items()}
    file.write_text(json.dumps({"default_run": {"seconds": 90.0, "seconds_by_stage": kinds}}))
    rates = speed.of_benchmarks(file, [])
    assert rates is not None
    assert rates.tokens["judge"] == 70.0
    assert speed.of_benchmarks(tmp_path / "none.json", one_each) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "h100"], "--gpu h100: its figures are not known; there are: rtx-3090, rtx-4090, a100-40"),
        (["--profile", "large"], "--profile large: no block 'large' in params.yaml; there are: micro, small, paper"),
        (["--profile", "paper", "--assume", "mfu=1"], "--assume mfu=1: no 'mfu'; there are: prompt_share"),
        (["--profile", "paper", "--assume", "yield=much"], "--assume yield=much: expected yield=NUMBER"),
        (["--profile", "paper", "--assume", "yield=0"], "--assume yield=0: expected a number above 0"),
        (["--profile", "paper", "--assume", "yield=2"], "--assume yield=2: expected a share, at most 1"),
        (["--rate", "pair=3"], "--rate pair=3: no 'pair'; there are: sft, generate, judge"),
        (["--profile", "paper", "--config", "none.json"], "none.json: no such file; expected a model"),
        (["--format", "csv"], "forecast: --format 'csv': expected text or json"),
        (["--profile", "paper", "--timings", "none.jsonl"], "none.jsonl: No such file or directory"),
    ],
)
def test_what_is_not_known_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(TsrError) as raised:
        cli.app(["forecast", *words], standalone_mode=False)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_launch_file_that_is_none_is_one_line(params: Params, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("num_processes: many\n")
    paper = params.profiles["paper"]
    training = paper.training.model_copy(update={"launch": str(tmp_path / "bad.yaml")})
    changed = params.model_copy(update={"profiles": {"paper": paper.model_copy(update={"training": training})}})
    with pytest.raises(TsrError, match=r"bad\.yaml: num_processes: expected a whole number"):
        of(changed)


def test_a_judge_behind_an_api_has_tokens_but_no_time_and_no_memory(params: Params) -> None:
    paper = params.profiles["paper"]
    judge = paper.judge.model_copy(update={"backend": "openai"})
    found = of(params.model_copy(update={"profiles": {"paper": paper.model_copy(update={"judge": judge})}}))
    seconds = dict(zip((one.name for one in found.tasks), found.seconds, strict=True))
    assert task(found, "judge@M0.M0.r0").tokens > 0
    assert seconds["judge@M0.M0.r0"] is None
    assert seconds["generate@M0.r0"] is not None
    assert "judge" not in {peak.stage for peak in found.peaks}
    assert told.as_dict(found)["totals"]["unknown"] >= 3


@pytest.mark.parametrize("columns", ["80", "100", "120"])
def test_the_tables_are_as_wide_as_the_screen_and_nothing_is_cut(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for gpu in ("h100-80", "rtx-3090"):  # the latter takes hundreds of hours
        shown = CliRunner().invoke(cli.app, ["forecast", "--profile", "paper", "--gpu", gpu]).output
        assert max(len(line) for line in shown.splitlines()) <= int(columns)
        assert "…" not in shown
        assert f"8 x {gpu}" in shown


def test_json_holds_every_figure(params: Params) -> None:
    found = json.loads(json.dumps(told.as_dict(of(params))))
    assert found["model"]["parameters"] == 8_030_261_248
    assert found["gpus_held"] == 8
    assert found["lengths"]["prompt"] == {"value": 256.0, "origin": "assumed"}
    assert {stage["stage"] for stage in found["stages"]} >= {"generate@M0.r0", "dpo@sr-2", "report"}
    assert found["totals"]["gpu_hours"]["left"] == found["totals"]["gpu_hours"]["planned"] > 0
    assert found["totals"]["gpu_hours_held"]["planned"] == pytest.approx(8 * found["totals"]["hours"]["planned"])


def test_no_heavy_library_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['tsr', 'forecast', '--profile', 'paper', '--format', 'json']; from stages import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'trl', 'datasets', 'dvc'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_a_stage_without_a_row_takes_nothing_and_hides_no_other(params: Params) -> None:
    """No rated prompts: the teacher judges nothing, and what judging takes is known all the same."""
    found = of(changed(params, prepare={"eft_prompts": 0}))
    seconds = dict(zip((one.name for one in found.tasks), found.seconds, strict=True))
    assert task(found, "judge@base.world.rated").tokens == 0
    assert seconds["judge@base.world.rated"] == 0.0
    assert "judge" not in next(line for line in told._notes(found).splitlines() if line.startswith("not known"))


def test_a_gpu_that_is_assumed_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["forecast", "--profile", "small"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("GPU: 1 x rtx-3090 (24 GiB")
    assert lines[2].strip() == "assumed, for no GPU was named: the smallest known one that every stage fits"
    assert lines[3].strip().startswith("name yours by --gpu: rtx-3090, rtx-4090, ")
    assert any("with 1 x rtx-3090 (assumed: --gpu) held throughout" in line for line in lines)
    cli.app(["forecast", "--profile", "small", "--gpu", "rtx-3090"], standalone_mode=False)
    assert "assumed, for" not in capsys.readouterr().out


def test_settings_are_changed_for_one_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-S", "profile=paper", "-S", "paper.generate.samples=2", "--set", "arms.sr=2", "--gpu", "h100-80"]
    cli.app(["forecast", *words, "--format", "json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    requests = {one["stage"]: one["requests"] for one in found["stages"]}
    assert (found["profile"], found["changed"], requests["generate@M0.r0"]) == ("paper", True, 8000)
    assert "dpo@sr-3" not in requests
    with pytest.raises(TsrError, match=r"forecast: --set paper\.generate\.sample: no such key in params\.yaml"):
        cli.app(["forecast", "-S", "paper.generate.sample=2"], standalone_mode=False)


def test_with_changed_settings_nothing_counts_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["forecast", "-S", "micro.generate.samples=9"], standalone_mode=False)
    told_ = capsys.readouterr().out
    assert "settings are changed (-S): nothing counts as done, and nothing as here" in told_
    assert "done" in told_
