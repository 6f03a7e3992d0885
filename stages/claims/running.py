"""One seed: every task in order, in this process, in a folder of its own."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import paths, plan, rowstore, tables
from stages.claims import graph
from stages.claims.graph import Task
from stages.claims.kept import Cost, Kept, code_hash, hash_of
from stages.claims.settings import Settings, absolute, value_of
from stages.errors import TsrError
from stages.ids import content_id
from stages.params import Params

HOME = Path("claims")  # in the store of finished rows
ANEW = Path("claims-check")  # the same, for a check: nothing is taken from what was kept


@dataclass(frozen=True)
class Outcome:
    """One seed as it went: its folder, the plan, what each task cost, and the trainings that had no pairs."""

    run: str
    seed: int
    params: Params
    settings: Settings
    plan: dict[str, Any]
    tasks: list[Task]
    keys: dict[str, str]
    costs: dict[str, Cost]
    ended: set[str]


class Seed:
    """One seed under some settings."""

    def __init__(self, settings: Settings, seed: int, root: Path, home: Path = HOME) -> None:
        self.settings, self.seed, self.root = settings, seed, root
        self.params = settings.params(seed)
        self.run = settings.run_id(seed)
        self.plan = plan.of(self.params).as_dict()
        self.graph = graph.of(self.plan, self.params.profile, self.params.teacher, root / graph.DVC_FILE)
        self.tasks = self.graph.tasks(self.plan["lines"][arm] for arm in settings.arms)
        home = root / paths.store() / home
        self.kept, self.folder = Kept(home / "kept"), home / "runs" / self.run
        self._lock = home / "locks" / self.run

    def go(self, told: Callable[[str], None]) -> Outcome:
        """Run or restore every task; `told` gets the name of each as it is done.

        A training without pairs ends its line: what rests on it is left out. The current folder is the run's meanwhile.
        """
        hashes: dict[str, str] = {}
        outcome = Outcome(self.run, self.seed, self.params, self.settings, self.plan, self.tasks, {}, {}, set())
        with rowstore.locked(self._lock), inside(self.folder):
            for task in self.tasks:
                self._do(task, hashes, outcome)
                told(task.name)
        return outcome

    def forget(self, outcome: Outcome, *, everything: bool) -> None:
        """Delete the run's folder, and of the kept tasks those that no other setting of the rounds could share."""
        if not everything:
            alone = self.graph.after_training(self.tasks)
            self.kept.drop(key for name, key in outcome.keys.items() if name in alone)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _do(self, task: Task, hashes: dict[str, str], outcome: Outcome) -> None:
        if any(before in outcome.ended for before in self.graph.before[task.name]):
            outcome.ended.add(task.name)
            return
        key = outcome.keys[task.name] = self._key(task, hashes)
        cost = self.kept.cost(key)
        if cost:
            self.kept.restore(key, task.outs, self.folder)
        elif task.stage in graph.TRAINERS and not _pairs(task.key):
            outcome.ended.add(task.name)
            return
        else:
            cost = self._run(task)
            self.kept.keep(key, task.name, task.outs, self.folder, cost)
        outcome.costs[task.name] = cost
        hashes |= {out: hash_of(self.folder / out) for out in task.outs}

    def _run(self, task: Task) -> Cost:
        clock, processor = time.monotonic(), time.process_time()
        try:
            STAGES[task.stage](self.params, task.key, task.row | {"strategy": self._strategy(task)})
        except TsrError as error:
            raise TsrError(f"seed {self.seed}, {task.name}: {error}") from error
        return Cost(round(time.monotonic() - clock, 3), round(time.process_time() - processor, 3))

    def _strategy(self, task: Task) -> str:
        return absolute(str(task.row.get("strategy", "")), self.root)

    def _key(self, task: Task, hashes: dict[str, str]) -> str:
        """Return the hash of all that decides what a task makes: settings, code, and the outputs of others."""
        told = {name: self._value(name) for name in task.params}
        return content_id("claims task", task.stage, task.key, self._row(task), told, self._deps(task, hashes))

    def _row(self, task: Task) -> dict[str, Any]:
        return {column: value for column, value in task.row.items() if column not in ("also", "sql")}

    def _value(self, name: str) -> Any:
        if name == "seed":
            return self.seed
        return value_of(self.plan, name[5:]) if name.startswith("plan:") else value_of(self.settings.raw, name)

    def _deps(self, task: Task, hashes: dict[str, str]) -> dict[str, str]:
        return {dep: self._dep(dep, hashes) for dep in dict.fromkeys(task.deps)}

    def _dep(self, dep: str, hashes: dict[str, str]) -> str:
        if self.graph.maker(dep):
            if dep not in hashes:
                hashes[dep] = hash_of(self.folder / dep)
            return hashes[dep]
        if dep.startswith("data/") and not (self.folder / dep).exists():  # a judge that the user put there
            if not (self.root / dep).exists():
                raise TsrError(f"{dep}: no such file or folder; nothing in dvc.yaml makes it")
            (self.folder / dep).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / dep).symlink_to(self.root / dep)
        return code_hash(self.root / dep)


