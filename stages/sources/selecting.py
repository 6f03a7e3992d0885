"""From the rows of chat data to splits: read, clean, choose, write. The rules stand in `stages/sql/sources`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from duckdb.func import FunctionNullHandling

from stages import bounds, paths, tables
from stages.errors import TsrError
from stages.ids import content_id, prompt_id, seed_for
from stages.metrics import write_json
from stages.models import load_tokenizer
from stages.progress import progress
from stages.sources.chat_data import Settings
from stages.sources.loading import Wanted, load
from stages.sources.shortening import Messages, shortened
from stages.sqlrun import SQL, complaint, keep_query, one_thread, out_of_core

Row = dict[str, Any]
QUERIES = SQL / "sources"
_MESSAGES = "struct(role varchar, content varchar)[]"
_OASST = {
    **dict.fromkeys(("message_id", "parent_id", "message_tree_id", "role", "text", "lang"), "varchar"),
    **dict.fromkeys(("review_result", "deleted"), "boolean"),
    "rank": "integer",
}
OASST = Wanted(_OASST, needed=tuple((name,) for name in _OASST))
ULTRAFEEDBACK = Wanted(
    {"instruction": "varchar", "source": "varchar", "completions": "json"}, needed=(("instruction",), ("completions",))
)
FILES = Wanted(
    {"prompt": "varchar", "messages": "json", "system": "varchar", "reference": "varchar", "responses": "json"},
    needed=(("prompt", "messages"),),
)
# How a step's rows are counted: source, what became of them, whether they stay, how many.
VERDICTS = "select source, coalesce(reason, 'kept'), reason is null, count(*) from verdicts group by all"
RATINGS = """
    select
        source,
        case when rating is not null then 'kept' when is_unread then 'unreadable' else 'no_rating' end,
        rating is not null,
        count(*)
    from answers
    group by all
"""
LENGTHS = """
    select
        source,
        case when cut.messages is null then 'too_long' when cut.messages = whole.messages then 'kept' else 'cut' end,
        cut.messages is not null,
        count(*)
    from whole join cut using (source, key)
    group by all
"""
PLACES = "select source, coalesce(split, reason), split is not null, count(*) from places group by all"


def prepare(seed: int, settings: Settings) -> None:
    """Write what `chat_data.run` says."""
    with _workbench() as db:
        chosen = _Chosen(db, settings, f"{seed_for(seed, 'chat_data'):x}")
        chosen.choose()
        chosen.check_sizes()
        chosen.check_texts()
        chosen.write()


@contextmanager
def _workbench() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection of bounded memory that knows `prompt_id(messages)`; each core more would want its share."""
    with out_of_core(paths.data() / "prompts") as db, one_thread(db):
        db.create_function("prompt_id", prompt_id, [duckdb.sqltype(_MESSAGES)], duckdb.sqltype("varchar"))
        yield db


