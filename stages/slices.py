"""Large tables worked off in slices: ranges of ids, each on one thread, several at once, results in order.

What is worked out on one thread from the rows of whole ids does not depend on how many slices there are or how many
run at once: floating sums keep their order.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROWS = 2_500_000  # a slice at most, about: some 300 MB while it is worked on
FEW = 200_000  # rows that are not worth a second slice

Result = TypeVar("Result")


@dataclass(frozen=True)
class Slice:
    """Ids from `low` on and below `high`; None is no limit."""

    low: str = ""
    high: str | None = None


def slices(path: Path, column: str, rows: int = ROWS) -> list[Slice]:
    """Return slices of at most about `rows` rows that together hold all ids of `column`.

    They are cut by the file's own statistics. Any file gives slices that fit together. They are of equal size where it
    is sorted by `column`.
    """
    import pyarrow.parquet as pq

    about = pq.ParquetFile(path).metadata
    wanted = math.ceil(about.num_rows / rows)
    if about.num_rows > FEW:
        wanted = math.ceil(wanted / cores()) * cores()  # so that none waits for the last
    starts: list[str] = []
    ahead = 0
    for group in map(about.row_group, range(about.num_row_groups)):
        columns = (group.column(i) for i in range(group.num_columns))
        known = next(c.statistics for c in columns if c.path_in_schema == column)
        due = ahead + group.num_rows / 2 >= about.num_rows * (len(starts) + 1) / wanted  # nearer here than a group on
        if due and len(starts) < wanted - 1 and known is not None and known.has_min_max:
            starts.append(known.min)
        ahead += group.num_rows
    bounds = ["", *sorted(set(starts))]
    return [Slice(low, high) for low, high in zip(bounds, [*bounds[1:], None], strict=True)]


def in_order(work: Callable[[Slice], Result], parts: list[Slice]) -> Iterator[Result]:
    """Yield `work` of each part, in their order; as many run at once as the process has cores, and few wait."""
    at_once = min(cores(), len(parts))
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) > 2 * at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
