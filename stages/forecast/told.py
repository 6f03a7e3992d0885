"""A forecast as tables for a reader, or as JSON for a machine."""

import json
import shutil
import sys
from collections.abc import Callable
from typing import Any

from stages.forecast.assumed import DEFAULTS
from stages.forecast.forecast import Forecast, fits
from stages.forecast.memory import GIB, known_gpus
from stages.forecast.work import KINDS, Task

WIDTH = 110  # where the output is no screen
LEAST = 80  # columns; a narrower screen breaks lines of its own
AIRY = 100  # columns from which cells have room between them
UNKNOWN = "?"


def as_dict(found: Forecast) -> dict[str, Any]:
    """Return all figures: seconds, bytes and tokens as numbers, null where one cannot be known."""
    return {
        "profile": found.profile,
        "changed": found.changed,
        "model": vars(found.shape) | {"parameters": found.shape.parameters},
        "gpu": vars(found.gpu) | {"named": found.chosen} if found.gpu else None,
        "gpus_held": _held(found),
        "rates": {"source": found.rates.source or None, "tokens_a_second": found.rates.tokens},
        "lengths": found.lengths.told() | {"yields": found.lengths.yields},
        "assumed": found.assumed.used,
        "totals": _totals(found),
        "stages": [_task(found, task, seconds) for task, seconds in zip(found.tasks, found.seconds, strict=True)],
        "memory": [
            vars(peak) | {"total": peak.total, "fits": fits(peak, found.gpu) if found.gpu else None}
            for peak in found.peaks
        ],
        "disk": [vars(room) | {"left": room.left} for room in found.rooms],
    }


def _task(found: Forecast, task: Task, seconds: float | None) -> dict[str, Any]:
    return {
        "stage": task.name,
        "done": task.done,
        "requests": task.requests,
        "rows_kept": task.kept,
        "read": task.read,
        "written": task.written,
        "trained": task.trained,
        "forward": task.forward,
        "steps": task.steps,
        "measured": task.measured,
        "gpus": found.machine.gpus(task) if found.gpu else 0,
        "seconds": seconds,
        "seconds_left": None if seconds is None else seconds * task.left,
    }


def _held(found: Forecast) -> int:
    return max(found.machine.gpus(task) for task in found.tasks) if found.gpu else 0


def _totals(found: Forecast) -> dict[str, Any]:
    """Return hours and GPU-hours of the tasks whose time is known; `unknown` counts the others."""
    known = [(task, s) for task, s in zip(found.tasks, found.seconds, strict=True) if s is not None]
    hours = {"planned": sum(s for _, s in known) / 3600, "left": sum(s * task.left for task, s in known) / 3600}
    totals: dict[str, Any] = {"hours": hours, "unknown": len(found.tasks) - len(known)}
    if found.gpu:
        in_use = sum(s * found.machine.gpus(task) for task, s in known) / 3600
        left = sum(s * found.machine.gpus(task) * task.left for task, s in known) / 3600
        totals["gpu_hours"] = {"planned": in_use, "left": left}
        totals["gpu_hours_held"] = {name: value * _held(found) for name, value in hours.items()}
    return totals


def put(found: Forecast, form: str) -> None:
    """Print a forecast as `text` or `json`."""
    if form == "json":
        sys.stdout.write(json.dumps(as_dict(found), indent=2) + "\n")
        return
    from rich.console import Console

    width = max(shutil.get_terminal_size((WIDTH, 40)).columns, LEAST)
    console = Console(width=width, highlight=False, markup=False)
    tables = (_work(found), _memory(found), _disk(found), _grounds(found))
    for table in tables:
        table.padding = (0, 1 if width >= AIRY else 0)
    for part in (_head(found), *tables, _notes(found)):
        with console.capture() as shown:
            console.print(part)
        lines = [line.rstrip() for line in shown.get().splitlines()]
        sys.stdout.write("".join(f"{line}\n" for line in lines if line) + ("" if isinstance(part, str) else "\n"))


def _head(found: Forecast) -> str:
    one = found.shape
    lines = [f"profile {found.profile}: {one.name}, {count(one.parameters)} parameters ({one.source})"]
    if found.gpu:
        gpu = found.gpu
        figures = f"{gpu.gib:g} GiB, {gpu.tflops:g} TFLOPS, {gpu.gb_s:g} GB/s"
        lines.append(f"GPU: {_held(found)} x {gpu.name} ({figures}; {gpu.source})")
        if not found.chosen:
            fit = all(fits(peak, gpu) for peak in found.peaks)
            why = "the smallest known one that every stage fits" if fit else "the largest known one: none fits all"
            lines.append(f"     assumed, for no GPU was named: {why}")
            lines.append(f"     name yours by --gpu: {', '.join(known_gpus())}")
    rates = found.rates.source or ("the GPU's published figures" if found.gpu else "none known (--timings, --rate)")
    return "\n".join([*lines, f"rates: {rates}", ""])


