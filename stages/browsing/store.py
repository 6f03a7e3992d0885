"""What the browser asks of the tables, and its filters.

Nothing is loaded: views read the Parquet files when they are asked, and what comes back is a page, a sum or one pair.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from stages import paths, plan
from stages.errors import TsrError
from stages.reporting.lineage import future_of, homes, steps
from stages.sqlrun import SQL, complaint
from stages.views import open_views

Row = dict[str, Any]
EXPLORE = SQL / "explore"
SORTS = ("any", "widest gap", "narrowest gap", "chosen longer", "chosen shorter")
LETTERS = 160  # of a text in the list of pairs
SOME_GAPS = 21  # different gaps; where there are fewer, each has a bar of its own
SAMPLE = 20_000  # pairs whose lengths are drawn
_WANTED = "create or replace temp table wanted (filter varchar, value varchar)"
_FOUND = "create or replace temp table found (model varchar, prompt_id varchar)"
_PLANNED = "create temp table planned (model varchar, arm varchar, round bigint, split varchar, place bigint)"
_MADE = "select * from generations where generation_id in ($chosen_id, $rejected_id)"
_SCORES = "select * from scores where generation_id in ($chosen_id, $rejected_id) order by judge"
_VOTES = """
    select * from judgments where generation_id in ($chosen_id, $rejected_id) order by judge, way, vote_id
"""


@dataclass(frozen=True)
class Filters:
    """What to show; an empty tuple, None or no words let all pass. See sql/explore/shown.sql."""

    arm: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    strategy: tuple[str, ...] = ()
    chosen_from: tuple[str, ...] = ()
    rejected_from: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()
    gap: tuple[float, float] | None = None
    words: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """Return (filter, value) rows.

        >>> Filters(arm=("sr", "tsr"), gap=(1.0, 2.5)).rows()
        [('arm', 'sr'), ('arm', 'tsr'), ('gap_low', '1.0'), ('gap_high', '2.5')]
        """
        named = ("arm", "split", "model", "strategy", "chosen_from", "rejected_from", "reason")
        found = [(name, value) for name in named for value in getattr(self, name)]
        if self.gap:
            found += [("gap_low", repr(self.gap[0])), ("gap_high", repr(self.gap[1]))]
        return found + ([("words", self.words)] if self.words else [])


@dataclass(frozen=True)
class Choices:
    """What the filters offer: the values that are there."""

    learners: list[Row]  # rows of sql/explore/learners.sql
    strategies: list[str]
    chosen_from: list[str]
    rejected_from: list[str]
    reasons: list[str]
    gaps: tuple[float, float] | None  # least and greatest, rounded to a millionth; None without pairs
    some_gaps: list[float]  # the least different ones, rounded, at most SOME_GAPS
    arms: list[str]

    @property
    def homes(self) -> list[Row]:
        """Return one row of `learners` a model version that learns."""
        return [row for row in self.learners if row["place"] == 1]


def open_store() -> duckdb.DuckDBPyConnection:
    """Return the views of `views.open_views` with `shown`, the pairs that pass the filters, and `shown_dropped`.

    Raises TsrError as it does, and where there are no pairs yet.
    """
    db, root = open_views(), paths.data()
    if not any(next((root / table).glob("*.parquet"), None) for table in ("pairs", "dropped")):
        raise TsrError(f"{root}/pairs: no pairs yet; `dvc repro` makes them, or `tsr pair`")
    # Only the plan's own tables have its rounds.
    planned = plan.read() if root == Path("data") and plan.PLAN_FILE.is_file() else {}
    _fill(db, "planned", _PLANNED, _planned(planned))
    pick(db, Filters())
    try:
        run(db, "learners").to_table("learners")
    except duckdb.Error as error:
        raise TsrError(f"{root}: {complaint(error)}") from error
    for name in ("shown", "shown_dropped"):
        run(db, name).to_view(name)
    return db


def _planned(planned: Row) -> list[tuple[Any, ...]]:
    """Return (model, arm, round, split, place): each round after the future model that serves it, homes first."""
    found = []
    for s in steps(planned) if planned else []:
        found += [(model, s.arm, s.round, s.row["split"]) for model in (future_of(s.row), s.model) if model]
    home = homes(planned) if planned else {}
    ordered = sorted(found, key=lambda row: home[row[0]] != (row[1], row[2]))
    return [(*row, place) for place, row in enumerate(ordered)]


def _fill(db: duckdb.DuckDBPyConnection, table: str, made: str, rows: list[tuple[Any, ...]]) -> None:
    """Make a small table and put rows into it, as bound values."""
    db.execute(made)
    for row in rows:
        db.table(table).insert(row)


def run(db: duckdb.DuckDBPyConnection, name: str, **values: Any) -> duckdb.DuckDBPyRelation:
    """Return the query of `sql/explore/<name>.sql`, not yet run, with bound values."""
    text = (EXPLORE / f"{name}.sql").read_text()
    return db.sql(text, params=values) if values else db.sql(text)


def pick(db: duckdb.DuckDBPyConnection, filters: Filters) -> duckdb.DuckDBPyConnection:
    """Set the filters and return the connection: `shown` and `shown_dropped` follow them from now on."""
    _fill(db, "wanted", _WANTED, list(filters.rows()))
    db.execute(_FOUND)
    if filters.words:  # one pass over all texts, so that no later query needs one
        run(db, "found", words=filters.words).insert_into("found")
    return db


def choices(db: duckdb.DuckDBPyConnection) -> Choices:
    """Return what the filters can offer. The filters must be those of a new store: none."""
    learners = rows(run(db, "learners"))
    least, most = db.sql("select round(min(gap), 6), round(max(gap), 6) from pairs").fetchall()[0]
    gaps = db.sql("select distinct round(gap, 6) from pairs order by 1 limit $some", params={"some": SOME_GAPS})
    return Choices(
        learners=learners,
        strategies=_values(db, "select strategy from pairs union select strategy from dropped order by 1"),
        chosen_from=_values(db, "select distinct chosen_from from shown order by 1"),
        rejected_from=_values(db, "select distinct rejected_from from shown order by 1"),
        reasons=_values(db, "select distinct reason from dropped order by 1"),
        gaps=None if least is None else (least, most),
        some_gaps=[gap for (gap,) in gaps.fetchall()],
        arms=list(dict.fromkeys(row["arm"] for row in learners)),
    )


def _values(db: duckdb.DuckDBPyConnection, text: str) -> list[str]:
    return [value for (value,) in db.sql(text).fetchall()]


def rows(found: duckdb.DuckDBPyRelation) -> list[Row]:
    """Return a small result as rows."""
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def story(db: duckdb.DuckDBPyConnection, pair_id: str, prompt_id: str) -> Row:
    """Return a pair (sql/explore/pair.sql) with `made`, `scores` and `votes`: generation_id -> row or rows.

    Raises TsrError where there is no such pair.
    """
    found = rows(run(db, "pair", pair_id=pair_id, prompt_id=prompt_id))
    if not found:
        raise TsrError(f"pair {pair_id}: there is none of prompt {prompt_id}")
    pair = found[0]
    ids = {name: pair[name] for name in ("chosen_id", "rejected_id")}
    told = {name: rows(db.sql(text, params=ids)) for name, text in (("scores", _SCORES), ("votes", _VOTES))}
    pair["made"] = {row["generation_id"]: row for row in rows(db.sql(_MADE, params=ids))}
    for name, listed in told.items():
        pair[name] = {gid: [row for row in listed if row["generation_id"] == gid] for gid in ids.values()}
    return pair
