"""Records to columns of text: the cells that a mapping names, one row for each element of the lists it opens.

A path is `a.b.0.c`: keys of objects, places in lists (-1 is the last). `rows: a[].b[]` makes one row of each
element; a path that begins alike, `a[].x`, looks into the elements of that row, and `a[].b[]#` is its place.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from stages.errors import TsrError
from stages.importing.dirt import Dirt
from stages.importing.mapping import ONLY_PART, Cell, Part
from stages.importing.sources import Record, column_names, records
from stages.progress import Advance

MISSING: Any = object()  # a key that is not there, which is not the same as null
PIECE = 50_000  # rows that are Python objects at a time
_HALF_PAIRS = re.compile("[\ud800-\udfff]")


Kind = Literal["text", "number", "any"]


@dataclass(frozen=True)
class Wanted:
    """A cell, and whether text, a number or anything is expected in it."""

    cell: Cell
    kind: Kind


@dataclass(frozen=True)
class _Row:
    """A record and the elements of its opened lists, outermost first, with their places."""

    record: Record
    elements: tuple[tuple[Any, int | None], ...]


def pick(
    name: str, part: Part, files: list[Path], wanted: dict[str, Wanted], dirt: Dirt, advance: Advance
) -> pl.DataFrame:
    """Return a frame with one text column for each of `wanted`, of all files of a part.

    Columns that are the same cell are read, and their dirt counted, once. Raises TsrError for a column that no row
    of the part has.
    """
    once: dict[str, str] = {}
    same = {column: once.setdefault(one.cell.model_dump_json(), column) for column, one in wanted.items()}
    read = _pick(name, part, files, {column: wanted[column] for column in once.values()}, dirt, advance)
    return read.select(pl.col(first).alias(column) for column, first in same.items())


def _pick(
    name: str, part: Part, files: list[Path], wanted: dict[str, Wanted], dirt: Dirt, advance: Advance
) -> pl.DataFrame:
    finders = {column: _finder(one.cell, part, f"{name}: {column}") for column, one in wanted.items()}
    seen: dict[str, int] = dict.fromkeys(wanted, 0)
    columns: dict[str, list[str | None]] = {column: [] for column in wanted}
    pieces: list[pl.DataFrame] = []
    known: set[str] = set()
    count = 0

    def flush() -> None:
        pieces.append(pl.DataFrame(columns, schema=dict.fromkeys(wanted, pl.String)))
        for values in columns.values():
            values.clear()

    for path in files:
        from_csv = path.suffix == ".csv"
        for row in _taken(name, part, path, {_top(p) for p in _paths(part, wanted)}, known, dirt):
            count += 1
            for column, find in finders.items():
                cell = path.stem if wanted[column].cell.file else find(row)
                seen[column] += cell is not MISSING
                columns[column].append(_cell(cell, wanted[column], column, from_csv, dirt))
            if count % PIECE == 0:
                flush()
        advance()
    flush()
    if not count:
        left = dirt.counts["left_out_by_where", name]
        told = f"; `where` left out {left}" if left else ""
        raise TsrError(f"{', '.join(map(str, files))}: no rows{_in(name)}; expected at least one{told}")
    for column, times in seen.items():
        if not times and not wanted[column].cell.optional:
            which = " or ".join(repr(p) for p in wanted[column].cell.paths())
            raise TsrError(f"{column}: no column {which}{_in(name)}; the rows have: {', '.join(sorted(known))}")
    return _read_on(pl.concat(pieces), wanted, dirt)


def _in(name: str) -> str:
    """Return a part for a message, unless its name is one that no mapping says."""
    return "" if name == ONLY_PART else f" in part {name}"


def _taken(name: str, part: Part, path: Path, tops: set[str], known: set[str], dirt: Dirt) -> Iterator[_Row]:
    """Yield the rows of a file that `where` does not leave out; adds the columns of its first record to `known`."""
    asked = [(_path_finder(where.column, part, f"{name}: where"), set(where.one_of)) for where in part.where]
    for number, record in enumerate(records(path, tops, dirt)):
        if not number:
            known.update(column_names(path, record))
        for row in _rows(record, part.rows):
            if all(_as_text(find(row)) in values for find, values in asked):
                yield row
            else:
                dirt.add("left_out_by_where", name)


def _paths(part: Part, wanted: dict[str, Wanted]) -> Iterator[str]:
    yield part.rows
    yield from (where.column for where in part.where)
    for one in wanted.values():
        yield from one.cell.paths()


def _top(path: str) -> str:
    return re.split(r"[.\[#]", path)[0]


def _rows(record: Record, rows: str) -> Iterator[_Row]:
    """Yield a row for each element of the lists that `rows` opens; no list, or an empty one, gives one of null."""

    def opened(value: Any, lists: list[list[str]], so_far: tuple[tuple[Any, int | None], ...]) -> Iterator[_Row]:
        if not lists:
            yield _Row(record, so_far)
            return
        inside = _walk(value, lists[0])
        if not isinstance(inside, list) or not inside:
            yield from opened(None, lists[1:], (*so_far, (None, None)))
            return
        for place, element in enumerate(inside):
            yield from opened(element, lists[1:], (*so_far, (element, place)))

    yield from opened(record, [_keys(step) for step in rows.split("[]")[:-1]], ())


def _keys(path: str) -> list[str]:
    return [key for key in path.split(".") if key]


def _walk(value: Any, keys: list[str]) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, MISSING)
        elif isinstance(value, list) and re.fullmatch(r"-?\d+", key) and -len(value) <= int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value


def _finder(cell: Cell, part: Part, where: str) -> Callable[[_Row], Any]:
    if cell.value is not None or cell.file:
        return lambda _row: cell.value
    finders = [_path_finder(path, part, where) for path in cell.paths()]
    if len(finders) == 1:
        return finders[0]

    def first(row: _Row) -> Any:
        found = [value for find in finders if (value := find(row)) is not MISSING]
        return next((value for value in found if value is not None), found[0] if found else MISSING)

    return first


def _path_finder(path: str, part: Part, where: str) -> Callable[[_Row], Any]:
    """Return what finds a path in a row."""
    place = path.endswith("#")
    *lists, rest = path.removesuffix("#").split("[]")
    depth = len(lists)
    if depth and part.rows.split("[]")[:depth] != lists:
        raise TsrError(f"{where}: {path!r} opens lists that the rows of the part, {part.rows!r}, do not")
    if place and (rest or not depth):
        raise TsrError(f"{where}: {path!r}: expected [] before #, which is the place in a list")
    keys = _keys(rest)
    if place:
        return lambda row: row.elements[depth - 1][1]
    if depth:
        return lambda row: _walk(row.elements[depth - 1][0], keys)
    if len(keys) == 1:
        return lambda row: row.record.get(path, MISSING)
    return lambda row: row.record[path] if path in row.record else _walk(row.record, keys)


def _cell(value: Any, wanted: Wanted, column: str, from_csv: bool, dirt: Dirt) -> str | None:  # noqa: FBT001
    """Return a cell as text without NUL and half pairs, and count what was wrong with it."""
    if value is MISSING or value is None:
        return None
    if isinstance(value, str):
        if wanted.kind == "number" and not from_csv and _is_number(value):
            dirt.add("score_as_text", column)
    elif wanted.kind == "text" and wanted.cell.inside is None:
        dirt.add("not_text", column)
    if wanted.cell.inside is not None:
        value = _inside(value, wanted.cell, column, dirt)
    text = _as_text(value)
    if text is not None and not isinstance(value, str) and "\\u0000" in text:
        value, before = _without_nul(value), text
        text = _as_text(value)
        dirt.add("nul", column, int(text != before))
    return None if text is None else _mended(text, column, dirt)


def _as_text(value: Any) -> str | None:
    if value is None or value is MISSING or isinstance(value, str):
        return None if value is MISSING else value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _without_nul(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nul(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_without_nul(inside) for inside in value]
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _inside(value: Any, cell: Cell, column: str, dirt: Dirt) -> Any:
    """Return what stands at the path `inside` in a cell that is JSON."""
    assert cell.inside is not None
    try:
        found = _walk(json.loads(value) if isinstance(value, str) else value, _keys(cell.inside))
    except (ValueError, RecursionError):
        found = MISSING
    if found is MISSING:
        kept = cell.otherwise == "text"
        dirt.add("not_inside_kept" if kept else "not_inside", column)
        return value if kept else None
    return found


def _mended(text: str, column: str, dirt: Dirt) -> str:
    """Return the text without NUL, and without halves of surrogate pairs, which no UTF-8 can hold."""
    if "\0" in text:
        dirt.add("nul", column)
        text = text.replace("\0", "\ufffd")
    if not text.isascii() and _HALF_PAIRS.search(text):
        dirt.add("surrogates", column)
        text = _HALF_PAIRS.sub("\ufffd", text)
    return text


def _read_on(frame: pl.DataFrame, wanted: dict[str, Wanted], dirt: Dirt) -> pl.DataFrame:
    """Apply `extract` and `values` to whole columns."""
    for column, one in wanted.items():
        if one.cell.extract is not None:
            found = _extracted(frame, column, one.cell.extract)
            dirt.add("pattern_missed", column, found[column].null_count() - frame[column].null_count())
            frame = found
        if one.cell.values:
            frame = frame.with_columns(pl.col(column).replace(one.cell.values))
    return frame


def _extracted(frame: pl.DataFrame, column: str, pattern: str) -> pl.DataFrame:
    try:
        return frame.with_columns(pl.col(column).str.extract(pattern, 1))
    except pl.exceptions.PolarsError as error:
        raise TsrError(f"{column}: extract: {pattern!r}: {' '.join(str(error).split())[:200]}") from error
