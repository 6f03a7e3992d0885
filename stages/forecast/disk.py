"""Disk by table: what is there, and what the rest will take, by the bytes of a row measured or assumed."""

from collections.abc import Iterable
from dataclasses import dataclass

from stages import paths
from stages.forecast.assumed import Assumed
from stages.forecast.done import size
from stages.forecast.memory import BYTES
from stages.forecast.shape import Shape
from stages.forecast.work import Task
from stages.params import MADE, Profile

STORE = "finished rows in .tsr"
CHECKPOINTS = "checkpoints of a training"
KEPT_CHECKPOINTS = 3  # two are kept, and the next is whole before one goes


@dataclass(frozen=True)
class Room:
    """Bytes of one table or folder: of all of it, and of that which is there."""

    table: str
    files: int
    planned: float
    here: float
    origin: str

    @property
    def left(self) -> float:
        """Return what is still to be written."""
        return max(self.planned - self.here, 0.0)


def rooms(profile: Profile, shape: Shape, tasks: Iterable[Task], assumed: Assumed, *, of_this: bool) -> list[Room]:
    """Return the disk of every table. `of_this`: what lies in `data` is of this profile, so that it counts."""
    listed = list(tasks)
    found = [_models(profile, shape, listed, here=of_this)]
    for table, kinds in (("generations", ("generate", "evaluate")), ("judgments", ("judge", "evaluate"))):
        found.append(_table(table, [task for task in listed if task.kind in kinds], assumed, here=of_this))
    found.append(_store(listed, assumed, here=of_this))
    if profile.following.checkpoint_every:
        found.append(_checkpoints(profile, shape))
    return found


def _models(profile: Profile, shape: Shape, tasks: list[Task], *, here: bool) -> Room:
    """Return the weights: one version a training, and the base model, bfloat16 where it came from a hub."""
    saved = BYTES[profile.training.save_dtype]
    base = 4 if profile.base_model == MADE else 2
    trained = [task for task in tasks if task.kind in ("sft", "dpo")]
    names = ["base", *(task.key or "M0" for task in trained)]
    planned = shape.parameters * (base + saved * len(trained))
    there = sum(size(paths.model(name)) for name in names) if here else 0
    return Room("models", len(names), planned, there, "parameters")


def _table(table: str, tasks: list[Task], assumed: Assumed, *, here: bool) -> Room:
    engine = {"generations": "generate", "judgments": "judge"}[table]
    parts = [part for task in tasks for part in task.asked if part.engine == engine]
    done = [part for task in tasks if task.done for part in task.asked if part.engine == engine]
    there = float(size(paths.data() / table)) if here and done else 0.0
    rows, kept = sum(part.requests for part in parts), sum(part.requests for part in done)
    if there and kept:
        return Room(table, len(tasks), there * rows / kept, there, "measured")
    tokens = sum(part.written for part in parts)
    planned = rows * assumed["bytes_a_row"] + tokens * assumed["bytes_a_token"]
    return Room(table, len(tasks), planned, 0.0, "assumed")


def _store(tasks: list[Task], assumed: Assumed, *, here: bool) -> Room:
    rows, tokens = sum(task.requests for task in tasks), sum(task.written for task in tasks)
    there = size(paths.store() / "rows") if here and (paths.store() / "rows").is_dir() else 0
    planned = rows * assumed["bytes_a_stored_row"] + tokens * assumed["bytes_a_stored_token"]
    return Room(STORE, 0, max(planned, there), there, "assumed")


def _checkpoints(profile: Profile, shape: Shape) -> Room:
    """Return the checkpoints of one training: weights and Adam's moments, deleted when it has ended."""
    settings = profile.training
    trained = shape.parameters if settings.adapter == "none" else shape.adapters(settings.lora_rank)
    return Room(CHECKPOINTS, 0, float(KEPT_CHECKPOINTS * 12 * trained), 0.0, "parameters")
