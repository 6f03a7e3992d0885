"""The micro profile made small, with every kind of stage in its plan, run without a fault; and what is hashed of it."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from tiny_project import TINY, Project
from zygote import Child, Zygote

from stages import lockfile
from stages.claims import graph

ARMS = {"tsr": 1, "spin": 1, "rejection_sampling": 1}
SMALL = {block: dict(keys) for block, keys in TINY.items()}
SMALL["prepare"] |= {"prompts_per_split": 12, "eval_prompts": 6, "fixed_responses": 6, "eft_examples": 1200}
SMALL["following"] = {"checkpoint_every": 10}
REPORT = ("reports/index.html", "reports/headline.svg", "reports/metrics", "reports/plots")


@dataclass(frozen=True)
class Step:
    """One stage of one row of the plan: the words after `tsr`, what it makes, what it rests on; and how it went."""

    name: str
    words: tuple[str, ...]
    outs: tuple[str, ...]
    deps: tuple[str, ...]
    seconds: float = 0.0
    moments: tuple[tuple[str, int], ...] = ()

    @property
    def kind(self) -> str:
        """The stage."""
        return self.name.partition("@")[0]


class Broken:
    """A project whose stages are run one by one, so that faults can be put in between."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.project = Project(folder)
        self.folder = folder
        self.project.edit_params(lambda p: p.update(arms=ARMS))
        self.project.edit_params(lambda p: [p["micro"][block].update(keys) for block, keys in SMALL.items()])
        self.zygote = Zygote(logs, folder)
        self.logs = logs
        self.tell("plan")
        self.steps = [self._first(step) for step in self._steps()]
        self.whole = {path: self.md5(path) for step in self.steps for path in step.outs}

    def tell(self, *words: str, **how: Any) -> str:
        """Run a `tsr` command that must end well."""
        code, told = self.zygote.run(*words, folder=self.folder, **how)
        assert code == 0, told
        return told

    @cached_property
    def lock(self) -> dict[str, str]:
        """Output -> its hash as dvc.lock has it. DVC takes what is there for what its stages have made."""
        self.project.run("dvc", "commit", "-q", "-f")
        return {str(out.path): out.md5 for out in lockfile.outputs(self.folder / "dvc.lock")}

    def md5(self, path: str) -> str:
        """The hash of an output as DVC has it."""
        return lockfile.actual_md5(self.folder / path)

    def step(self, kind: str) -> Step:
        """The last step of a kind."""
        return [step for step in self.steps if step.kind == kind][-1]

    def kinds(self) -> list[str]:
        """Every kind of stage."""
        return list(dict.fromkeys(step.kind for step in self.steps))

    def remove(self, step: Step) -> None:
        """Remove a step's outputs, as DVC does when it starts one."""
        for out in step.outs:
            path = self.folder / out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Forget all finished rows and checkpoints."""
        shutil.rmtree(self.folder / ".tsr", ignore_errors=True)

    def run(self, step: Step) -> None:
        """Run a step that must end well; its outputs must be what they are without a fault."""
        code, told = self.start(step).ended()
        assert code == 0, f"{step.name}: {told}"
        self.check(step)

    def start(self, step: Step, fault: dict[str, Any] | None = None) -> Child:
        """Start a step as DVC does."""
        return self.zygote.start(*step.words, folder=self.folder, fault=fault, DVC_STAGE=step.name)

    def mend(self) -> None:
        """Take away what a kill has left beside, and make what a test that failed has left undone."""
        for half in (self.folder / "data").rglob(".*.tmp"):
            shutil.rmtree(half) if half.is_dir() else half.unlink()
        for step in self.steps:
            there = [out for out in step.outs if (self.folder / out).exists()]
            if other := [out for out in there if self.md5(out) != self.whole[out]]:
                self.remove(step)
                self.forget()
            if other or len(there) < len(step.outs):
                self.run(step)

    def check(self, step: Step) -> None:
        """Assert that a step's outputs are what they are without a fault."""
        for out in step.outs:
            assert self.md5(out) == self.whole[out], f"{step.name}: {out} is another"

    def _first(self, step: Step) -> Step:
        """Run a step for the first time: how long it takes, and how many moments it has."""
        note, start = self.logs / "moments.json", time.monotonic()
        code, told = self.start(step, {"count": str(note)}).ended()
        assert code == 0, f"{step.name}: {told}"
        moments = json.loads(note.read_text())
        return Step(step.name, step.words, step.outs, step.deps, time.monotonic() - start, tuple(moments.items()))

    def _steps(self) -> Iterator[Step]:
        plan = yaml.safe_load((self.folder / "stages/plan.yaml").read_text())
        stages = yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"]
        found = graph.of(plan, "micro", "base", self.folder / "dvc.yaml")
        for name in found._order:
            task = found.task(name)
            cmd = stages[task.stage].get("do", stages[task.stage])["cmd"]
            values = {"profile": "micro", "teacher": "base", "key": task.key}
            words = graph._filled(cmd, values | {f"item.{key}": value for key, value in task.row.items()}).split()
            yield Step(name, tuple(words[words.index("stages") + 1 :]), task.outs, task.deps)
        report = graph.of(plan, "micro", "base", self.folder / "dvc.yaml", left_out=()).task("report")
        yield Step("report", ("report",), REPORT, report.deps)