def _pairs(name: str) -> int:
    """Return how many pairs a training has."""
    return tables.height(paths.pairs(name))


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Make a folder the current one for a while, with tables and rows of its own."""
    before, told = Path.cwd(), {name: os.environ.pop(name, None) for name in ("TSR_DATA", "TSR_STORE")}
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.update({name: value for name, value in told.items() if value is not None})


def _sides(row: dict[str, Any], *, second: bool) -> Any:
    from stages.candidates import Sides

    columns = ("judge", "split", "own", "anchor", "future", *(("second",) if second else ()))
    return Sides(**{column: row[column] for column in columns})


def _prepare(params: Params, _: str, __: dict[str, Any]) -> None:
    from stages import prepare

    prepare.run(params.seed, params.block.prepare)


def _eft(params: Params, _: str, __: dict[str, Any]) -> None:
    from stages import eft

    eft.run(params.seed, params.block.eft, params.block.judge.rubric, params.teacher)


def _base(params: Params, _: str, __: dict[str, Any]) -> None:
    from stages import base

    base.run(params.seed, params.block)


def _sft(params: Params, _: str, __: dict[str, Any]) -> None:
    from stages import sft

    sft.run(params.seed, params.block)


def _generate(params: Params, _: str, row: dict[str, Any]) -> None:
    from stages import generate

    generate.run(params.seed, params.block, row["model"], row["split"])


def _judge(params: Params, _: str, row: dict[str, Any]) -> None:
    from stages import judge

    judge.run(params.seed, params.block, row["judge"], row["model"], row["split"])


def _score(params: Params, _: str, row: dict[str, Any]) -> None:
    from stages import score

    score.run(params.block, row["judge"], row["model"], row["split"])


def _refer(_: Params, __: str, row: dict[str, Any]) -> None:
    from stages import refer

    refer.run(row["split"])


def _oracle(params: Params, _: str, row: dict[str, Any]) -> None:
    from stages import oracle

    oracle.run(params.block, row["judge"], row["model"], row["split"])


def _pair(params: Params, key: str, row: dict[str, Any]) -> None:
    from stages import pair

    pair.run(params.block.pair, key, row["strategy"], _sides(row, second=True))


def _dpo(params: Params, key: str, row: dict[str, Any]) -> None:
    from stages import dpo

    dpo.run(
        params.seed, params.block, key, row["start"], replay=None if row["replay"] == plan.AS_SET else row["replay"]
    )


def _tune(params: Params, key: str, row: dict[str, Any]) -> None:
    from stages import tune

    tune.run(params.seed, params.block, key, row["start"])


def _measure(params: Params, key: str, row: dict[str, Any]) -> None:
    from stages import measure

    measure.run(params.block, key, row["policy"], _sides(row, second=False))


def _evaluate(params: Params, _: str, row: dict[str, Any]) -> None:
    from stages import evaluate

    evaluate.run(params.seed, params.block, row["model"], row["judge"])


# What the command of each stage in dvc.yaml calls (stages/cli.py), with params at hand.
STAGES: dict[str, Callable[[Params, str, dict[str, Any]], None]] = {
    "prepare": _prepare,
    "eft": _eft,
    "base": _base,
    "sft": _sft,
    "generate": _generate,
    "judge": _judge,
    "score": _score,
    "refer": _refer,
    "oracle": _oracle,
    "pair": _pair,
    "dpo": _dpo,
    "tune": _tune,
    "measure": _measure,
    "evaluate": _evaluate,
}
