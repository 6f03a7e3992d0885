"""Tool claims: chosen arms over many seeds, side by side in processes of their own; resumable, every seed kept.

A seed's tables join those of `reports/claims/<name>/` when it has ended; a seed that is there, with all that is asked
for, is not run again. What a killed call had finished is found by its hash (`kept.py`).
"""

import os
import queue
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl

from stages import paths, rowstore, stopping, tables
from stages.claims import collecting, page, running, settings, summary
from stages.claims.map_points import Map
from stages.claims.proposals import Proposals
from stages.claims.settings import Settings
from stages.claims.summary import HOME
from stages.errors import TsrError
from stages.progress import progress

POLL_SECONDS = 1.0
_CLOCKS = ("seconds", "cpu_seconds", "code")  # what may differ when a seed is run again
_done: Any = None  # of a worker: where it says which tasks are done


@dataclass(frozen=True)
class Asked:
    """Which seeds, in how many processes, into which tables; `keep` holds on to what no other setting could share.

    With `check`, seeds that are there are run anew, and what comes is held against their tables.
    """

    first: int
    count: int
    workers: int
    into: str
    keep: bool
    check: bool

    @property
    def seeds(self) -> list[int]:
        """Return the seeds."""
        return list(range(self.first, self.first + self.count))

    @property
    def home(self) -> Path:
        """Return the folder of the tables."""
        return HOME / paths.checked(self.into)


def run(arms: str, judge: str, changes: list[str], asked: Asked) -> None:
    """Run what is not there yet and print where the tables are; of the set `main`, write the pages too.

    Raises TsrError for the first seed that fails.
    """
    one = settings.read(arms, judge, changes)
    if asked.check:
        _check(one, asked)
        return
    _complete(one, asked)
    print(summary.text(summary.true_scores(asked.home, [one.run_id(seed) for seed in asked.seeds])))
    if asked.into == page.MAIN:
        report(asked.into)


def run_map(wanted: Map, asked: Asked) -> None:
    """Run every point of the map that is not there yet; with the middle there, write the pages. Raises as `run`."""
    points = [settings.changed(wanted.arms, "", wanted.changed(point)) for point in wanted.points]
    for number, (point, one) in enumerate(zip(wanted.points, points, strict=True), start=1):
        print(f"claims: map, point {number} of {len(points)}: {point.axis}: {point.label}", flush=True)
        _complete(one, asked)
    if summary.read_table("claims_runs", HOME / page.MAIN).height:
        report(page.MAIN)


def run_proposals(wanted: Proposals, asked: Asked) -> None:
    """Run the proposals beside their rivals; with the paper's claims there, write the pages. Raises as `run`."""
    one = settings.changed(wanted.arms, "", wanted.changed)
    if asked.check:
        _check(one, asked)
        return
    _complete(one, asked)
    print(summary.text(summary.true_scores(asked.home, [one.run_id(seed) for seed in asked.seeds])))
    if summary.read_table("claims_runs", HOME / page.MAIN).height:
        report(page.MAIN)


def _complete(settings: Settings, asked: Asked) -> None:
    """Run the seeds that are not there yet."""
    lacking = [seed for seed in asked.seeds if not _is_there(settings, seed, asked.home)]
    for found in _run(settings, lacking, asked):
        _join(found, asked.home)
    there = len(asked.seeds) - len(lacking)
    reused = f", {there} of them there before" if there else ""
    print(f"claims: {asked.home}: {_told(settings, asked)}{reused}")


def report(into: str) -> None:
    """Write the pages of the tables that are there. Raises TsrError where there are none."""
    print(f"claims: {', '.join(map(str, page.write(into)))}")


def _told(settings: Settings, asked: Asked) -> str:
    return f"{len(asked.seeds)} seed{'s' * (len(asked.seeds) > 1)} of {', '.join(settings.arms)}"


def _check(settings: Settings, asked: Asked) -> None:
    """Run seeds anew. Raises TsrError for one that is not there, and where a row is another."""
    if lacking := [seed for seed in asked.seeds if not _is_there(settings, seed, asked.home)]:
        raise TsrError(f"{asked.home}: seed {lacking[0]} is not there with these arms and settings; nothing to check")
    shutil.rmtree(paths.store() / running.ANEW, ignore_errors=True)
    rows = 0
    for found in _run(settings, asked.seeds, asked):
        for name in sorted(collecting.NAMES):
            rows += _agreeing(name, found[name], summary.read_table(name, asked.home), asked.home)
    shutil.rmtree(paths.store() / running.ANEW)
    print(f"claims: {asked.home}: {_told(settings, asked)} run anew; {rows} rows agree")


