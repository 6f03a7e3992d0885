"""Tool gc: frees what lies in the store and can be of no use any more.

Finished rows of engines, weights and sampling parameters that no table is made of: none of the plan, and none that a
tool asked for of models that are still there. And checkpoints of stopped trainings that will not go on: the model
version has been trained since, or its pairs are gone. Logs of trainings stay.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import paths
from stages.rowstore import SHARD, Use, alone_in

# Tools whose finished rows are noted as <tool>/<models...>; of the first, the last part is a split.
TOURNAMENT, BENCHES = "tournament", ("arena_hard", "mt_bench")


@dataclass(frozen=True)
class Context:
    """The rows of one engine, or the checkpoints of a stopped training (it has no rows), and what they take."""

    folder: Path
    rows: int
    bytes: int


def run(planned: dict[str, Any], *, dry_run: bool) -> None:
    """Free what is of no use any more; say what was freed and what is left."""
    store = paths.store()
    labels = {*planned_labels(planned), *asked_labels(store)}
    freed = useless(store, labels) if dry_run else free(store, labels)
    for context in freed:
        print(f"{context.folder}: {_told(context)}")
    gone = {context.folder for context in freed}
    rows = [_context(folder) for folder in _folders(store, "rows") if folder not in gone]
    stopped = [_checkpoints(folder) for folder in _folders(store, "training") if folder not in gone]
    what = "would free" if dry_run else "freed"
    print(f"gc: {what} {_sum(freed)}; {_sum([*rows, *stopped])} in use stay")


def planned_labels(planned: dict[str, Any]) -> Iterator[str]:
    """Yield the labels of all tables that a backend fills for the plan."""
    yield from (f"generate/{row['model']}/{row['split']}" for row in planned["answers"].values())
    yield from (f"judge/{row['judge']}/{row['model']}/{row['split']}" for row in planned["judges"].values())
    for model in planned["models"]:
        yield f"generate/{model}/eval"
        yield from (f"judge/{model}/{paths.WORLD}/fixed.{way}" for way in ("votes", "one_token"))


def asked_labels(store: Path) -> Iterator[str]:
    """Yield the labels of what the tools of docs/evaluation.md asked in this checkout, of models that are there."""
    for home in _homes(store):
        if _checkout(home) != Path().absolute():
            continue
        for tool in (TOURNAMENT, *BENCHES):
            for note in filter(Path.is_file, sorted((home / "tables" / tool).rglob("*"))):
                label = note.relative_to(home / "tables")
                named = label.parts[1:-1] if tool == TOURNAMENT else label.parts[1:]
                if all(paths.model(name).is_dir() for name in named):
                    yield str(label)


def useless(store: Path, labels: set[str]) -> list[Context]:
    """Return all that can be freed: rows that are stale, and trainings that will not go on."""
    return [*stale(store, labels), *abandoned(store)]


def stale(store: Path, labels: set[str]) -> list[Context]:
    """Return the contexts that no table needs: not `labels` of this checkout, and none of another that still exists."""
    used = {context for label in labels for context in Use(store, label).contexts()} | set(_used_elsewhere(store))
    return [_context(folder) for folder in _folders(store, "rows") if folder.name not in used]


def abandoned(store: Path) -> list[Context]:
    """Return the checkpoints of stopped trainings that no checkout will go on with."""
    checkouts = {Path().absolute(), *map(_checkout, _homes(store))}
    return [
        _checkpoints(folder)
        for folder in _folders(store, "training")
        if not any(_may_go_on(checkout, folder.name.rpartition("-")[0]) for checkout in checkouts)
    ]


def _may_go_on(checkout: Path, name: str) -> bool:
    """Return whether a checkout has yet to train a model version and can: M0, or one whose pairs are there."""
    if not checkout.is_dir() or (checkout / paths.MODELS / name).is_dir():
        return False
    places = (f"data/pairs/{name}.parquet", f"data/imported/*/pairs/{name}.parquet")
    return name == "M0" or any(any(checkout.glob(place)) for place in places)


def _homes(store: Path) -> list[Path]:
    """Return the notes of each checkout that uses a store."""
    return sorted(path.parent for path in (store / "used").glob("*/checkout"))


def _checkout(home: Path) -> Path:
    return Path((home / "checkout").read_text().strip())


def _used_elsewhere(store: Path) -> Iterator[str]:
    for home in _homes(store):
        checkout = _checkout(home)
        if checkout != Path().absolute() and checkout.is_dir():
            yield from (
                context
                for note in (home / "tables").rglob("*")
                if note.is_file()
                for context in note.read_text().split()
            )


def free(store: Path, labels: set[str]) -> list[Context]:
    """Delete what can be freed and return it. Raises TsrError while a run is making rows."""
    with alone_in(store):
        found = useless(store, labels)
        for context in found:
            shutil.rmtree(context.folder)
    return found


def _folders(store: Path, kind: str) -> list[Path]:
    return sorted(path for path in (store / kind).glob("*") if path.is_dir())


def _context(folder: Path) -> Context:
    shards = list(folder.glob(f"*{SHARD}"))
    lines = sum(block.count(b"\n") for shard in shards for block in _blocks(shard))
    return Context(folder, lines, sum(shard.stat().st_size for shard in shards))


def _checkpoints(folder: Path) -> Context:
    return Context(folder, 0, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            yield block


def _sum(contexts: list[Context]) -> str:
    rows, size = sum(context.rows for context in contexts), sum(context.bytes for context in contexts)
    stopped = [context for context in contexts if _is_stopped(context)]
    trainings = f" and {len(stopped)} stopped trainings" if stopped else ""
    return f"{rows} rows{trainings}, {_size(size)}"


def _told(context: Context) -> str:
    what = "a stopped training" if _is_stopped(context) else f"{context.rows} rows"
    return f"{what}, {_size(context.bytes)}"


def _is_stopped(context: Context) -> bool:
    return context.folder.parent.name == "training"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
