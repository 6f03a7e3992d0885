"""Parquet tables under contract: every write is validated, every read checks the columns.

A contract is a YAML file in `stages/contracts/`: grain, key, and per column its type and limits.
Tables are written sorted by their key, with pinned writer settings, beside the target and then
renamed: equal content has an equal hash, and a crash leaves no half file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import yaml
from polars.io.plugins import register_io_source

from stages import bounds
from stages.errors import TsrError
from stages.files import replacing

_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_DIGITS = pl.List(pl.Struct({"score": pl.Float64, "logprob": pl.Float64}))
TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "string": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "messages": _MESSAGES,
    "digits": _DIGITS,
}
_PAGE = 8 << 20  # bytes of a column compressed as one: texts take a sixth less than in polars' pages of 1 MiB
_CONTRACTS = Path(__file__).parent / "contracts"
_LIMITS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "min": lambda c, v: c < v,
    "max": lambda c, v: c > v,
    "above": lambda c, v: c <= v,
    "one_of": lambda c, v: ~c.is_in(v),
}


@cache
def contract(table: str) -> dict[str, Any]:
    """Return the contract of a table: grain, key, columns."""
    path = _CONTRACTS / f"{table}.yml"
    if not path.exists():
        raise TsrError(
            f"no contract {path.name}; there are: {', '.join(sorted(p.stem for p in _CONTRACTS.glob('*.yml')))}"
        )
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def schema(table: str) -> dict[str, Any]:
    """Return column name -> polars type, in the contract's order."""
    return {name: TYPES[spec["type"]] for name, spec in contract(table)["columns"].items()}


