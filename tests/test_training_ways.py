"""Trainings that are stopped, divided, adapted or cut short come to what they should."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import polars as pl
import pytest
import yaml
from small_run import Run
from transformers import TrainingArguments

from stages import checkpoints, dpo, models, packing, paths, sft, tables, training
from stages.errors import TsrError
from stages.ids import file_sha256
from stages.params import Profile, load

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning", "ignore::UserWarning")
ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "stages/accelerate"
TWO = str(LAUNCH / "two_processes.yaml")
SEED = 7


@pytest.fixture
def here(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Profile:
    """The settings of the small run, whose M0 and pairs of sr-1 are in the current folder; finished rows elsewhere."""
    monkeypatch.setenv("TSR_STORE", str(tmp_path / "store"))
    return load().block


def changed(settings: Profile, **blocks: dict[str, Any]) -> Profile:
    """Settings with some keys of some blocks put in place of theirs."""
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=keys) for name, keys in blocks.items()}
    )


def fit(settings: Profile, name: str, pairs: pl.DataFrame | None = None) -> dict[str, Any]:
    """Train M0 on the pairs of sr-1 under another name, and return its weights."""
    from safetensors.torch import load_file

    rows = tables.read("pairs", paths.pairs("sr-1")) if pairs is None else pairs
    dpo.fit(SEED, settings, name, paths.model("M0"), rows)
    return load_file(paths.model(name) / "model.safetensors")


def furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of two models' weights."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the next training end in the middle of things, once."""
    told = training._Advancing.on_step_end

    def stopping(self: Any, args: Any, state: Any, control: Any, **how: Any) -> None:
        told(self, args, state, control, **how)
        if state.global_step == steps:
            raise StoppedError

    monkeypatch.setattr(training._Advancing, "on_step_end", stopping)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "unsealed": ("was not finished", lambda at: (at / "sealed.json").unlink()),
    "no seal": ("sealed.json is damaged", lambda at: (at / "sealed.json").write_text("{")),
    "flipped weight": (
        "model.safetensors is not what was saved",
        lambda at: flip(next(at.glob("*model.safetensors"))),
    ),
    "other state": ("trainer_state.json is not", lambda at: flip(at / "trainer_state.json")),
    "file gone": ("optimizer.pt cannot be read: No such file", lambda at: (at / "optimizer.pt").unlink()),
    "nothing sealed": ("sealed.json names no trainer_state.json", lambda at: (at / "sealed.json").write_text("{}")),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_checkpoint_that_is_not_what_was_sealed_goes(
    harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (9, 10, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("model.safetensors", "optimizer.pt", "trainer_state.json"):
            (folder / name).write_text(f"{name} {step}")
        checkpoints.seal(folder)
        (folder / ".nfs0001").touch()  # what others leave there is no damage
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert checkpoints.newest(tmp_path, args) == folder
    told, hurt = HARMS[harm]
    hurt(folder)
    assert checkpoints.newest(tmp_path, args) == tmp_path / "checkpoint-10"
    line = capsys.readouterr().err
    assert line.startswith(f"tsr: {folder}: ") and told in line and line.endswith("; it is removed\n")
    assert not folder.exists()
    assert checkpoints.newest(tmp_path / "none", args) is None


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("harm", ["", "unsealed", "flipped weight"])
def test_a_stopped_training_goes_on_to_the_same_result(
    here: Profile, adapter: str, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(here, training={"adapter": adapter, "lora_dropout": 0.1}, dpo={"batch_size": 2, "epochs": 2})
    whole = fit(settings, "whole")
    kept, name = changed(settings, following={"checkpoint_every": 1}), f"stopped-{adapter}-{len(harm)}"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            fit(kept, name)
    assert not paths.model(name).exists()
    [folder] = (paths.store() / "training").iterdir()
    kept_ones = sorted(folder.glob("checkpoint-*"))
    assert len(kept_ones) == 2
    for one in kept_ones:  # the clock was ahead, and is no more
        os.utime(one, (time.time() + 3600,) * 2)
    if harm:
        HARMS[harm][1](kept_ones[-1])
    seen = []
    monkeypatch.setattr(
        training._Advancing, "on_step_end", lambda self, args, state, control, **how: seen.append(state.global_step)
    )
    assert furthest(fit(kept, name), whole) == 0.0
    assert seen[0] == (2 if harm else 3), "it did not begin anew"
    assert not folder.exists()


def test_another_training_takes_no_checkpoint_of_this_one(here: Profile) -> None:
    def job(name: str, **blocks: dict[str, Any]) -> Path:
        settings = changed(here, **blocks)
        made = training.Job(name, paths.model("M0"), 1, settings.training, settings.dpo, settings.following, [1], 0)
        return made.checkpoints

    assert job("a") == job("a", following={"checkpoint_every": 5, "log_to": "tensorboard"})
    assert len({job("a"), job("b"), job("a", dpo={"beta": 0.2}), job("a", training={"adapter": "lora"})}) == 4


def test_an_adapter_changes_linear_layers_alone_and_is_merged(here: Profile) -> None:
    from safetensors.torch import load_file

    before = load_file(paths.model("M0") / "model.safetensors")
    settings = changed(here, training={"adapter": "lora", "lora_rank": 4})
    after, again = fit(settings, "after"), fit(settings, "again")
    moved = {name for name in after if float((after[name] - before[name]).abs().max()) > 1e-6}
    assert moved
    assert all("proj" in name for name in moved)
    assert furthest(after, again) == 0.0
    assert not list(paths.model("after").glob("adapter*"))
    assert models.load_model(paths.model("after")).config.model_type == "llama"


def test_a_batch_in_parts_is_the_same_batch(here: Profile) -> None:
    whole = fit(changed(here, dpo={"batch_size": 4}), "whole")
    parts = fit(changed(here, dpo={"batch_size": 4}, training={"rows_at_once": 1}), "parts")
    assert furthest(whole, parts) < 1e-4
    with pytest.raises(TsrError, match=r"batch_size 4 is no multiple of training\.rows_at_once 3 x 1 processes"):
        fit(changed(here, dpo={"batch_size": 4}, training={"rows_at_once": 3}), "odd")


def test_memory_savers_run_and_save_what_is_asked(here: Profile) -> None:
    lean = {"dtype": "bfloat16", "gradient_checkpointing": True, "save_dtype": "bfloat16"}
    saved = fit(changed(here, training=lean), "lean")
    assert {str(tensor.dtype) for tensor in saved.values()} == {"torch.bfloat16"}
    assert json.loads((paths.model("lean") / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_training_that_changes_nothing_is_told(here: Profile) -> None:
    """Updates below what bfloat16 can hold vanish on the way to disk."""
    with pytest.raises(TsrError, match="training changed no weight that float32 can hold; expected more"):
        fit(changed(here, dpo={"learning_rate": 1.0e-30, "max_grad_norm": 1.0e-30}), "nothing")
    assert not paths.model("nothing").exists()


@pytest.mark.parametrize("kept", [0, 1])
def test_a_training_that_ends_in_no_numbers_saves_nothing(here: Profile, kept: int) -> None:
    wild = changed(here, dpo={"learning_rate": 1.0e37}, following={"checkpoint_every": kept})
    with pytest.raises(TsrError, match=r"models/wild: training ended in weights that are no numbers \(NaN, inf\), in "):
        fit(wild, "wild")
    assert not paths.model("wild").exists()
    assert not list((paths.store() / "training").glob("wild-*")), "nothing would go on from there"


@pytest.mark.parametrize("steps", [1, 7])
def test_a_short_training_has_a_curve_too(here: Profile, steps: int, tmp_path: Path) -> None:
    kept = {path: path.read_bytes() for path in paths.model("M0").iterdir()}
    examples = sft.mix(SEED, *(tables.read("prompts", path) for path in (paths.prompts("ift"), paths.eft())), here.sft)
    try:
        log = sft.fit(SEED, changed(here, sft={"steps": steps}), examples)
    finally:
        for path, held in kept.items():
            path.write_bytes(held)
    training.write_curve(log, {"loss": "loss"}, tmp_path / "M0.csv")
    assert pl.read_csv(tmp_path / "M0.csv")["step"].to_list() == list(range(1, steps + 1))


def test_pairs_that_are_too_long_are_left_out_and_counted(here: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tables.read("pairs", paths.pairs("sr-1"))
    tokenizer = models.load_tokenizer(paths.model("M0"))

    def tokens(row: dict[str, Any], side: str) -> int:
        return len(tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=True)["input_ids"])

    lengths = [max(tokens(row, side) for side in ("chosen", "rejected")) for row in pairs.iter_rows(named=True)]
    limit = sorted(lengths)[len(lengths) // 2]
    fitting = [length <= limit for length in lengths]
    cut = fit(changed(here, dpo={"max_tokens": limit}), "cut")
    assert (
        f"{fitting.count(False)} of {len(lengths)} examples are longer than {limit} tokens" in capsys.readouterr().err
    )
    assert json.loads((paths.model("cut") / models.MADE_BY).read_text())["left_out"] == fitting.count(False)
    assert furthest(cut, fit(here, "fewer", pairs.filter(pl.Series(fitting)))) == 0.0


LOGS = {"tensorboard": "tensorboard/*/events*", "trackio": "trackio/tsr.db", "wandb": "wandb/offline-run-*/run-*.wandb"}
LOGGED = ("loss", "learning_rate", "rewards/margins", "lengths/chosen", "lengths/rejected")


def test_a_training_can_be_followed(here: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(paths.store() / "tensorboard"))  # and put back afterwards
    fit(changed(here, following={"log_to": "tensorboard"}), "followed")
    assert list((paths.store() / "tensorboard").rglob("events.out.tfevents.*"))


@pytest.mark.slow
@pytest.mark.parametrize("log", LOGS)
def test_each_log_has_what_is_asked_for_and_stays_in_the_store(
    finished: tuple[Run, Path], tmp_path: Path, log: str
) -> None:
    """All that is asked for is logged, beneath the store alone, and the result is none other."""
    pytest.importorskip(log, reason=f"needs {log}: pip install {log}")
    folder, home, store = (tmp_path / name for name in ("run", "home", "store"))
    shutil.copytree(finished[1], folder)
    home.mkdir()

    def files() -> dict[Path, str]:
        return {path: file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}

    found = []
    for to in ("none", log):
        done = stage(folder, *DPO, env={"HOME": str(home), "TSR_STORE": str(store)}, following={"log_to": to})
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(files() | {folder / "params.yaml": ""})
    assert found[0] == found[1]
    assert not [path for path in home.rglob("*") if path.is_file()]
    [kept] = store.glob(LOGS[log])
    told = kept.read_bytes()
    assert not [name for name in LOGGED if f"train/{name}".encode() not in told]


def test_lengths_are_those_of_the_responses(here: Profile, run: Run) -> None:
    """In tokens, the end of the turn included, over all pairs of a step; logged for whoever follows."""
    pairs, tokenizer = tables.read("pairs", paths.pairs("sr-1")), models.load_tokenizer(paths.model("M0"))
    settings = changed(here, dpo={"batch_size": pairs.height, "epochs": 1}, training={"rows_at_once": 0})
    [step] = [row for row in dpo.fit(SEED, settings, "lengths", paths.model("M0"), pairs) if "loss" in row]
    for side in ("chosen", "rejected"):
        ids = [
            len(tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=True)["input_ids"])
            - len(
                tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
            )
            for row in pairs.iter_rows(named=True)
        ]
        assert step[f"lengths/{side}"] == pytest.approx(sum(ids) / len(ids))


LACKING = {
    "gpu": ({"training": {"device": "cuda"}}, "", "torch finds no GPU"),
    "gpu for qlora": ({"training": {"adapter": "qlora"}}, "", "qlora needs a GPU; expected lora or none on a CPU"),
    "gpu for flash": (
        {"training": {"attention": "flash_attention_2", "dtype": "bfloat16"}},
        "",
        "flash_attention_2 needs a GPU and dtype bfloat16, not cpu and bfloat16; expected sdpa or eager",
    ),
    "bitsandbytes": ({"training": {"adapter": "qlora"}}, "cuda", "bitsandbytes is not installed; `pip install"),
    "flash": (
        {"training": {"attention": "flash_attention_2", "dtype": "bfloat16"}},
        "cuda",
        "flash-attn is not installed; `pip install flash-attn`, or sdpa or eager",
    ),
    "precision": (
        {"training": {"attention": "flash_attention_2", "dtype": "float32"}},
        "cuda",
        "not cuda and float32; expected sdpa or eager",
    ),
    "trackio": ({"following": {"log_to": "trackio"}}, "", "log_to: trackio: trackio is not installed; `pip install"),
}


@pytest.mark.parametrize("kind", LACKING)
def test_what_is_not_there_is_one_line_before_any_work(
    here: Profile, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU may be there in name, so that what is wanted beside it is seen to be missing."""
    import torch

    blocks, named, told = LACKING[kind]
    if not named and "gpu" in kind and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    if named:
        monkeypatch.setattr(training.device, "found", lambda device: named)
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda package: None)
    monkeypatch.setattr(models, "load_tokenizer", None)  # no work begins
    for train in (lambda settings: fit(settings, "nowhere"), lambda settings: sft.fit(SEED, settings, pl.DataFrame())):
        with pytest.raises(TsrError) as refused:
            train(changed(here, **blocks))
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)


# --- packing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_examples_teach_what_they_teach_alone(here: Profile, attention: str) -> None:
    """One step over all examples: packed into few rows of several, or each in a row of its own."""
    from safetensors.torch import load_file

    examples = tables.read("prompts", paths.prompts("ift")).head(12)
    lengths = {"epochs": 1, "steps": 0, "max_tokens": 80, "learning_rate": 1.0e-2}
    found = []
    for packed, rows in ((False, 12), (True, 100)):
        block = lengths | {"packing": packed, "batch_size": rows}
        kept = paths.model("M0").with_name("kept")
        shutil.copytree(paths.model("M0"), kept)
        try:
            sft.fit(SEED, changed(here, sft=block, training={"attention": attention}), examples)
            found.append(load_file(paths.model("M0") / "model.safetensors"))
        finally:
            shutil.rmtree(paths.model("M0"))
            kept.rename(paths.model("M0"))
    before = load_file(paths.model("base") / "model.safetensors")
    assert furthest(*found) < 0.01 * furthest(found[0], before)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_packed_examples_are_tried_on_the_model(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load_model(families.make(family, tmp_path / "given"))
    packing.check(model, tmp_path)
    whole = type(model).forward
    # A model that knows nothing of where examples end.
    monkeypatch.setattr(type(model), "forward", lambda self, **row: whole(self, row["input_ids"], use_cache=False))
    with pytest.raises(TsrError, match=r"reads over the ends of packed examples; expected sft\.packing: false"):
        packing.check(model, tmp_path)


DPO = ("dpo", "sr-1", "--policy", "M0")


def stage(
    folder: Path, *command: str, env: dict[str, str] | None = None, **blocks: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """Run a stage in a run's folder as DVC would, with some keys changed and some variables set."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for block, keys in blocks.items():
        params["micro"][block] |= keys
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    known = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run(
        [sys.executable, "-m", "stages", *command],
        cwd=folder,
        env=known,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


LOSS_BOUND = 1.0e-4  # how far the losses of two processes may be from one's, at any logged step; docs/scaling-out.md
DIVIDED = [("dpo", "none"), ("dpo", "lora"), ("sft", "none")]


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["two_processes", "fsdp", "zero3"])
@pytest.mark.parametrize(("name", "adapter"), DIVIDED, ids=["-".join(one) for one in DIVIDED])
def test_two_processes_train_as_one(
    finished: tuple[Run, Path], tmp_path: Path, name: str, adapter: str, launch: str
) -> None:
    """Over gloo, from the command line, weights whole or in parts: the loss at every step, and what comes of it.

    Batches are full: of one that is not, rows would stand in for the missing.
    """
    from safetensors.torch import load_file

    if launch == "zero3":
        pytest.importorskip("deepspeed", reason="needs DeepSpeed: pip install deepspeed")
    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder)
    pairs = pl.read_parquet(folder / "data/pairs/sr-1.parquet")
    pairs.head(2).write_parquet(folder / "data/pairs/sr-1.parquet")
    settings = yaml.safe_load((LAUNCH / f"{launch}.yaml").read_text()) | {"num_processes": 2}
    (folder / "two.yaml").write_text(yaml.safe_dump(settings))
    command, made, policy = (DPO, "sr-1", "M0") if name == "dpo" else (("sft",), "M0", "base")
    found, losses = {}, {}
    for how in ("", "two.yaml"):
        done = stage(
            folder,
            *command,
            env={"DS_ACCELERATOR": "cpu"},
            training={"launch": how, "adapter": adapter},
            dpo={"batch_size": 2, "epochs": 5},
            sft={"steps": 40},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count(f"{name} {made}: ") == 1, "one process shows progress"
        found[how] = load_file(folder / f"data/models/{made}/model.safetensors")
        losses[how] = pl.read_csv(folder / f"reports/training/{made}.csv")["loss"]
    assert losses[""].len() == losses["two.yaml"].len() >= 4
    assert losses[""].max() - losses[""].min() > 100 * LOSS_BOUND, "something was learned"  # type: ignore[operator]
    assert (losses[""] - losses["two.yaml"]).abs().max() <= LOSS_BOUND  # type: ignore[operator]
    before = load_file(folder / f"data/models/{policy}/model.safetensors")
    assert 0 < furthest(found[""], found["two.yaml"]) < 0.01 * furthest(found[""], before)


@pytest.mark.slow
def test_a_failing_process_ends_the_stage(finished: tuple[Run, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder)
    done = stage(folder, *DPO, training={"launch": TWO}, dpo={"batch_size": 3})
    assert done.returncode == 2
    assert "batch_size 3 is no multiple of training.rows_at_once 2 x 2 processes" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("tsr: training under ")
