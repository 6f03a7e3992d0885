"""Hostile prompts, responses and replies through generate, judge, score, parse and pair: what must hold of any.

Quick by default and the same in every run; `-m slow` draws many more.
"""

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import fuzz
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from rows import GENERATE, JUDGE, limits, work

from stages import paths, tables
from stages.asking import load_ask, rubrics
from stages.candidates import COLUMNS, Sides, read_candidates
from stages.generate import generate
from stages.ids import prompt_id
from stages.judge import judge_all
from stages.pair import make_pairs
from stages.pair import run as run_pair
from stages.params import Pair
from stages.parsing import Reading, load_rubric, score
from stages.sqlrun import SQL, connect

STRATEGIES = sorted(path.stem for path in (SQL / "strategies").glob("*.sql"))
PAIR = Pair(
    min_gap=0.0,
    parameters={"draw": 0, "least_gap": 1.0, "top_n": 0, "max_length_ratio": 1.5, "length_penalty": 0.01}
    | {"max_score_std": 0.5, "least_votes": 1},
)
WAYS = [(name, way) for name in rubrics() for way in ("votes", "one_token") if way == "votes" or load_ask(name).SCORES]
EVERY = pytest.mark.parametrize(("rubric", "way"), WAYS, ids=["-".join(one) for one in WAYS])


def profile(examples: int) -> Any:
    """A profile of hypothesis: derandomised, so that a red build is red again."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(derandomize=True, max_examples=examples, deadline=None, database=None, suppress_health_check=slow)


QUICK, DEEP = profile(3), profile(100)


@st.composite
def worlds(draw: st.DrawFn, rubric: str) -> dict[str, Any]:
    """Prompts, of one or three messages, one more that comes later, and what each engine may say."""
    asked = st.one_of(fuzz.TEXTS.map(lambda text: [text]), st.lists(fuzz.ANY, min_size=3, max_size=3))
    more, *texts = draw(st.lists(asked, min_size=4, max_size=8, unique_by=tuple))
    said = st.lists(fuzz.TEXTS, min_size=3, max_size=8)
    replies = [*draw(st.lists(fuzz.REPLIES, min_size=4, max_size=10)), fuzz.ECHO]
    replies += [fuzz.SCORED[rubric].format(score) for score in draw(st.permutations(range(6)))]
    return {
        "prompts": texts,
        "more": more,
        "said": {role: draw(said) for role in ("M1", "M0", "F")},
        "replies": replies,
    }


def prompts_of(texts: list[list[str]]) -> pl.DataFrame:
    rows = []
    for parts in texts:
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(parts)]
        told = {"prompt_id": prompt_id(messages), "split": "r0", "source": "fuzz", "messages": messages}
        rows.append(told | {"reference": None, "meta": "{}"})
    return tables.frame("prompts", rows)


def made(world: dict[str, Any], rubric: str, way: str, *, backwards: bool = False) -> dict[str, pl.DataFrame]:
    """All tables of a round, each checked against its contract; with `backwards`, from rows in the other order."""

    def turned(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.reverse() if backwards else rows

    asked = turned(tables.validate("prompts", prompts_of(world["prompts"]), "prompts"))
    how = GENERATE.model_copy(update={"samples": 3})
    more = {"votes": 2, "temperature": 1.0} if way == "votes" else {}
    votes = JUDGE.model_copy(
        update={"rubric": rubric, "way": way, "distribution": bool(load_ask(rubric).SCORES), **more}
    )
    found: dict[str, list[pl.DataFrame]] = {"generations": [], "judgments": [], "scores": []}
    for model, said in world["said"].items():
        responses = generate(7, how, model, asked, fuzz.Hostile(said, model), work(1.0))
        judge = fuzz.Hostile(world["replies"], "J")
        raw = judge_all(7, votes, "J", asked, turned(responses), judge, work(1.0))
        scores = score(Reading(rubric, 0.2), "J", turned(responses), turned(raw))
        for table, rows in zip(found, (responses, raw, scores), strict=True):
            found[table].append(turned(tables.validate(table, rows, table)))
    return {"prompts": asked} | {table: pl.concat(parts) for table, parts in found.items()}


def candidates_of(round_: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The candidates, as stages/candidates.py reads them from files."""
    played = pl.DataFrame({"role": ["own", "anchor", "future"], "model": ["M1", "M0", "F"]})
    joined = round_["generations"].join(played, on="model").join(round_["scores"].drop("model"), on="generation_id")
    return joined.with_columns(second_score=pl.col("score")).select(COLUMNS)