def frame(table: str, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Return rows as a frame with the contract's columns and types (not yet validated)."""
    return pl.DataFrame(list(rows), schema=schema(table), orient="row")


def write(table: str, data: pl.DataFrame, path: Path) -> None:
    """Validate `data` against the contract, sort it by the key and write it atomically.

    Raises TsrError naming file, column, row key and reason; nothing is written then.
    """
    write_parts(table, [data], path)


def write_parts(table: str, parts: Iterable[pl.DataFrame], path: Path) -> None:
    """Write a table that is larger than memory: `parts` follow each other by key. The bytes are those of `write`.

    A part is validated and sorted when its turn comes; raises TsrError as `write` does, also where a part's keys do
    not all lie above those of the part before.
    """
    failed: list[BaseException] = []

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from _checked(table, parts, path)
        except BaseException as error:  # polars, left in the middle, may create the file after it was removed
            failed.append(error)

    with replacing(path) as beside:
        try:
            register_io_source(source, schema=schema(table)).sink_parquet(
                beside,
                compression="zstd",
                compression_level=3,
                statistics=True,
                row_group_size=100_000,
                data_page_size=_PAGE,
            )
        except pl.exceptions.PolarsError as error:  # polars wraps what the system says of a full disk
            raise TsrError(f"{path}: cannot be written: {str(error).splitlines()[0]}") from error
        if failed:
            raise failed[0]


def _checked(table: str, parts: Iterable[pl.DataFrame], path: Path) -> Iterator[pl.DataFrame]:
    key, last = contract(table)["key"], None
    for part in parts:
        ordered = _sorted(validate(table, part, path), key)
        if ordered.height and last is not None and ordered.select(key).row(0) <= last:
            raise TsrError(f"{path}: {_key(ordered, key)} comes after {last}; expected parts in key order")
        last = ordered.select(key).row(-1) if ordered.height else last
        yield ordered


def check_file(table: str, path: Path) -> None:
    """Check that a file has the columns of a table, without reading its rows. Raises TsrError as `read` does."""
    _check_columns(table, _loaded(table, path, 0), path)


def head(table: str, path: Path, columns: list[str], rows: int = 1) -> pl.DataFrame:
    """Return the first rows of some columns, as many as there are. Raises TsrError for a file that cannot be read."""
    return _loaded(table, path, rows, columns)


def height(path: Path) -> int:
    """Return how many rows a table has, by what its file says of itself."""
    rows: int = pl.scan_parquet(path, hive_partitioning=False, glob=False).select(pl.len()).collect().item()
    return rows


def read(table: str, path: Path) -> pl.DataFrame:
    """Read and validate a table. Raises TsrError for a missing, broken or foreign file."""
    return validate(table, _loaded(table, path), path)


def _loaded(table: str, path: Path, rows: int | None = None, columns: list[str] | None = None) -> pl.DataFrame:
    """Return a file's first `rows` rows, or all, of some columns, or all, unchecked."""
    if not path.is_file():
        raise TsrError(f"{path}: no such file; expected a table of {table}")
    if rows != 0:
        bounds.check_parquet(path, columns, rows)
    try:
        loaded = pl.read_parquet(path, columns=columns, n_rows=rows, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TsrError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    bounds.check_texts(loaded, path)
    return loaded


def validate(table: str, data: pl.DataFrame, where: Path | str) -> pl.DataFrame:
    """Return `data` with the contract's columns in order, or raise TsrError with the first offence."""
    _check_columns(table, data, where)
    ordered = data.select(list(schema(table)))
    rules = contract(table)
    for key in [rules["key"], *rules.get("unique", [])]:
        _check_unique(table, ordered, key, where)
    offences = list(_offences(rules["columns"]))
    found = ordered.select(offence.any().alias(str(place)) for place, (offence, _, _) in enumerate(offences))
    for (offence, name, reason), here in zip(offences, found.row(0) if offences else (), strict=True):
        if here:
            _refuse(table, ordered, offence, name, reason, where)
    return ordered


def _offences(columns: dict[str, dict[str, Any]]) -> Iterator[tuple[pl.Expr, str, str]]:
    """Yield what no row may be, with the column and the words for it."""
    for name, spec in columns.items():
        if not spec.get("nullable"):
            yield pl.col(name).is_null(), name, "is null"
        if spec["type"] == "messages":
            yield _has_null_message(name), name, "has a message without role or content"
        if spec["type"] == "float":
            yield ~pl.col(name).is_finite(), name, "is not a finite number"
        for limit, breaks in _LIMITS.items():
            if limit in spec:
                yield breaks(pl.col(name), spec[limit]), name, f"is not within {limit} {spec[limit]}"


def _has_null_message(column: str) -> pl.Expr:
    parts = pl.element().struct
    broken = parts.field("role").is_null() | parts.field("content").is_null()
    return pl.col(column).list.eval(broken).list.any()


def _check_columns(table: str, data: pl.DataFrame, where: Path | str) -> None:
    for name, wanted in schema(table).items():
        if name not in data.columns:
            raise TsrError(f"{where}: column {name!r} is missing; {table} has: {', '.join(schema(table))}")
        if data.schema[name] != wanted:
            raise TsrError(f"{where}: column {name!r} has type {data.schema[name]}; expected {wanted}")
    if extra := [c for c in data.columns if c not in schema(table)]:
        raise TsrError(f"{where}: column {extra[0]!r} is not part of {table}: {', '.join(schema(table))}")


def _check_unique(table: str, data: pl.DataFrame, key: list[str], where: Path | str) -> None:
    if _rises(data, key):
        return
    twice = data.filter(pl.struct(key).is_duplicated())
    if twice.height:
        share = f"{twice.height} rows share their {'+'.join(key)}, first {_key(twice, key)}"
        raise TsrError(f"{where}: {share}; expected {contract(table)['grain']}")


def _sorted(data: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return data if _rises(data, key) else data.sort(key)


def _rises(data: pl.DataFrame, key: list[str]) -> bool:
    """Return whether each row's key lies above that of the row before; to look is cheaper than to sort or to count."""
    rises = pl.lit(value=False)
    for column in map(pl.col, reversed(key)):
        before = column.shift()
        rises = (column > before) | ((column == before) & rises)
    first = pl.col(key[0])  # mostly it decides alone
    alone = data.select((first > first.shift()).slice(1).all(ignore_nulls=False)).item()
    return bool(alone or data.select(rises.slice(1).all(ignore_nulls=False)).item())


def _refuse(table: str, data: pl.DataFrame, offence: pl.Expr, column: str, reason: str, where: Path | str) -> NoReturn:
    bad = data.filter(offence)
    value = str(bad[column][0])[:60]
    first = _key(bad, contract(table)["key"])
    raise TsrError(f"{where}: column {column!r} {reason} in {bad.height} rows, first {first}: {value}")


def _key(data: pl.DataFrame, key: list[str]) -> str:
    return ", ".join(f"{name}={data[name][0]}" for name in key)
