"""How long tasks take: by rates that were measured, that are given, or from a GPU's published figures.

Arithmetic after arXiv 2001.08361 (two FLOPs a weight and token forward, four backward), arXiv 2204.02311 appendix B
(attention's share of training), arXiv 2211.05102 (writing a token reads all weights and the cache).
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.errors import TsrError
from stages.forecast.assumed import Assumed
from stages.forecast.lengths import Lengths
from stages.forecast.memory import BYTES, Gpu, rows_side_by_side
from stages.forecast.shape import Shape
from stages.forecast.work import KINDS, Asked, Task
from stages.params import Profile

MODEL_KINDS = ("sft", "generate", "judge", "dpo", "measure", "evaluate")


@dataclass(frozen=True)
class Rates:
    """Measured or given rates by kind of stage: tokens a second (`Task.tokens`), and seconds before the first.

    `around` are seconds of a run beside its stages, for each of them.
    """

    tokens: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    around: float = 0.0
    source: str = ""


def of_timings(path: Path, tasks: Iterable[Task]) -> Rates:
    """Return the rates of a run whose stages wrote down what they cost (TSR_TIMINGS).

    `tasks` are the finished ones, with the numbers of their tables. Raises TsrError for a file that is none.
    """
    by_name = {task.name: task for task in tasks}
    tokens: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)
    starts: dict[str, list[float]] = defaultdict(list)
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for entry in entries:
            kind, *words = [str(word) for word in entry["command"]]
            task = by_name.get(_name(kind, words))
            if task is None:
                continue
            starts[kind].append(entry["seconds"] - entry["model_seconds"])
            if task.tokens and not entry.get("reused"):  # rows that were there take no time
                tokens[kind] += task.tokens
                seconds[kind] += entry["model_seconds"]
    except OSError as error:
        raise TsrError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: expected a line for each command, as TSR_TIMINGS=FILE writes them") from error
    if not starts:
        raise TsrError(f"{path}: no finished stage of this profile in it")
    rates = {kind: tokens[kind] / seconds[kind] for kind in tokens if seconds[kind]}
    return Rates(rates, {kind: sum(all_of) / len(all_of) for kind, all_of in starts.items()}, 0.0, str(path))


def _name(kind: str, words: list[str]) -> str:
    """Return the name of the stage that a command is."""
    keys = [word for word in words if not word.startswith("-")]
    own = {"generate": 2, "judge": 3, "score": 3, "pair": 1, "dpo": 1, "measure": 1, "evaluate": 1}.get(kind, 0)
    return f"{kind}@{'.'.join(keys[:own])}" if own else kind


def of_benchmarks(path: Path, finished: Iterable[Task]) -> Rates | None:
    """Return the rates of the default run that `make bench` measured, or None where they cannot be told.

    Where the file has no tokens they are those of `finished`, if these are as many stages as it measured.
    """
    if not path.is_file():
        return None
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["default_run"]
        measured = run["seconds_by_stage"]
    except (ValueError, KeyError, TypeError):
        return None
    listed = list(finished)
    rates = {}
    for kind in MODEL_KINDS:
        tokens = measured[kind].get("tokens") or _tokens(kind, measured[kind]["runs"], listed)
        if tokens is None:
            return None
        if measured[kind]["model_seconds"]:
            rates[kind] = tokens / measured[kind]["model_seconds"]
    start = {kind: (one["seconds"] - one["model_seconds"]) / one["runs"] for kind, one in measured.items()}
    stages = sum(one["runs"] for one in measured.values())
    around = (run["seconds"] - sum(one["seconds"] for one in measured.values())) / stages
    return Rates(rates, start, around, str(path))


def _tokens(kind: str, runs: int, finished: list[Task]) -> float | None:
    """Return the tokens of a kind's finished stages; a stage without a row to ask about may have come since."""
    found = [task for task in finished if task.kind == kind]
    alike = {len(found), sum(task.tokens > 0 for task in found)}
    return sum(task.tokens for task in found) if runs in alike else None