def pairs_of(round_: dict[str, pl.DataFrame], strategies: list[str]) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    candidates = candidates_of(round_)
    return {name: make_pairs(PAIR, "m", name, round_["prompts"], candidates) for name in strategies}


def check_scores(round_: dict[str, pl.DataFrame], rubric: str) -> None:
    low, high = limits(rubric)
    scores = round_["scores"]
    assert sorted(scores["generation_id"]) == sorted(round_["generations"]["generation_id"])
    for row in scores.iter_rows(named=True):
        if row["score"] is None:
            assert row["parse_status"] in ("unparsed", "no_votes") and row["n_parsed"] == 0
        else:
            assert low <= row["score"] <= high
            assert row["parse_status"] == ("ok" if row["n_parsed"] == row["n_votes"] else "partial")


def check_pairs(round_: dict[str, pl.DataFrame], made_pairs: dict[str, tuple[pl.DataFrame, pl.DataFrame]]) -> None:
    by_id = {row["generation_id"]: row for row in round_["generations"].iter_rows(named=True)}
    scores = dict(round_["scores"].select("generation_id", "score").iter_rows())
    for pairs, dropped in made_pairs.values():
        tables.validate("pairs", pairs, "pairs")
        tables.validate("dropped", dropped, "dropped")
        assert sorted([*pairs["prompt_id"], *dropped["prompt_id"]]) == sorted(round_["prompts"]["prompt_id"])
        for row in pairs.iter_rows(named=True):
            assert row["chosen_id"] != row["rejected_id"]
            assert row["chosen"] != row["rejected"]
            assert row["chosen_score"] > row["rejected_score"]
            for side in ("chosen", "rejected"):
                source = by_id[row[f"{side}_id"]]
                assert (source["prompt_id"], source["finish_reason"]) == (row["prompt_id"], "stop")
                assert row[side] == [{"role": "assistant", "content": source["response"]}]
                assert row[f"{side}_score"] == scores[source["generation_id"]]


def written(
    round_: dict[str, pl.DataFrame], all_pairs: dict[str, tuple[pl.DataFrame, pl.DataFrame]]
) -> dict[str, bytes]:
    """The bytes of all tables, as files."""
    parts = dict(round_)
    for name, (pairs, dropped) in all_pairs.items():
        parts |= {f"pairs/{name}": pairs, f"dropped/{name}": dropped}
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, rows in parts.items():
            path = Path(folder) / f"{name}.parquet"
            tables.write(name.partition("/")[0], rows, path)
            found[name] = path.read_bytes()
    return found


