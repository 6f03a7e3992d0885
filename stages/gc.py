"""Tool gc: frees the finished rows of engines, weights and sampling parameters that no stage of the plan uses."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import paths
from stages.rowstore import SHARD, Use, alone_in


@dataclass(frozen=True)
class Context:
    """The rows of one engine, and what they take."""

    folder: Path
    rows: int
    bytes: int


def run(planned: dict[str, Any], *, dry_run: bool) -> None:
    """Free the rows that no stage of the plan uses; say what was freed and what is left."""
    store, labels = paths.store(), set(planned_labels(planned))
    freed = stale(store, labels) if dry_run else free(store, labels)
    for context in freed:
        print(f"{context.folder}: {context.rows} rows, {_size(context.bytes)}")
    gone = {context.folder for context in freed}
    left = [_context(folder) for folder in _folders(store) if folder not in gone]
    what = "would free" if dry_run else "freed"
    print(f"gc: {what} {_sum(freed)}; {_sum(left)} in use stay")


def planned_labels(planned: dict[str, Any]) -> Iterator[str]:
    """Yield the labels of all tables that a backend fills for the plan."""
    yield from (f"generate/{row['model']}/{row['split']}" for row in planned["answers"].values())
    yield from (f"judge/{row['judge']}/{row['model']}/{row['split']}" for row in planned["judges"].values())
    for model in planned["models"]:
        yield f"generate/{model}/eval"
        yield from (f"judge/{model}/{paths.WORLD}/fixed.{way}" for way in ("votes", "one_token"))


def stale(store: Path, labels: set[str]) -> list[Context]:
    """Return the contexts that no table needs: not `labels` of this checkout, and none of another that still exists."""
    used = {context for label in labels for context in Use(store, label).contexts()} | set(_used_elsewhere(store))
    return [_context(folder) for folder in _folders(store) if folder.name not in used]


def _used_elsewhere(store: Path) -> Iterator[str]:
    for home in (store / "used").glob("*/checkout"):
        checkout = Path(home.read_text().strip())
        if checkout != Path().absolute() and checkout.is_dir():
            yield from (
                context
                for note in (home.parent / "tables").rglob("*")
                if note.is_file()
                for context in note.read_text().split()
            )


def free(store: Path, labels: set[str]) -> list[Context]:
    """Delete the stale contexts and return them. Raises TsrError while a run is making rows."""
    with alone_in(store):
        found = stale(store, labels)
        for context in found:
            shutil.rmtree(context.folder)
    return found


def _folders(store: Path) -> list[Path]:
    return sorted(path for path in (store / "rows").glob("*") if path.is_dir())


def _context(folder: Path) -> Context:
    shards = list(folder.glob(f"*{SHARD}"))
    lines = sum(block.count(b"\n") for shard in shards for block in _blocks(shard))
    return Context(folder, lines, sum(shard.stat().st_size for shard in shards))


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            yield block


def _sum(contexts: list[Context]) -> str:
    count, size = sum(context.rows for context in contexts), sum(context.bytes for context in contexts)
    return f"{count} rows, {_size(size)}"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
