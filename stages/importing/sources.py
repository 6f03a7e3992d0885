"""Source files as records: one dict a row of JSONL, JSON, CSV or Parquet, read piece by piece."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl

from stages import bounds
from stages.errors import TsrError
from stages.importing.dirt import Dirt

Record = dict[str, Any]
SLICE = 20_000  # rows of a Parquet file that are Python objects at a time


def records(path: Path, columns: set[str], dirt: Dirt) -> Iterator[Record]:
    """Yield the records of a file; of a Parquet file just `columns`, where it has them.

    Raises TsrError naming file and line for one that is missing, cut off, or not what its ending says.
    """
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv}
    try:
        if not path.is_file():
            raise TsrError(f"{path}: no such file")
        if path.suffix == ".parquet":
            yield from _parquet(path, columns)
        elif path.suffix in readers:
            yield from readers[path.suffix](path, dirt)
        else:
            raise TsrError(f"{path}: unknown ending; expected .jsonl, .ndjson, .json, .csv or .parquet")
    except OSError as error:
        raise TsrError(f"{str(path)[:200]}: cannot be read: {error.strerror or error}") from error


def column_names(path: Path, record: Record) -> list[str]:
    """Return the columns of a file, of which `record` may hold those alone that were asked for."""
    return list(pl.read_parquet_schema(path)) if path.suffix == ".parquet" else list(record)


def _parquet(path: Path, columns: set[str]) -> Iterator[Record]:
    bounds.check_parquet(path)
    try:
        names = pl.read_parquet_schema(path)
        # The file may hold nothing that the mapping names: then its rows are still rows, and the mapping is wrong.
        wanted = [name for name in names if name in columns] or list(names)[:1]
        table = pl.read_parquet(path, columns=wanted, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TsrError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    bounds.check_texts(table, path)
    for piece in table.iter_slices(SLICE):
        yield from piece.to_dicts()


def _jsonl(path: Path, dirt: Dirt) -> Iterator[Record]:
    with path.open("rb") as lines:  # bytes split on \n alone: U+2028 inside a text ends no line
        for number, line in enumerate(_lines(lines, path), 1):
            if not line.strip():
                dirt.add("blank_lines", path.name)
                continue
            yield _record(_parsed(_decoded(line, path, dirt), path, number), f"{path}: line {number}")


def _lines(lines: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield the lines of a file. Raises TsrError for one that is longer than any record."""
    number = 0
    while line := lines.readline(bounds.LONGEST + 1):
        number += 1
        if len(line) > bounds.LONGEST:
            raise TsrError(
                f"{path}: line {number}: is longer than {bounds.LONGEST >> 20} MiB; expected a record a line"
            )
        yield line


def _json(path: Path, dirt: Dirt) -> Iterator[Record]:
    bounds.check_json(path)
    whole = _parsed(_decoded(path.read_bytes(), path, dirt), path, None)
    rows = whole if isinstance(whole, list) else [whole]
    for number, row in enumerate(rows, 1):
        yield _record(row, f"{path}: item {number}")


def _record(value: Any, where: str) -> Record:
    if not isinstance(value, dict):
        raise TsrError(f"{where}: expected a JSON object, got {json.dumps(value)[:60]}")
    return value


def _decoded(data: bytes, path: Path, dirt: Dirt) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        dirt.add("broken_utf8", path.name)
        return data.decode("utf-8-sig", errors="replace")


def _parsed(text: str, path: Path, line: int | None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {line or error.lineno}, column {error.colno}"
        raise TsrError(f"{path}: {at}: not valid JSON, or cut off: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise TsrError(f"{path}: line {line or 1}: JSON that cannot be read: {error}") from error


def _csv(path: Path, dirt: Dirt) -> Iterator[Record]:
    csv.field_size_limit(bounds.LONGEST)
    with path.open("rb") as lines:
        text = (_decoded(line, path, dirt) for line in _lines(lines, path))
        rows = csv.reader(text, strict=True)
        try:
            names = next(rows, None)
            if names is None or len(set(names)) != len(names):
                raise TsrError(f"{path}: line 1: expected the names of the columns, each once")
            for row in rows:
                if row and len(row) != len(names):
                    wanted = f"expected {len(names)}, as line 1 has"
                    raise TsrError(f"{path}: line {rows.line_num}: {len(row)} columns; {wanted}")
                if row:
                    yield dict(zip(names, row, strict=True))
                else:
                    dirt.add("blank_lines", path.name)
        except csv.Error as error:
            raise TsrError(f"{path}: line {rows.line_num}: not valid CSV, or cut off: {error}") from error
