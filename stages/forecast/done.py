"""What is there already: stages that DVC would not run again, and finished rows of stages that it would.

A stage that rests on one that runs again counts as not done; DVC may find later that its inputs came out the same. What
only DVC's cache of earlier runs holds counts as not done too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages import paths, tables
from stages.backends import open_backend
from stages.completing import Requests, Work
from stages.errors import TsrError
from stages.evaluate import fixed_ways
from stages.generate import generate
from stages.judge import judge_all
from stages.lockfile import LOCK_FILE, Ran, ran
from stages.params import Profile
from stages.rowstore import Rows, Use, context_of, row_key


@dataclass(frozen=True)
class Done:
    """Names of stages: `finished` need not run; `ready` must, and have all that they read."""

    finished: set[str] = field(default_factory=set)
    ready: set[str] = field(default_factory=set)


def recorded(profile: str) -> dict[str, Ran]:
    """Return the stages whose last run was of this profile, by name: their tables can be measured."""
    if not LOCK_FILE.is_file():
        return {}
    return {name: stage for name, stage in ran().items() if any(key.startswith(f"{profile}.") for key in stage.params)}


def of_dvc() -> Done:
    """Return what DVC says of the stages of the profile in force. Raises TsrError outside a repository of DVC."""
    import networkx
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo() as repo, repo.lock:  # a running `dvc repro` lets go of it while a stage is at work
            graph = repo.index.graph  # from a stage to those that it rests on
            changed = set()
            for stage in graph:
                try:
                    if stage.status():
                        changed.add(stage)
                except LockError:  # it is running
                    changed.add(stage)
            again = changed.union(*(networkx.ancestors(graph, stage) for stage in changed))
            ready = [stage for stage in again if not again & networkx.descendants(graph, stage)]
            return Done({s.addressing for s in graph if s not in again}, {s.addressing for s in ready})
    except DvcException as error:
        raise TsrError(f"dvc: {' '.join(str(error).split())[:200]}") from error


class _Counting(Work):
    """Counts the rows that are kept of a table, and asks for none."""

    kept = 0

    def complete(self, backend: Any, requests: Requests) -> Iterator[Any]:
        """Count the requests whose rows are in the store."""
        first = next(iter(requests), None)
        context = context_of(backend, first.sampling if first else None)
        folder = self.store / "rows" / context
        if context in Use(self.store, self.label).contexts() and folder.is_dir():
            rows = Rows(folder)
            object.__setattr__(self, "kept", sum(row_key(request) in rows for request in requests))
            rows.close()
        return iter(())


def kept_rows(seed: int, profile: Profile, stage: str, row: dict[str, Any]) -> int:
    """Return how many rows of a `generate`, `judge` or `evaluate` stage that has not finished are in the store."""
    labels = {
        "generate": ["generate/{model}/{split}"],
        "judge": ["judge/{judge}/{model}/{split}"],
        "evaluate": [
            "generate/{model}/eval",
            *(f"judge/{{model}}/world/fixed.{way}" for way in ("votes", "one_token")),
        ],
    }[stage]
    works = {label: _Counting(label.format(**row), 1.0) for label in labels}
    noted = [label for label, work in works.items() if Use(work.store, work.label).contexts()]
    for label in noted:  # only then are weights hashed
        _count(seed, profile, label, row, works[label])
    return sum(work.kept for work in works.values())


def _count(seed: int, profile: Profile, label: str, row: dict[str, Any], work: Work) -> None:
    split = row.get("split", "eval")
    if label.startswith("generate/"):
        samples = profile.generate.samples if "split" in row else profile.evaluate.samples
        settings = profile.generate.model_copy(update={"samples": samples})
        backend = open_backend(paths.model(row["model"]), settings.backend, profile.backends)
        generate(seed, settings, row["model"], tables.read("prompts", paths.prompts(split)), backend, work)
        return
    judged, split = (row["model"], split) if "split" in row else (paths.WORLD, "fixed")
    asked = profile.judge
    if "split" not in row:
        way = label.rpartition(".")[2]
        if way not in fixed_ways(asked):
            return
        asked = asked.model_copy(update={"way": way, "votes": fixed_ways(asked)[way]})
    backend = open_backend(paths.model(row["judge"]), asked.backend, profile.backends)
    prompts = tables.read("prompts", paths.prompts(split))
    generations = tables.read("generations", paths.generations(judged, split))
    judge_all(seed, asked, row["judge"], prompts, generations, backend, work)


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