def on_files(round_: dict[str, pl.DataFrame], strategy: str) -> list[bytes]:
    """The same pairs, made of files by the stage."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSR_DATA", folder)
        tables.write("prompts", round_["prompts"], paths.prompts("r0"))
        for (model,), rows in round_["generations"].partition_by("model", as_dict=True).items():
            tables.write("generations", rows, paths.generations(str(model), "r0"))
        for (model,), rows in round_["scores"].partition_by("model", as_dict=True).items():
            tables.write("scores", rows, paths.scores("J", str(model), "r0"))
        sides = Sides("J", "r0", "M1", "M0", "F", "J")
        assert read_candidates(sides).sort("generation_id").equals(candidates_of(round_).sort("generation_id"))
        run_pair(PAIR, "m", strategy, sides)
        return [paths.pairs("m").read_bytes(), paths.dropped("m").read_bytes()]


def check(world: dict[str, Any], rubric: str, way: str, strategies: list[str]) -> None:
    """All that must hold."""
    first = made(world, rubric, way)
    pairs = pairs_of(first, strategies)
    check_scores(first, rubric)
    check_pairs(first, pairs)
    files = written(first, pairs)

    # The order of rows is immaterial.
    other = made(world, rubric, way, backwards=True)
    assert written(other, pairs_of(other, strategies)) == files

    # Nor does it matter whether the tables are frames or files.
    strategy = strategies[len(world["replies"]) % len(strategies)]
    assert on_files(first, strategy) == [files[f"pairs/{strategy}"], files[f"dropped/{strategy}"]]

    # A prompt more changes nothing of the others.
    more = world | {"prompts": [*world["prompts"], world["more"]]}
    larger = pairs_of(made(more, rubric, way), strategies)
    known = set(first["prompts"]["prompt_id"])
    assert prompts_of([world["more"]])["prompt_id"][0] not in known
    for name, both in larger.items():
        for before, after in zip(pairs[name], both, strict=True):
            same = after.filter(pl.col("prompt_id").is_in(known))
            assert same.sort("prompt_id").equals(before.sort("prompt_id"))


@EVERY
def test_a_round_of_hostile_texts(rubric: str, way: str) -> None:
    """Each way of judging with its share of the strategies; the slow test has all with all."""
    mine = STRATEGIES[WAYS.index((rubric, way)) :: len(WAYS)]
    QUICK(given(world=worlds(rubric))(lambda world: check(world, rubric, way, mine)))()


@pytest.mark.slow
@EVERY
def test_many_rounds_of_hostile_texts(rubric: str, way: str) -> None:
    DEEP(given(world=worlds(rubric))(lambda world: check(world, rubric, way, STRATEGIES)))()


NEST = r"(?s)<(\w+)>.*<((?!\1)\w+)>.*<((?!\1|\2)\w+)>.*"


@pytest.mark.parametrize(
    "wanted",
    [NEST + r"</\3>.*</\2>.*</\1>", NEST + r"</\2>.*</\3>", NEST + r"(?!.*</.*</.*</)"],
    ids=["closed", "crossed", "open"],
)
def test_nested_markup_is_nested(wanted: str) -> None:
    """One tag within another within a third: closed in their order, two of them crossed, and not all of them closed."""
    find(
        fuzz.NESTED,
        lambda text: re.search(wanted, text) is not None,
        settings=settings(profile(5000), phases=[Phase.generate]),
    )


@cache
def reader(rubric: str) -> duckdb.DuckDBPyConnection:
    """A connection that reads replies by a rubric."""
    db = connect()
    load_rubric(db, rubric)
    return db


def check_reply(rubric: str, replies: list[str]) -> None:
    """Every reply is a number that it says, or none, each by itself: what stands beside it changes nothing."""
    rows = pl.DataFrame({"n": range(len(replies)), "raw": replies}, schema={"n": pl.Int64, "raw": pl.String})
    db = reader(rubric)
    db.register("replies", rows.to_arrow())
    together = [value for (value,) in db.execute("select parse(raw) from replies order by n").fetchall()]
    alone = [db.execute("select parse($raw)", {"raw": raw}).fetchall()[0][0] for raw in replies]
    assert together == alone
    for raw, value in zip(replies, together, strict=True):
        assert value is None or str(int(value)) in raw


@pytest.mark.parametrize("rubric", rubrics())
def test_replies_are_read_each_by_itself(rubric: str) -> None:
    profile(60)(given(st.lists(fuzz.REPLIES, min_size=1, max_size=5))(lambda all_: check_reply(rubric, all_)))()


@pytest.mark.slow
@pytest.mark.parametrize("rubric", rubrics())
def test_many_replies_are_read_each_by_itself(rubric: str) -> None:
    profile(3000)(given(st.lists(fuzz.REPLIES, min_size=1, max_size=5))(lambda all_: check_reply(rubric, all_)))()


def check_verdict(reply: str) -> None:
    said = reader("pairwise").execute("select verdict($raw)", {"raw": reply}).fetchall()[0][0]
    assert said in (None, "first", "second", "tie")


def test_a_reply_on_two_responses_is_a_verdict_or_none() -> None:
    profile(60)(given(fuzz.REPLIES)(check_verdict))()
