"""How far a file from elsewhere may unfold: a megabyte of Parquet or gzip can hold more than any memory.

The bound is the memory of this machine, so nobody who has the memory for a table is kept from it.
"""

import gzip
import os
import zlib
from collections.abc import Collection
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import polars as pl

from stages.errors import TsrError

LONGEST = 256 << 20  # bytes of one record of JSONL or CSV: a prompt and responses of 100 million characters
JSON_UNFOLDS = 4  # bytes that a byte of JSON takes at least, once it is read
_GROUP = Path("/sys/fs/cgroup/memory.max")  # where a container's limit stands
_NUMBER = 8  # bytes of a value, or of the place where a text stands
_PIECE = 1 << 20  # bytes that are unpacked at a time


def memory() -> int:
    """Return the bytes of memory that this machine has, or that its container may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no container; or `max`, no limit
        return min(whole, int(_GROUP.read_text()))
    return whole


def check_parquet(path: Path, columns: Collection[str] | None = None, rows: int | None = None) -> None:
    """Raise TsrError for a Parquet file whose own account of its contents is larger than the memory.

    Of a file that is not read whole, just these columns count, and the groups of rows that its first `rows` lie in.
    One that cannot be read is left to whoever reads it, and says so.
    """
    import pyarrow.parquet
    from pyarrow import ArrowException

    try:
        told = pyarrow.parquet.read_metadata(path)
        groups = [told.row_group(number) for number in range(told.num_row_groups)]
        starts = accumulate((group.num_rows for group in groups), initial=0)
        asked = [group for group, start in zip(groups, starts, strict=False) if rows is None or start < rows]
        held = [group.column(place) for group in asked for place in range(group.num_columns)]
        # The parts of what is nested have a column each, called after it: `messages.list.element.role`.
        read = [one for one in held if columns is None or _outermost(one.path_in_schema, columns)]
        least = sum(max(one.total_uncompressed_size, _NUMBER * one.num_values) for one in read)
    except (ArrowException, OSError):
        return
    check_bytes(path, max(least, _NUMBER * sum(group.num_rows for group in asked)))


def _outermost(path: str, columns: Collection[str]) -> bool:
    return any(path == column or path.startswith(f"{column}.") for column in columns)


def check_texts(rows: pl.DataFrame, path: Path) -> None:
    """Raise TsrError where a file's texts, which may share their bytes while they are read, are too large together."""
    check_bytes(path, sum(_letters(column) for column in rows.iter_columns()))


def _letters(column: pl.Series) -> int:
    """Return the bytes of all texts in a column, those inside lists and structs too."""
    if column.dtype == pl.String:
        return int(column.str.len_bytes().cast(pl.Int64).sum() or 0)
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return int(column.cat.len_bytes().cast(pl.Int64).sum() or 0)
    if column.dtype == pl.Binary:
        return int(column.bin.size().cast(pl.Int64).sum() or 0)
    if isinstance(column.dtype, pl.List | pl.Array):
        return _letters(column.explode()) if column.len() else 0
    if isinstance(column.dtype, pl.Struct):
        return sum(_letters(column.struct.field(field.name)) for field in column.dtype.fields)
    return 0


def check_json(path: Path) -> None:
    """Raise TsrError for a file of JSON, which is read as a whole, that the memory cannot hold once it is read."""
    check_bytes(path, JSON_UNFOLDS * path.stat().st_size, "; expected JSONL, which is read line by line")


def unpacked(path: Path) -> bytes:
    """Return what a file of gzip holds. Raises TsrError for one that is damaged, or unfolds to more than fits.

    It is unpacked piece by piece, so no more is taken than the limit: what may be JSON takes more once it is read.
    """
    pieces, size = [], 0
    try:
        with gzip.GzipFile(path) as packed:
            while piece := packed.read(_PIECE):
                pieces.append(piece)
                size += len(piece)
                check_bytes(path, JSON_UNFOLDS * size)
    except (OSError, EOFError, zlib.error) as error:
        raise TsrError(f"{path}: not readable as gzip, or cut off: {str(error).splitlines()[0][:200]}") from error
    return b"".join(pieces)


def check_bytes(path: Path | str, least: int, instead: str = "") -> None:
    """Raise TsrError where what a file unfolds to, `least` bytes or more, does not fit into the memory."""
    if least > (most := memory()):
        told = f"unfolds to {least / 2**30:.3g} GiB or more; this machine has {most / 2**30:.3g} GiB of memory"
        raise TsrError(f"{path}: {told}{instead}")