@dataclass(frozen=True)
class Machine:
    """What a task runs on. Without a GPU, only measured and given rates can tell a time.

    `shape` is that of all models of the run, `judges` are those of judges that the run does not make.
    """

    shape: Shape
    profile: Profile
    gpu: Gpu | None
    processes: int  # that train together
    assumed: Assumed
    lengths: Lengths
    judges: dict[str, Shape] = field(default_factory=dict)

    def gpus(self, task: Task) -> int:
        """Return the GPUs that a task uses at a time; 1 is the CPU where there is none."""
        if task.kind in ("sft", "dpo"):
            return self.processes
        engines = [getattr(self.profile, part.engine).backend for part in task.asked]
        return max((self._size(name) * self._workers(name) for name in engines), default=1)

    def _size(self, backend: str) -> int:
        """Return the GPUs that one copy of a backend's model is divided over."""
        settings = self.profile.backends[self.profile.engine_name(backend)]
        return int(getattr(settings, "tensor_parallel_size", 1))

    def _workers(self, backend: str) -> int:
        """Return how many copies there are; they are taken to share the work evenly."""
        return int(getattr(self.profile.backends[backend], "workers", 1))

    def seconds(self, task: Task, rates: Rates) -> float | None:
        """Return the seconds of a whole task, or None where they cannot be known."""
        start = rates.start.get(task.kind)
        if task.kind not in MODEL_KINDS or not task.tokens:
            if start is None and task.kind in MODEL_KINDS:
                return rates.around  # a stage without a row loads no model
            return None if start is None else start + rates.around
        if task.kind in rates.tokens:
            before = self.assumed["start_seconds"] if start is None and self.gpu else start or 0.0
            return before + rates.around + task.tokens / rates.tokens[task.kind]
        if self.gpu is None or any(self._elsewhere(part) for part in task.asked):
            return None
        asked = self.judges.get(task.row["judge"], self.shape) if task.kind == "judge" else self.shape
        work = sum(self._asking(part, asked) for part in task.asked) + self._passes(task)
        return self.assumed["start_seconds"] + work

    def _elsewhere(self, part: Asked) -> bool:
        return bool(getattr(self.profile, part.engine).backend == "openai")

    def _flops(self, share: str) -> float:
        assert self.gpu
        return self.gpu.tflops * 1e12 * self.assumed[share]

    def _asking(self, part: Asked, shape: Shape) -> float:
        """Return the seconds in which an engine with a model of this shape reads and writes all tokens of a part."""
        assert self.gpu
        backend = getattr(self.profile, part.engine).backend
        engine = self.profile.engine_name(backend)
        settings: Any = self.profile.backends[engine]
        size, element = self._size(backend) * self._workers(backend), BYTES[settings.dtype]
        asked = max(part.requests, 1)
        keeps_beginnings = getattr(settings, "prefix_caching", None)  # the embedded engine reads equal prompts once
        fresh = {None: part.fresh, True: part.fresh - part.head, False: part.read}[keeps_beginnings]
        reading = fresh * 2 * shape.active / self._flops("reading_share")
        held = part.read / asked + part.written / asked / 2  # tokens of a row in the cache, on average
        rows = min(rows_side_by_side(shape, settings, self.gpu, held), asked)
        moved = shape.active * element + rows * held * shape.cache_bytes(element)
        step = moved / (self.gpu.gb_s * 1e9 * self.assumed["bandwidth_share"])
        step += rows * 2 * shape.active / self._flops("reading_share")
        if engine == "transformers" or getattr(settings, "enforce_eager", False):
            step = max(step, self.assumed["eager_ms"] / 1000 * shape.layers)
        return reading / size + part.written / rows * step / size

    def _passes(self, task: Task) -> float:
        """Return the seconds of going forward and backward over what is trained on or measured."""
        if not task.trained and not task.forward:
            return 0.0
        training = self.profile.training
        forward = 2 * self.shape.active
        backward = forward if training.adapter != "none" and task.kind != "measure" else 2 * forward
        again = forward if training.gradient_checkpointing and task.kind != "measure" else 0
        length = self.lengths.pair.value / 2
        # Scores of a token with those before it, and their use: half of 4 n d s, forward; twice that, backward.
        attention = 2 * self.shape.layers * self.shape.heads * self.shape.head_dim * length
        flops = task.trained * (forward + backward + again + 3 * attention) + task.forward * (forward + attention)
        processes = 1 if task.kind == "measure" else self.processes
        least = task.passes * self.assumed["eager_ms"] / 1000 * self.shape.layers if task.passes else 0.0
        return max(flops / (self._flops("training_share") * processes), least)


def kinds() -> list[str]:
    """Return the kinds of stage that a rate can be given for."""
    return [kind for kind in KINDS if kind in MODEL_KINDS]
