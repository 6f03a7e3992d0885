"""The stages of dvc.yaml as tasks of one process: what each reads, what it makes, and the order they can run in.

dvc.yaml stays the one place that says what a result rests on (tests/test_dvc_yaml.py holds it against the code).
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import TsrError
from stages.yamlfile import read_yaml

Row = dict[str, Any]
DVC_FILE = Path("dvc.yaml")
NOT_RUN = {"report"}  # reads a whole run; what many runs say is another report
TRAINERS = ("dpo", "tune")


@dataclass(frozen=True)
class Task:
    """One stage for one row of the plan. `params` are dotted keys, of params.yaml or (`plan:...`) of the plan."""

    stage: str
    key: str
    row: Row
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the stage's name as DVC has it."""
        return f"{self.stage}@{self.key}" if self.key else self.stage


class Graph:
    """All tasks of a plan, each after those that it rests on."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._made_by = {out: task.name for task in self._tasks.values() for out in task.outs}
        self.before = {name: self._before(task) for name, task in self._tasks.items()}
        self._order = list(self._ordered())

    def task(self, name: str) -> Task:
        """Return a task by its name."""
        return self._tasks[name]

    def reads(self, name: str) -> list[str]:
        """Return the outputs of other tasks that a task reads: its files, folders around them, files in its folders."""
        deps = self._tasks[name].deps if name in self._tasks else ()
        return [out for out in self._made_by if any(_overlap(out, dep) for dep in deps)]

    @property
    def all(self) -> list[Task]:
        """Return every task of the plan, in order."""
        return [self._tasks[name] for name in self._order]

    def maker(self, path: str) -> str | None:
        """Return the task that makes a file, or a folder around it; None for code and for what is there before."""
        tries = [path, *(str(parent) for parent in Path(path).parents)]
        return next((self._made_by[one] for one in tries if one in self._made_by), None)

    def tasks(self, lines: Iterable[list[str]]) -> list[Task]:
        """Return what must run, in order, for the model versions of some lines and for all that they rest on.

        Each model version that is trained on the way is measured and evaluated too.
        """
        rest = self._closure(f"evaluate@{model}" for line in lines for model in line)
        keys = [self._tasks[name].key for name in rest if self._tasks[name].stage in TRAINERS]
        wanted = rest | self._closure(f"{stage}@{key}" for stage in ("measure", "evaluate") for key in keys)
        return [self._tasks[name] for name in self._order if name in wanted]

    def after_training(self, tasks: Iterable[Task]) -> set[str]:
        """Return the names of the tasks that rest on a training other than M0's."""
        found: set[str] = set()
        for task in tasks:
            if task.stage in TRAINERS or found & set(self.before[task.name]):
                found.add(task.name)
        return found

    def _before(self, task: Task) -> list[str]:
        makers = [self.maker(dep) for dep in task.deps]
        return list(dict.fromkeys(maker for maker in makers if maker))

    def _closure(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        ahead = list(names)
        while ahead:
            if (name := ahead.pop()) not in found:
                found.add(name)
                ahead += self.before[name]
        return found

    def _ordered(self) -> Iterator[str]:
        done: set[str] = set()

        def visit(name: str) -> Iterator[str]:
            if name in done:
                return
            done.add(name)
            for other in self.before[name]:
                yield from visit(other)
            yield name

        for name in self._tasks:
            yield from visit(name)


def of(
    planned: Row, profile: str, teacher: str, path: Path = DVC_FILE, *, left_out: Collection[str] = NOT_RUN
) -> Graph:
    """Return the graph of a plan (`Plan.as_dict`). Raises TsrError for a dvc.yaml that is not there."""
    if not path.is_file():
        raise TsrError(f"{path}: no such file; run tsr in the folder that holds dvc.yaml and params.yaml")
    stages = read_yaml(path, str(path))["stages"]
    constants = {"profile": profile, "teacher": teacher}
    return Graph(
        task
        for name, stage in stages.items()
        if name not in left_out
        for task in _tasks(name, stage, planned, constants)
    )


def _tasks(name: str, stage: Row, planned: Row, constants: dict[str, str]) -> Iterator[Task]:
    """Yield a stage's tasks, one for each row of the table that it loops over."""
    rows = planned[stage["foreach"].strip("${}")] if "foreach" in stage else {"": {}}
    stage = stage.get("do", stage)
    for key, row in rows.items():
        values = constants | {"key": key} | {f"item.{column}": value for column, value in row.items()}
        listed = [*stage.get("outs", []), *stage.get("plots", [])]
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in listed]
        yield Task(
            name,
            key,
            row,
            tuple(_filled(param, values) for param in _params(stage.get("params", []))),
            tuple(_filled(dep, values) for dep in stage["deps"]),
            tuple(_filled(out, values) for out in outs),
        )


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _params(listed: list[Any]) -> Iterator[str]:
    for entry in listed:
        if isinstance(entry, str):
            yield entry
        else:
            yield from (f"plan:{key}" for keys in entry.values() for key in keys)


def _filled(text: str, values: dict[str, Any]) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(values[found.group(1)]), text)