def _agreeing(name: str, found: pl.DataFrame, known: pl.DataFrame, home: Path) -> int:
    """Return how many rows there are. Raises TsrError for the first that is not among the known, clocks aside."""
    measured = [column for column in found.columns if column not in _CLOCKS]
    other = found.select(measured).join(known.select(measured), on=measured, how="anti", nulls_equal=True)
    if other.height:
        key = tables.contract(name)["key"]
        where = ", ".join(
            f"{column}={value}" for column, value in zip(key, other.sort(key).select(key).row(0), strict=True)
        )
        told = f"{other.height} of {found.height} rows came out otherwise, first {where}"
        raise TsrError(f"{home / name}.parquet: {told}; other code, libraries or processors make other weights")
    return found.height


def _is_there(settings: Settings, seed: int, home: Path) -> bool:
    lines = summary.read_table("claims_lines", home).filter(pl.col("run") == settings.run_id(seed))
    last = dict(lines.group_by("arm").agg(pl.col("round").max()).iter_rows())
    return all(last.get(arm, -1) >= _rounds(settings.raw["arms"][arm]) for arm in settings.arms)


def _rounds(arm: Any) -> int:
    return int(arm["rounds"] if isinstance(arm, dict) else arm)


def _run(settings: Settings, seeds: list[int], asked: Asked) -> Iterator[collecting.Tables]:
    """Run seeds in processes of their own and yield each one's tables as it ends."""
    if not seeds:
        return
    root, home = Path.cwd(), running.ANEW if asked.check else running.HOME
    tasks = len(running.Seed(settings, seeds[0], root, home).tasks)
    context = get_context("spawn")  # polars does not survive a fork
    said = context.Queue()
    with (
        ProcessPoolExecutor(
            min(asked.workers, len(seeds)), context, initializer=_start, initargs=(said, os.getpid())
        ) as pool,
        progress(f"claims, {len(seeds)} seeds", tasks * len(seeds), "stages") as advance,
        stopping.at_once("run the command again, finished stages are kept"),
    ):
        ahead = [pool.submit(_one, settings, seed, root, home, asked.keep) for seed in seeds]
        yield from _ended(ahead, said, advance)


def _ended(ahead: list[Future[Any]], said: Any, advance: Callable[[int], None]) -> Iterator[collecting.Tables]:
    """Yield the tables of each seed as it ends, and show the tasks that are done meanwhile.

    After the first failure no other seed starts; those that run are waited for, and then it is raised.
    """
    failure: BaseException | None = None
    while ahead:
        with suppress(queue.Empty):
            said.get(timeout=POLL_SECONDS)
            advance(1)
        for future in [one for one in ahead if one.done()]:
            ahead.remove(future)
            if future.cancelled():
                continue
            if error := future.exception():
                failure = failure or error
                for other in ahead:
                    other.cancel()
            else:
                yield future.result()
    if isinstance(failure, BrokenProcessPool):
        raise TsrError("claims: a worker was killed; run the command again, finished stages are kept") from failure
    if failure:
        raise failure


def _start(said: Any, parent: int) -> None:
    """Prepare a worker: it speaks to the parent through `said`, and ends with it; Ctrl-C is the parent's affair."""
    global _done  # noqa: PLW0603 (a worker's own)
    _done = said
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping.with_starter(parent)


def _one(settings: Settings, seed: int, root: Path, home: Path, keep: bool) -> collecting.Tables:  # noqa: FBT001 (through a pool)
    """Run one seed in this worker and return its tables; what its stages print goes to a file beside its folder."""
    one = running.Seed(settings, seed, root, home)
    with _logged(one.folder.with_name(f"{one.run}.log")) as log:
        outcome = one.go(_done.put)
        found = collecting.collect(one, outcome)
    one.forget(outcome, everything=keep)
    log.unlink()
    return found


@contextmanager
def _logged(path: Path) -> Iterator[Path]:
    """Let a worker's output go to a file for a while. An error says where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = [os.dup(1), os.dup(2)]
    with path.open("a") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    try:
        yield path
    except TsrError as error:
        raise TsrError(f"{error} (its output is in {path})") from error
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)


def _join(found: collecting.Tables, home: Path) -> None:
    """Put a run's rows among those of other runs, in place of rows with the same key."""
    with rowstore.locked(paths.store() / running.HOME / "locks" / home.name):
        for name in collecting.NAMES:
            key = tables.contract(name)["key"]
            others = summary.read_table(name, home).join(found[name], on=key, how="anti")
            tables.write(name, pl.concat([others, found[name]]), home / f"{name}.parquet")
