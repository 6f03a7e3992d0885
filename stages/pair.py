"""Stage pair: candidates to preference pairs. SQL decides; this file moves the tables.

Each prompt of the split ends in `pairs` or in `dropped` with a reason, never in both or neither.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from stages import bounds, paths, tables
from stages.candidates import Sides, view_candidates
from stages.drops import funnel
from stages.errors import TsrError
from stages.params import Pair
from stages.paths import ROLES
from stages.slices import Slice, in_order
from stages.sqlrun import (
    SQL,
    connect,
    keep_query,
    one_thread,
    out_of_core,
    parquet,
    read_text,
    run_query,
    scratch,
    view_query,
)
from stages.strategies import found, name_of

if TYPE_CHECKING:
    import pyarrow as pa

SIDES, TEXTS = SQL / "views" / "sides.sql", SQL / "texts.sql"
TEXTS_AT_ONCE = 30_000
PROMPTS = 20_000  # whose pairs are made at a time: with texts of 1,000 characters some 50 MB
PARTS = 200  # at most, with more prompts each then: every part has an open file for a while


def run(settings: Pair, name: str, strategy: str, sides: Sides) -> None:
    """Write `data/pairs/<name>.parquet` and `data/dropped/<name>.parquet`, out of core."""
    asked = paths.prompts(sides.split)
    tables.check_file("prompts", asked)
    if not sides.second and re.search(r"\bsecond_score\b", re.sub("--.*", "", read_text(found(strategy)))):
        raise TsrError(f"{found(strategy)}: reads second_score; expected --second JUDGE (second_judge in params.yaml)")
    if others := sides.left_out():
        print(f"pair {name}: left out, for {sides.judge} did not score them: {', '.join(others)}", file=sys.stderr)
    with scratch(paths.pairs(name)) as folder, out_of_core(paths.pairs(name)) as db:
        shut_in(db, [asked, *sides.files()])
        parquet(db, [asked]).create_view("prompts")
        for role in ROLES:  # one at a time, which takes a third of the memory
            view_candidates(db, sides, [role])
            keep_query(db, "sides", SIDES, {}, more=role != ROLES[0])
        view_candidates(db, sides)
        values = choose(db, settings, name, strategy)
        parts = _parts(asked)
        texts = dict(zip(parts, _lay_out(db, parts, folder), strict=True))

        def work(part: Slice) -> pl.DataFrame:
            with db.cursor() as own:  # a connection serves one thread
                own.register("texts", _mapped(texts[part]))
                return _verdicts(own, values, part)

        verdicts = in_order(work, parts)
        lost: list[pl.DataFrame] = []
        tables.write_parts("pairs", _kept(verdicts, lost), paths.pairs(name))
    dropped = pl.concat(lost)
    tables.write("dropped", dropped, paths.dropped(name))
    count = tables.height(paths.pairs(name))
    print(f"pair {name}: {count} pairs of {count + dropped.height} prompts{funnel(dropped)}")


def make_pairs(
    settings: Pair, name: str, strategy: str, prompts: pl.DataFrame, candidates: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (`pairs`, `dropped`) for model version `name`, by a strategy.

    `strategy` is a name in `stages/sql/strategies/` or a path that ends in .sql. Raises TsrError for candidates of
    unknown prompts, and for a choice that is none: see `sql/wrong_choice.sql`.
    """
    with connect() as db:
        shut_in(db, [])
        db.register("prompts", prompts.select("prompt_id", "messages").to_arrow())
        db.register("candidates", candidates.to_arrow())
        keep_query(db, "sides", SIDES, {})
        values = choose(db, settings, name, strategy)
        db.register("generations", candidates.unique("generation_id").select("generation_id", "response").to_arrow())
        _place(db, [Slice()])
        keep_query(db, "texts", TEXTS, {})
        return _split(_verdicts(db, values, Slice()))


def shut_in(db: duckdb.DuckDBPyConnection, files: list[Path]) -> None:
    """Let a connection read these files and nothing else, for good: a strategy may be somebody else's."""
    db.execute("set variable allowed = $files", {"files": [str(path) for path in files]})
    db.execute("set allowed_paths = getvariable('allowed')")
    db.execute("set enable_external_access = false")
    db.execute("set python_enable_replacements = false")


def choose(db: duckdb.DuckDBPyConnection, settings: Pair, name: str, strategy: str) -> dict[str, Any]:
    """Let a strategy choose among the connection's `candidates` for its `prompts`; return the values for the verdicts.

    Reads `sides` too; makes the tables `chosen_rejected` and `chosen`. Raises TsrError as `make_pairs` does.
    """
    path, called = found(strategy), name_of(strategy)
    head = json.dumps(["pair", name, called], separators=(",", ":"))[:-1]
    told = {"model": name, "strategy": called, "min_gap": settings.min_gap, "n_roles": len(ROLES), "pair_list": head}
    _check_prompts(db, name)
    with one_thread(db):  # what a strategy sums has one order
        keep_query(db, "chosen_rejected", path, settings.parameters | told)
    _check_columns(db, str(path))
    keep_query(db, "chosen", SQL / "chosen.sql", {})
    _check_choice(db, str(path))
    return told


