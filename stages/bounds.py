"""How far a file from elsewhere may unfold: a Parquet file of a megabyte can hold more rows than any memory.

The bound is the memory of this machine, so nobody who has the memory for a table is kept from it.
"""

import os
from contextlib import suppress
from pathlib import Path

import polars as pl

from stages.errors import TsrError

LONGEST = 256 << 20  # bytes of one record of JSONL or CSV: a prompt and responses of 100 million characters
JSON_UNFOLDS = 4  # bytes that a byte of JSON takes at least, once it is read
_GROUP = Path("/sys/fs/cgroup/memory.max")  # where a container's limit stands
_NUMBER = 8  # bytes of a value, or of the place where a text stands


def memory() -> int:
    """Return the bytes of memory that this machine has, or that its container may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no container; or `max`, no limit
        return min(whole, int(_GROUP.read_text()))
    return whole


def check_parquet(path: Path) -> None:
    """Raise TsrError for a Parquet file whose own account of its contents is larger than the memory.

    One that cannot be read is left to whoever reads it, and says so.
    """
    import pyarrow.parquet
    from pyarrow import ArrowException

    try:
        told = pyarrow.parquet.read_metadata(path)
        groups = [told.row_group(number) for number in range(told.num_row_groups)]
        columns = [group.column(place) for group in groups for place in range(group.num_columns)]
        least = sum(max(one.total_uncompressed_size, _NUMBER * one.num_values) for one in columns)
    except (ArrowException, OSError):
        return
    _refuse(path, max(least, _NUMBER * told.num_rows))


def check_texts(rows: pl.DataFrame, path: Path) -> None:
    """Raise TsrError where a file's texts, which may share their bytes while they are read, are too large together."""
    _refuse(path, sum(_letters(column) for column in rows.iter_columns()))


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
    _refuse(path, JSON_UNFOLDS * path.stat().st_size, "; expected JSONL, which is read line by line")


def _refuse(path: Path, least: int, instead: str = "") -> None:
    if least > (most := memory()):
        told = f"unfolds to {least / 2**30:.3g} GiB or more; this machine has {most / 2**30:.3g} GiB of memory"
        raise TsrError(f"{path}: {told}{instead}")