@dataclass
class _Chosen:
    """Prompts on their way to splits, as tables of the connection; `draw` is what random order hangs on."""

    db: duckdb.DuckDBPyConnection
    settings: Settings
    draw: str
    funnel: list[Row] = field(default_factory=list)

    def choose(self) -> None:
        """Make the tables `asked`, `answers`, `pool` and `places`, and the funnel."""
        readers: dict[str, Callable[[list[str]], None]] = {
            "oasst": self._read_oasst,
            "ultrafeedback": self._read_ultrafeedback,
            "files": self._read_files,
        }
        self.db.execute(
            "create temp table found (source varchar, key varchar, "
            f"messages {_MESSAGES}, replies struct(model varchar, response varchar, rating varchar)[], "
            "reference varchar, origin varchar)"
        )
        with progress("prepare", len(self.settings.given) + 1, "steps") as advance:
            for source, given in self.settings.given.items():
                readers[source](given)
                advance()
            self._merge()
            advance()

    def _read_oasst(self, given: list[str]) -> None:
        load(self.db, "messages", given, OASST)
        self._keep("verdicts", QUERIES / "oasst_messages.sql", language=self.settings.language)
        self._count("messages")
        self.db.execute("create or replace temp table usable as from verdicts where reason is null")
        self._keep("verdicts", QUERIES / "oasst_prompts.sql", turns=self.settings.turns, draw=self.draw)
        self._found("oasst", given)

    def _read_ultrafeedback(self, given: list[str]) -> None:
        load(self.db, "rows", given, ULTRAFEEDBACK)
        self._keep("verdicts", QUERIES / "ultrafeedback.sql", rating=self.settings.rating)
        self._refuse_empty(given)
        self._found("ultrafeedback", given)

    def _read_files(self, given: list[str]) -> None:
        load(self.db, "rows", given, FILES)
        self._keep("verdicts", QUERIES / "files.sql")
        self._found("files", given)

    def _refuse_empty(self, given: list[str]) -> None:
        """Raise TsrError if no response of any row has a text, or none has a rating."""
        held = self.db.sql(
            "select count(one.response), count(one.rating) from (select unnest(replies) as one from verdicts)"
        ).fetchall()
        for count, name in zip(held[0], ("response", self.settings.rating), strict=True):
            if not count:
                raise TsrError(f"{', '.join(given)}: column 'completions[].{name}' is missing, or null in every row")

    def _found(self, source: str, given: list[str]) -> None:
        """Add the questions without a reason against them to `found`. Raises TsrError if there is none."""
        self._count("questions")
        self.db.execute(
            "insert into found select source, key, messages, replies, reference, origin from verdicts "
            "where reason is null"
        )
        told = [row for row in self.funnel if row["source"] == source]
        if not any(row["kept"] for row in told if row["step"] == "questions"):
            reasons = ", ".join(f"{row['count']} {row['step']} {row['outcome']}" for row in told if not row["kept"])
            raise TsrError(f"{', '.join(given)}: no question of {source} can be used: {reasons}")

    def _shorten(self) -> None:
        """Cut the prompts that are too long, by the base model's tokenizer; drop those that cannot be cut enough."""
        if not (limit := self.settings.max_prompt_tokens):
            return
        tokenizer = load_tokenizer(paths.model("base"))
        kind = duckdb.sqltype(_MESSAGES)

        def cut(messages: Messages) -> Messages | None:
            return shortened(tokenizer, messages, limit)

        special = FunctionNullHandling.SPECIAL  # it may give null of what is none
        self.db.create_function("shortened", cut, [kind], kind, null_handling=special)
        self.db.execute("alter table found rename to whole")
        try:
            self.db.execute("create temp table cut as select source, key, shortened(messages) as messages from whole")
        except duckdb.Error as error:  # so does what the template raises arrive here
            told = complaint(error).rpartition("UDF: ")[2]
            raise TsrError(f"prepare: the base model's chat template refuses a prompt: {told}") from error
        self._count("length", LENGTHS)
        self.db.execute(
            "create temp table found as select whole.* replace (cut.messages as messages) "
            "from whole join cut using (source, key) where cut.messages is not null"
        )

    def _merge(self) -> None:
        self._shorten()
        self.db.execute("create temp view asked as from found")
        self._keep("verdicts", QUERIES / "unique.sql")
        self._count("unique")
        self.db.execute(
            "create or replace temp table chosen as select prompt_id(messages) as prompt_id, found.* "
            "from found join verdicts using (source, key) where reason is null"
        )
        self.db.execute("create or replace temp view asked as from chosen")
        scales = [{"source": s, "low": low, "high": high} for s, (low, high) in self.settings.scales.items()]
        self.db.register("scales", pl.DataFrame(scales).to_arrow())
        self._keep("verdicts", QUERIES / "responses.sql")
        self._count("responses")
        self.db.execute("create temp table answers as from verdicts where reason is null")
        self._count("ratings", RATINGS)
        self._keep("pool", QUERIES / "pool.sql", draw=self.draw)
        wanted = ("eft_from", "eft_prompts", "fixed_responses", "best_prompts", "eval_prompts", "ift_examples")
        sizes = {name: getattr(self.settings, name) for name in (*wanted, "splits", "prompts_per_split")}
        self._keep("places", QUERIES / "places.sql", draw=self.draw, **sizes)
        self._count("splits", PLACES)

    def _keep(self, table: str, path: Path, **values: Any) -> None:
        keep_query(self.db, table, path, values)

    def _count(self, step: str, query: str = VERDICTS) -> None:
        """Add a step to the funnel: how many rows of each source came to which end."""
        rows = self.db.sql(query).fetchall()
        columns = ("source", "outcome", "kept", "count")
        told = [{"step": step} | dict(zip(columns, row, strict=True)) for row in rows]
        self.funnel += sorted(told, key=lambda row: (row["source"], not row["kept"], row["outcome"]))

    def check_sizes(self) -> None:
        """Raise TsrError unless every split has the prompts that the settings ask for."""
        have = dict(self.db.sql("select split, count(*) from places where split is not null group by split").fetchall())
        for split, size in self.settings.sizes.items():
            if (count := have.get(split, 0)) != size:
                of_kind = {"rated": f" whose ratings differ, of {self.settings.eft_from}", "ift": " with an answer"}
                total = sum(have.values())
                raise TsrError(
                    f"prepare: split {split} gets {count} of {size} prompts{of_kind.get(split, '')}; the sources give "
                    f"{total} to all splits together, expected {sum(self.settings.sizes.values())}: ask for less in "
                    "params.yaml, or add data"
                )

    def check_texts(self) -> None:
        """Raise TsrError for a split whose texts do not fit into the memory: until here DuckDB has them on the disk."""
        for split, least in self.db.sql(_BYTES).fetchall():
            bounds.check_bytes(f"prepare: split {split}", int(least))

    def write(self) -> None:
        """Write all tables and the funnel."""
        rated, fixed = self._responses(_RATED), self._responses(_FIXED)
        for split in self.settings.sizes:
            tables.write("prompts", self._split(split, rated), paths.prompts(split))
        tables.write("prompts", tables.frame("prompts", []), paths.prompts("eft"))  # no judgments come with this data
        for split, rows in (("rated", rated), ("fixed", fixed)):
            tables.write("generations", generations(rows), paths.generations(paths.WORLD, split))
            tables.write("scores", human_scores(rows), paths.scores(paths.HUMAN, paths.WORLD, split))
        write_json({"steps": self.funnel}, paths.funnel("prompts"))

    def _responses(self, query: str) -> pl.DataFrame:
        """Return (prompt_id, sample_id, model, response, rating, generation_id)."""
        rows = pl.DataFrame(self.db.sql(query).to_arrow_table())
        ids = [content_id("generation", paths.WORLD, pid, text) for pid, text in rows["prompt_id", "response"].rows()]
        return rows.with_columns(generation_id=pl.Series(ids, dtype=pl.String))

    def _split(self, split: str, rated: pl.DataFrame) -> pl.DataFrame:
        rows = self.db.sql(_SPLIT, params={"split": split}).to_arrow_table().to_pylist()
        names = dict(rated.group_by("prompt_id").agg(pl.col("model").sort_by("sample_id")).rows())
        for row in rows:
            judged = split in ("rated", "fixed")
            told = {"id": row.pop("id"), "origin": row.pop("origin")}
            told["models"] = names.get(row["prompt_id"]) if split == "rated" else None
            told["rating_range"] = list(self.settings.scales[row["source"]]) if judged else None
            row["meta"] = json.dumps(
                {k: v for k, v in told.items() if v is not None}, ensure_ascii=False, sort_keys=True
            )
        return tables.frame("prompts", rows)