def _check_prompts(db: duckdb.DuckDBPyConnection, name: str) -> None:
    orphan, count = run_query(db, SQL / "orphans.sql", {}).row(0)
    if count:
        raise TsrError(f"candidates for {name}: prompt {orphan} is not in the split; {count} are like that")


def _check_columns(db: duckdb.DuckDBPyConnection, where: str) -> None:
    """Raise TsrError unless `chosen_rejected` has the columns that a strategy gives."""
    wanted, given = ["prompt_id", "chosen_id", "rejected_id"], db.table("chosen_rejected").columns
    if given != wanted:
        raise TsrError(f"{where}: gave columns {', '.join(given)}; expected {', '.join(wanted)}")
    for column in wanted:  # a column of nulls has no type of its own
        db.execute(f"alter table chosen_rejected alter {column} type varchar")


def _check_choice(db: duckdb.DuckDBPyConnection, where: str) -> None:
    """Raise TsrError unless a strategy gave one row a prompt, and in it usable candidates of that prompt or null."""
    faults = run_query(db, SQL / "wrong_choice.sql", {})
    if not faults.height:
        return
    _, fault, prompt, chosen, _ = faults.row(0)
    told = {
        "twice": f"gave more than one row for prompt {prompt}; expected one row per prompt",
        "missing": f"gave no row for prompt {prompt}; expected one row per prompt",
        "foreign": f"gave a row for {prompt}, which is no prompt of the split",
        "itself": f"prompt {prompt} has {chosen} as chosen and as rejected; expected two responses, or null",
    }
    raise TsrError(
        f"{where}: {told.get(fault) or f'{fault} {chosen} is no finished and scored response to prompt {prompt}'}"
    )


def _parts(asked: Path) -> list[Slice]:
    """Return parts of the prompts, in order; the row groups of the file are larger."""
    bounds.check_parquet(asked, ["prompt_id"])  # all that is read whole here
    read = pl.read_parquet(asked, columns=["prompt_id"], hive_partitioning=False, glob=False)
    bounds.check_texts(read, asked)
    ids = read["prompt_id"].sort()
    lows = ids.gather_every(max(PROMPTS, ceil(len(ids) / PARTS)))
    return [Slice(low, high) for low, high in pairwise(["", *lows[1:], None])]


def _place(db: duckdb.DuckDBPyConnection, parts: list[Slice]) -> None:
    """Make the table `parts` that texts.sql reads."""
    db.register("parts", pl.DataFrame({"part": range(len(parts)), "low": [part.low for part in parts]}).to_arrow())


def _lay_out(db: duckdb.DuckDBPyConnection, parts: list[Slice], folder: Path) -> list[Path]:
    """Write the chosen responses to an Arrow file a part; return the files, in the order of `parts`.

    Responses lie in the order of their ids and are wanted in the order of their prompts: sorting what does not fit into
    memory takes many times what this takes.
    """
    import pyarrow as pa

    _place(db, parts)
    view_query(db, "texts", TEXTS, {})
    files = [folder / f"{part}.arrow" for part in range(len(parts))]
    columns = pa.schema({"generation_id": pa.large_string(), "response": pa.large_string()})
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_file(file, columns)) for file in files]
        for batch in db.view("texts").to_arrow_reader(TEXTS_AT_ONCE):
            for (part,), rows in pl.DataFrame(batch).partition_by("part", as_dict=True, include_key=False).items():
                writers[part].write_table(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    return files


def _mapped(file: Path) -> "pa.Table":
    """Return an Arrow file's rows, read from the disk when they are asked."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def _verdicts(db: duckdb.DuckDBPyConnection, values: dict[str, Any], part: Slice) -> pl.DataFrame:
    """Return the verdict on each prompt of a part."""
    return run_query(db, SQL / "pairs.sql", values | {"low": part.low, "high": part.high})


def _split(verdicts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows without a reason as `pairs`, the others as `dropped`."""
    kept = pl.col("reason").is_null()
    return verdicts.filter(kept).select(list(tables.schema("pairs"))), verdicts.filter(~kept).select(
        list(tables.schema("dropped"))
    )


def _kept(verdicts: Iterator[pl.DataFrame], dropped: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the pairs among verdicts; the others are added to `dropped`."""
    for part in verdicts:
        pairs, others = _split(part)
        dropped.append(tables.frame("dropped", others.to_dicts()))  # a copy: columns of DuckDB's keep all that it gave
        yield pairs