def _table(title: str, columns: list[str], left: int) -> Any:
    """Return an empty table whose first `left` columns are words, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", no_wrap=number > 0)
    return table


def _work(found: Forecast) -> Any:
    spent = "GPU time" if found.gpu else "time"
    counts = ["stages", "done", "requests", "read", "written", "trained", "steps"]
    table = _table("Work", ["stage", *counts, spent, "done", "left"], 1)
    rows = [(kind, *_sums(found, lambda task, kind=kind: task.kind == kind)) for kind in KINDS]  # type: ignore[misc]
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row("all", *_sums(found, lambda task: True))  # noqa: ARG005
    return table


def _sums(found: Forecast, of: Callable[[Task], bool]) -> list[str]:
    """Return the cells of the tasks that `of` picks; a time is unknown where none of them is known."""
    picked = [(task, s) for task, s in zip(found.tasks, found.seconds, strict=True) if of(task)]
    numbers = [
        sum(task.requests for task, _ in picked),
        sum(task.read for task, _ in picked),
        sum(task.written for task, _ in picked),
        sum(task.trained for task, _ in picked),
        sum(task.steps for task, _ in picked),
    ]
    known = [(task, s * (found.machine.gpus(task) if found.gpu else 1)) for task, s in picked if s is not None]
    all_of, left = sum(s for _, s in known), sum(s * task.left for task, s in known)
    times = [duration(value) for value in (all_of, all_of - left, left)] if known else [UNKNOWN, "", ""]
    done = sum(task.done for task, _ in picked)
    return [str(len(picked)), str(done), *(count(value) for value in numbers), *times]


def _memory(found: Forecast) -> Any:
    parts = ["weights", "gradients", "optimizer", "activations", "cache", "other", "total"]
    where = "of one GPU" if found.gpu else "of the process, beside its libraries"
    unit, name = (GIB, "GiB") if max(peak.total for peak in found.peaks) >= GIB else (2**20, "MiB")
    columns = ["stage", *parts, *(["GPUs", "fits"] if found.gpu else [])]
    table = _table(f"Peak memory {where}, {name}", columns, 1)
    for peak in found.peaks:
        held = [peak.weights, peak.gradients, peak.optimizer, peak.activations, peak.cache, peak.other, peak.total]
        fit = [str(peak.gpus), "yes" if fits(peak, found.gpu) else "no"] if found.gpu else []
        table.add_row(peak.stage, *(f"{value / unit:.1f}" if value else "" for value in held), *fit)
    return table


def _disk(found: Forecast) -> Any:
    table = _table("Disk", ["table", "files", "planned", "here", "left", "bytes of a row"], 1)
    for room in found.rooms:
        table.add_row(
            room.table, str(room.files or ""), size(room.planned), size(room.here), size(room.left), room.origin
        )
    table.add_section()
    sums = [sum(getattr(room, name) for room in found.rooms) for name in ("planned", "here", "left")]
    table.add_row("all", "", *(size(value) for value in sums), "")
    return table


def _grounds(found: Forecast) -> Any:
    table = _table("What this rests on", ["", "value", "", ""], 1)
    table.show_header = False
    table.columns[3].justify = "left"
    table.columns[3].no_wrap = False
    for name, one in found.lengths.told().items():
        table.add_row(f"tokens of {LENGTHS[name]}", f"{one['value']:.1f}", str(one["origin"]), "")
    for strategy, share in found.lengths.yields.items():
        table.add_row(f"pairs to a prompt, {strategy}", f"{share:.2f}", "measured", "")
    for name, value in found.assumed.used.items():
        origin = "given" if name in found.assumed.given else "assumed"
        table.add_row(name, f"{value:g}", origin, DEFAULTS[name][1])
    return table


LENGTHS = {
    "prompt": "a prompt",
    "response": "a response",
    "question": "the judge's rubric",
    "reply": "a judge's reply",
    "pair": "a pair, both sides",
    "ift": "an example of answering",
    "eft": "an example of judging",
}


def _notes(found: Forecast) -> str:
    totals = _totals(found)
    hours = totals["hours"]
    lines = []
    if totals["unknown"] < len(found.tasks):
        told = f"{duration(3600 * hours['planned'])} one stage after another"
        lines.append(f"{told}, {duration(3600 * hours['left'])} of it left")
    if found.gpu:
        held = totals["gpu_hours_held"]
        held = f"{held['planned']:.3g} GPU-hours, {held['left']:.3g} left"
        taken = "" if found.chosen else " (assumed: --gpu)"
        lines.append(f"with {_held(found)} x {found.gpu.name}{taken} held throughout: {held}")
    if totals["unknown"]:
        silent = sorted({t.kind for t, s in zip(found.tasks, found.seconds, strict=True) if s is None}, key=KINDS.index)
        lines.append(f"not known, and not in the sums: the time of {', '.join(silent)}")
    if found.changed:
        lines.append("settings are changed (-S): nothing counts as done, and nothing as here")
    lines.append("DVC keeps a second copy of models and tables in its cache, unless cache.type links them")
    return "\n".join(lines)


def count(value: float) -> str:
    """Return a number of things in four characters or so.

    >>> count(999), count(1400), count(8_030_261_248), count(0)
    ('999', '1.40k', '8.03G', '')
    """
    if not value:
        return ""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:#.3g}".rstrip(".") + name
    return f"{value:.0f}"


def size(value: float) -> str:
    """Return bytes in GiB, or MiB below a tenth of one.

    >>> size(16 * 2**30), size(5 * 2**20), size(0)
    ('16.0 GiB', '5.0 MiB', '')
    """
    if not value:
        return ""
    if value < GIB / 10:
        return f"{value / 2**20:.1f} MiB"
    return f"{value / GIB:.1f} GiB"


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours.

    >>> duration(41), duration(600), duration(86400), duration(864000)
    ('41 s', '10 min', '24.0 h', '240 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:.0f} h"
