"""`tsr show`: one pair's full story, from the prompt to the votes, the weights and the seeds."""

import json
from typing import Any

import duckdb
import polars as pl
from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stages import params, paths
from stages.asking import rubric_hash, rubrics
from stages.errors import TsrError, printable
from stages.output import as_json
from stages.parsing import Reading, read_votes
from stages.reporting.side_by_side import Parts, differences
from stages.sqlrun import SQL, fetch, run_query
from stages.views import open_views

Row = dict[str, Any]
FORMATS = ("text", "json")
_SIDES = {"chosen": "green", "rejected": "red"}


def show(pair_id: str, form: str = "text") -> None:
    """Print a pair's story, as text or as one JSON object. `pair_id` may be cut short while it names one pair."""
    if form not in FORMATS:
        raise TsrError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")
    with open_views() as db:
        pair = find(db, pair_id)
        sides, votes = (
            run_query(db, SQL / "show" / f"{part}.sql", {"pair_id": pair["pair_id"]}) for part in ("sides", "votes")
        )
    told = scored(votes).to_dicts()
    if form == "json":
        print(as_json({"pair": pair, "sides": sides.to_dicts(), "votes": told}))
    else:
        Console().print(story(*map(_printable, (pair, sides.to_dicts(), told))))


def _printable(value: Any) -> Any:
    """Return rows with all texts as a terminal may have them; paragraphs stay."""
    if isinstance(value, str):
        return printable(value, keep="\n\t")
    if isinstance(value, dict):
        return {name: _printable(one) for name, one in value.items()}
    return [_printable(one) for one in value] if isinstance(value, list) else value


def scored(votes: pl.DataFrame) -> pl.DataFrame:
    """Return rows of sql/show/votes.sql with `score`: what each vote says by the rubric that asked for it.

    A vote from elsewhere was read by the rubric of the import's mapping. Null where no rubric is known.
    """
    known = {rubric_hash(name): name for name in rubrics()}
    least_mass = params.load().block.score.least_mass if params.PARAMS_FILE.is_file() else 0.0
    parts = []
    for asked, part in votes.group_by("rubric_hash", maintain_order=True):
        rubric = known.get(asked[0]) if asked[0] else _of_import()
        score = read_votes(Reading(rubric, least_mass), part)["value"] if rubric else None
        parts.append(part.with_columns(score=score if rubric else pl.lit(None, dtype=pl.Float64)))
    return pl.concat(parts).sort("side", "judge", "way", "vote_id") if parts else votes


def _of_import() -> str:
    """Return the rubric of an imported dataset; any will do where scores came with the replies."""
    told = paths.data() / "import.json"
    mapping = json.loads(told.read_text())["mapping"] if told.is_file() else {}
    return next((part["rubric"] for part in mapping.get("judgments", []) if part.get("rubric")), rubrics()[0])


def find(db: duckdb.DuckDBPyConnection, pair_id: str) -> Row:
    """Return the pair whose id starts with `pair_id`. Raises TsrError where none or several do."""
    starting = "from pairs where starts_with(pair_id, $wanted) order by pair_id limit 2"
    rows = fetch(db, starting, {"wanted": pair_id}).to_dicts()
    if not rows:
        raise TsrError(f"pair {pair_id!r}: not in {paths.data() / 'pairs'}; `tsr query widest_gaps` lists some")
    if len(rows) > 1 and rows[0]["pair_id"] != rows[1]["pair_id"]:
        raise TsrError(
            f"pair {pair_id!r}: several begin like that, {rows[0]['pair_id']} and others; expected more of it"
        )
    return rows[0]


def story(pair: Row, sides: list[Row], votes: list[Row]) -> Group:
    """Return what is printed."""
    head = Table.grid(padding=(0, 2))
    for name in ("pair_id", "model", "strategy", "judge", "split", "prompt_id", "gap", "length_delta"):
        if pair[name] is not None:
            head.add_row(Text(name, "dim"), Text(str(pair[name])))
    prompt = "\n\n".join(f"{message['role']}: {message['content']}" for message in pair["prompt"])
    texts = {row["side"]: row["response"] for row in sides}
    parts = dict(zip(_SIDES, differences(*(texts[side] for side in _SIDES)), strict=True))
    panels = [_side(row, parts[row["side"]]) for row in sides]
    return Group(head, Panel(Text(prompt), title="prompt", title_align="left"), *panels, _votes(votes))


def _side(row: Row, parts: Parts) -> Panel:
    text, colour = Text(), _SIDES[row["side"]]
    for part, differs in parts:
        text.append(part, f"bold {colour}" if differs else "")
    facts = {name: row[name] for name in row if name not in ("side", "response", "score", "source")}
    known = [Text.assemble((name, "dim"), f" {value}") for name, value in facts.items() if value is not None]
    source = f", from the {row['source']}" if row["source"] else ""
    title = Text.assemble((row["side"], colour), f": score {row['score']:g}{source}")
    return Panel(Group(text, Text(), Columns(known, padding=(0, 3))), title=title, title_align="left")


def _votes(votes: list[Row]) -> Table:
    table = Table(title="votes", title_justify="left", title_style="", caption_justify="left", expand=True)
    table.add_column("side")
    for name in ("judge", "way", "vote", "seed"):
        table.add_column(name, overflow="fold")
    table.add_column("reply", ratio=1, overflow="fold")
    table.add_column("score", justify="right")
    for vote in votes:
        cells = [_text(vote[name]) for name in ("side", "judge", "way", "vote_id", "seed")]
        reply = vote["raw"] if vote["status"] == "ok" else f"({vote['status']})"
        table.add_row(*map(Text, [*cells, reply, _text(vote["score"])]))
    hashes = sorted({(vote["judge"], vote["judge_hash"]) for vote in votes if vote["judge_hash"]})
    table.caption = Text("\n".join(f"weights of {judge}: {weights}" for judge, weights in hashes)) if hashes else None
    return table


def _text(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
