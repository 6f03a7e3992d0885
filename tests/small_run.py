"""A run of all stages on a tiny model that was hardly trained: a few seconds, all in one process."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pipeline_file import PARAMS, command

from stages import cli, paths, tables, training
from stages.errors import TsrError

TINY = {
    "prepare": {
        "splits": 4,
        "prompts_per_split": 8,
        "eval_prompts": 4,
        "fixed_responses": 6,
        "ift_examples": 20,
        "eft_examples": 20,
    },
    "base": {"hidden_size": 32, "heads": 2, "context": 512, "init_std": 0.3},
    "sft": {"steps": 2, "batch_size": 4, "warmup_steps": 0},
    "backends": {"transformers": {"tile_rows": 16, "dtype": "float32", "device": "cpu"}},
    "generate": {"samples": 6, "max_new_tokens": 24},
    "judge": {"max_new_tokens": 4},
    "dpo": {"learning_rate": 1.0e-2, "batch_size": 4},
    "measure": {"gradient_pairs": 2},
}


class Run:
    """A run in a folder of its own: what each stage touched, what was trained, what went wrong."""

    def __init__(self) -> None:
        self.touched: dict[str, set[str]] = {}
        self.trainers: list[Any] = []
        self.refused = ""
        self._now = ""

    def stage(self, name: str, key: str = "") -> None:
        """Run a stage as dvc.yaml does."""
        self._now = f"{name}@{key}"
        self.touched[self._now] = set()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DVC_STAGE", self._now)  # what the plan names, DVC alone makes
            cli.app(command(name, key), standalone_mode=False)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Note every path that is asked for, and keep the trainers."""
        for name in ("prompts", "model", "generations", "judgments", "scores", "pairs", "dropped", "measures"):
            patch.setattr(paths, name, self._noting(getattr(paths, name)))
        for name in ("eft", "funnel", "measures_json", "evaluation_json", "training_csv"):
            patch.setattr(paths, name, self._noting(getattr(paths, name)))
        train = training.train

        def keeping(trainer: Any, *how: Any) -> Any:
            self.trainers.append(trainer)
            return train(trainer, *how)

        patch.setattr(training, "train", keeping)

    @property
    def sft(self) -> Any:
        """The trainer of M0."""
        return self.trainers[0]

    @property
    def dpo(self) -> Any:
        """The trainer of sr-1."""
        return self.trainers[1]

    def _noting(self, find: Any) -> Any:
        def noted(*names: str) -> Path:
            found: Path = find(*names)
            self.touched.setdefault(self._now, set()).add(str(found))
            return found

        return noted


def speak(judge: str, model: str, split: str) -> None:
    """Put readable replies in place of a hardly trained judge's babble, by the response's own id."""
    path = paths.judgments(judge, model, split)
    babble = tables.read("judgments", path)
    replies = [f"a+ b- ={int(gid, 16) % 6}" for gid in babble["generation_id"]]
    tables.write("judgments", babble.with_columns(raw=pl.Series(replies), finish_reason=pl.lit("stop")), path)


def make_run(folder: Path) -> Run:
    """Make M0, sr-1 and the first round of tsr, with their tables, in a folder."""
    made = Run()
    block = {name: values | TINY[name] if name in TINY else values for name, values in PARAMS["micro"].items()}
    (folder / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "profile": "micro", "micro": block}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("stages").mkdir()
        cli.app(["plan"], standalone_mode=False)
        made.watch(patch)
        made.stage("prepare")
        made.stage("base")
        made.stage("judge", "base.world.rated")
        made.stage("score", "base.world.rated")
        made.stage("eft")
        made.stage("sft")
        _round(made, "sr-1", "M0", babble=True)
        _round(made, "tsr-1", "sr-1")
        made.stage("measure", "sr-1")
        made.stage("evaluate", "sr-1")
    return made


def _round(made: Run, name: str, model: str, *, babble: bool = False) -> None:
    made.stage("generate", f"{model}.r0")
    made.stage("judge", f"M0.{model}.r0")
    if babble:
        made.stage("score", f"M0.{model}.r0")
        made.stage("pair", name)
        with pytest.raises(TsrError) as refused:
            made.stage("dpo", name)
        made.refused = str(refused.value)
    speak("M0", model, "r0")
    for stage, key in [("score", f"M0.{model}.r0"), ("pair", name), ("dpo", name)]:
        made.stage(stage, key)