_BYTES = """
    with texts as (
        select p.split, unnest(c.messages).content as text from places as p join chosen as c using (prompt_id)
        union all
        select p.split, unnest([pool.reference, pool.drawn_response]) from places as p join pool using (prompt_id)
        union all
        select p.split, a.response from places as p join answers as a using (prompt_id) where p.split = 'rated'
    )

    select split, sum(strlen(text)) from texts where split is not null and text is not null
    group by split
    order by split
"""
_SPLIT = """
    select
        p.prompt_id,
        p.split,
        p.source,
        c.messages,
        case when p.split not in ('rated', 'fixed') then pool.reference end as reference,
        case when p.source = 'oasst' then c.key end                         as id,
        c.origin
    from places as p
    join chosen as c using (prompt_id)
    join pool using (prompt_id)
    where p.split = $split
"""
_RATED = """
    select prompt_id, row_number() over (partition by prompt_id order by nr) - 1 as sample_id, model, response, rating
    from answers
    join places using (prompt_id)
    where places.split = 'rated' and rating is not null
    order by prompt_id, sample_id
"""
_FIXED = """
    select prompt_id, 0::bigint as sample_id, null::varchar as model, drawn_response as response, drawn_rating as rating
    from pool
    join places using (prompt_id)
    where places.split = 'fixed'
    order by prompt_id
"""


def generations(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `generations` rows of responses that none of the run's models made; what nobody knows is null."""
    unknown = ("model_hash", "seed", "error", "prompt_tokens", "response_tokens", "logprob_sum")
    said = {"model": paths.WORLD, "finish_reason": "stop", "status": "ok", "backend": "import"}
    full = rows.drop("model").with_columns(
        **{name: pl.lit(None) for name in unknown}, **{name: pl.lit(value) for name, value in said.items()}
    )
    return full.select(list(tables.schema("generations"))).cast(pl.Schema(tables.schema("generations")))


def human_scores(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `scores` rows of the ratings that came with the responses, on their source's scale."""
    rated = pl.col("score").is_not_null()
    full = rows.rename({"rating": "score"}).with_columns(
        model=pl.lit(paths.WORLD),
        judge=pl.lit(paths.HUMAN),
        n_votes=rated.cast(pl.Int64),
        n_parsed=rated.cast(pl.Int64),
        score_std=pl.when(rated).then(0.0),
        parse_status=pl.when(rated).then(pl.lit("ok")).otherwise(pl.lit("no_votes")),
    )
    return full.select(list(tables.schema("scores")))
