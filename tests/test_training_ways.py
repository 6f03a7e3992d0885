"""Trainings that are stopped, divided, adapted or cut short come to what they should."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from small_run import Run

from stages import dpo, models, paths, tables, training
from stages.errors import TsrError
from stages.params import Profile, load

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning", "ignore::UserWarning")
ROOT = Path(__file__).resolve().parents[1]
TWO = str(ROOT / "stages/accelerate/two_processes.yaml")
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


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("torn", [False, True])
def test_a_stopped_training_goes_on_to_the_same_result(
    here: Profile, adapter: str, torn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(here, training={"adapter": adapter, "lora_dropout": 0.1}, dpo={"batch_size": 2, "epochs": 2})
    whole = fit(settings, "whole")
    kept, name = changed(settings, following={"checkpoint_every": 1}), f"stopped-{adapter}-{torn}"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            fit(kept, name)
    assert not paths.model(name).exists()
    [folder] = (paths.store() / "training").iterdir()
    checkpoints = sorted(folder.glob("checkpoint-*"))
    assert checkpoints
    if torn:
        (checkpoints[-1] / "trainer_state.json").write_text("{")
    seen = []
    monkeypatch.setattr(
        training._Advancing, "on_step_end", lambda self, args, state, control, **how: seen.append(state.global_step)
    )
    assert furthest(fit(kept, name), whole) == 0.0
    assert seen[0] > 1, "it did not begin anew"
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


def test_a_training_can_be_followed(here: Profile) -> None:
    fit(changed(here, following={"log_to": "tensorboard"}), "followed")
    assert list((paths.store() / "tensorboard" / "followed").rglob("events.out.tfevents.*"))


def test_a_gpu_that_is_not_there_is_one_line(here: Profile) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for keys, told in (({"device": "cuda"}, "torch finds no GPU"), ({"adapter": "qlora"}, "qlora needs a GPU")):
        with pytest.raises(TsrError, match=told):
            fit(changed(here, training=keys), "nowhere")


def dpo_as_a_stage(folder: Path, **blocks: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Train sr-1 in a run's folder as DVC would, with some keys changed."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for block, keys in blocks.items():
        params["micro"][block] |= keys
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-m", "stages", "dpo", "sr-1", "--policy", "M0"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_two_processes_train_as_one(finished: tuple[Run, Path], tmp_path: Path, adapter: str) -> None:
    """Over gloo, from the command line. Batches are full: of one that is not, rows would stand in for the missing."""
    from safetensors.torch import load_file

    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder)
    pairs = pl.read_parquet(folder / "data/pairs/sr-1.parquet")
    pairs.head(2).write_parquet(folder / "data/pairs/sr-1.parquet")
    found = {}
    for launch in ("", TWO):
        done = dpo_as_a_stage(folder, training={"launch": launch, "adapter": adapter}, dpo={"batch_size": 2})
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("dpo sr-1: ") == 1, "one process shows progress"
        found[launch] = load_file(folder / "data/models/sr-1/model.safetensors")
    before = load_file(folder / "data/models/M0/model.safetensors")
    assert 0 < furthest(found[""], found[TWO]) < 0.01 * furthest(found[""], before)


@pytest.mark.slow
def test_a_failing_process_ends_the_stage(finished: tuple[Run, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder)
    done = dpo_as_a_stage(folder, training={"launch": TWO}, dpo={"batch_size": 3})
    assert done.returncode == 2
    assert "batch_size 3 is no multiple of training.rows_at_once 2 x 2 processes" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("tsr: training under ")
