"""Stage eft: a judge's judgments become examples where they order rated responses as people did."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from chat_rows import settings, write_all
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rows import generations, judgments
from rows import prompts as prompt_rows

from stages import eft, paths, prepare, tables
from stages import score as score_stage
from stages.eft import Eft
from stages.errors import TsrError
from stages.parsing import Reading
from stages.reporting.funnel import funnel_rows
from stages.reporting.human import score_range, with_ratings
from stages.rubrics.additive import ask

STRICT = Eft(ties="disagree", most_per_score=0)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSR_DATA", raising=False)
    write_all()
    prepare.run(7, settings())


def responses() -> pl.DataFrame:
    """The rated responses with people's ratings."""
    human = tables.read("scores", paths.scores("human", "world", "rated")).select("generation_id", rating="score")
    return tables.read("generations", paths.generations("world", "rated")).join(human, on="generation_id")


def judge(replies: dict[str, list[str]], **columns: Any) -> None:
    """Put judgments of the rated responses in place, and score them as the stage does."""
    made = judgments(replies).with_columns(**columns)
    tables.write("judgments", made, paths.judgments("J", "world", "rated"))
    files = paths.generations("world", "rated"), paths.judgments("J", "world", "rated")
    scored = score_stage.score_files(
        Reading("additive", 0.5), made["way"][0], len(next(iter(replies.values()))), "J", *files
    )
    tables.write_parts("scores", scored, paths.scores("J", "world", "rated"))


def reply(score: float | str) -> str:
    """A judgment in words."""
    return f"Reasons.\nScore: {score}"


def told() -> dict[str, int]:
    """Outcome -> judgments."""
    return {row["outcome"]: row["count"] for row in json.loads(Path("data/eft/funnel.json").read_text())["steps"]}


def ranked() -> pl.DataFrame:
    """The rated responses with a `place` 0, 1, 2 by rating within their prompt; equal ratings share theirs."""
    return responses().with_columns(place=pl.col("rating").rank("dense").over("prompt_id").cast(pl.Int64) - 1)


def test_judgments_that_agree_become_examples() -> None:
    rows = ranked()
    upside_down = rows["prompt_id"].min()
    scores = {
        gid: reply(2 - place if pid == upside_down else 2 * place)
        for gid, pid, place in rows["generation_id", "prompt_id", "place"].rows()
    }
    judge({gid: [text] for gid, text in scores.items()})
    eft.run(7, STRICT, "additive", "J")
    kept = tables.read("prompts", paths.eft())
    asked = dict(tables.read("prompts", paths.prompts("rated"))["prompt_id", "messages"].rows())
    wanted = {
        json.dumps(ask.judge_prompt(asked[pid], text)): scores[gid]
        for gid, pid, text in rows["generation_id", "prompt_id", "response"].rows()
        if pid != upside_down
    }
    assert {json.dumps(m): raw for m, raw in kept.select("messages", "reference").iter_rows()} == wanted
    assert told()["other_order"] == 3
    assert set(kept["split"]) == {"eft"}
    assert set(kept["source"]) == {"ultrafeedback"}
    assert json.loads(kept["meta"][0]).keys() == {"generation_id", "judge", "score", "human"}
    assert sum(told().values()) == rows.height
    row = next(row for row in funnel_rows() if row["step"] == "judgments")
    assert (row["rows"], row["kept"]) == (rows.height, kept.height)


def test_a_judge_that_orders_otherwise_teaches_nothing_and_is_told_in_one_line() -> None:
    judge({gid: [reply(5 - place)] for gid, place in ranked()["generation_id", "place"].rows()})
    with pytest.raises(TsrError) as refused:
        eft.run(7, STRICT, "additive", "J")
    told = "data/judgments/J/world/rated.parquet: no judgment agrees with the human order: 9 other_order"
    assert str(refused.value) == told
    assert not Path("data/eft").exists()


def test_unread_judgments_and_single_ones_are_counted() -> None:
    rows = responses().sort("prompt_id", "rating")
    first, second, third = rows.partition_by("prompt_id", maintain_order=True)
    replies = {gid: [reply(score)] for score, gid in zip((0, 2, 5), first["generation_id"], strict=True)}
    replies |= {gid: ["No score here."] for gid in second["generation_id"]}
    replies |= {gid: [text] for text, gid in zip((reply(1), "Cut", "Cut"), third["generation_id"], strict=True)}
    judge(replies)
    eft.run(7, STRICT, "additive", "J")
    assert told() == {"score 0.0": 1, "score 2.0": 1, "score 5.0": 1, "unscored": 5, "nothing_to_order": 1}


def test_a_cap_on_each_score_is_drawn_by_the_seed() -> None:
    rows = responses().sort("prompt_id", "rating")
    parts = rows.partition_by("prompt_id", maintain_order=True)
    judge({gid: [reply(s)] for part in parts for s, gid in zip((1, 4, 5), part["generation_id"], strict=True)})
    kept = set()
    for seed in range(6):
        eft.run(seed, Eft(ties="disagree", most_per_score=1), "additive", "J")
        assert told() == {"score 1.0": 1, "score 4.0": 1, "score 5.0": 1, "score_is_full": 6}
        kept.add(tuple(tables.read("prompts", paths.eft())["prompt_id"]))
    assert len(kept) > 1


def test_of_several_votes_the_one_that_stands_for_the_mean_is_learned() -> None:
    rows = responses().sort("prompt_id", "rating")
    votes = {0: [reply(0), reply(1), reply(2)], 1: ["None.", reply(3), reply(3)], 2: [reply(5), reply(4), reply(3)]}
    places = rows.with_columns(place=pl.int_range(pl.len()).over("prompt_id"))["generation_id", "place"].rows()
    judge({gid: votes[place] for gid, place in places})
    eft.run(7, STRICT, "additive", "J")
    assert sorted(tables.read("prompts", paths.eft())["reference"]) == sorted([reply(1), reply(3), reply(4)] * 3)


def test_a_judge_without_words_is_refused() -> None:
    digits = pl.lit([{"score": 1.0, "logprob": -0.1}], dtype=tables.TYPES["digits"])
    judge({gid: [""] for gid in responses()["generation_id"]}, way=pl.lit("one_token"), digit_logprobs=digits)
    with pytest.raises(TsrError, match=r"rated\.parquet: way one_token; expected judgments in words") as refused:
        eft.run(7, STRICT, "additive", "J")
    assert "\n" not in str(refused.value)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TsrError, match=r"judgments/J/world/rated\.parquet: no such file"):
        eft.run(7, STRICT, "additive", "J")


@examples(derandomize=True, max_examples=25, deadline=None, database=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 10), st.sampled_from([None, 0, 1, 3, 4, 5])), min_size=1, max_size=4),
        max_size=4,
    ),
    st.integers(0, 2),
    st.sampled_from(["disagree", "agree"]),
)
def test_kept_prompts_are_ordered_as_people_did_and_counts_add_up(
    groups: list[list[tuple[int, int | None]]], most: int, ties: Any
) -> None:
    flat = [(f"p{i}", f"{i}.{k}", h, s) for i, group in enumerate(groups) for k, (h, s) in enumerate(group)]
    schema = {"prompt_id": pl.String, "generation_id": pl.String, "human": pl.Float64, "score": pl.Float64}
    frame = pl.DataFrame(flat, schema=schema, orient="row")
    said = judgments({gid: [reply(s) if s is not None else "No."] for _, gid, _, s in flat})
    asked = frame.select("generation_id", "prompt_id", asked_id="generation_id")
    human, scored = (frame.select("generation_id", score=pl.col(name)) for name in ("human", "score"))
    found = eft.verdicts(7, Eft(ties=ties, most_per_score=most), "additive", asked, said, scored, human)
    steps = eft.funnel(found)
    assert sum(row["count"] for row in steps) == len(flat)
    assert all(row["count"] <= most for row in steps if row["kept"] and most)
    for i, group in enumerate(groups):
        read = [(h, s) for h, s in group if s is not None]
        pairs = [(a, b) for a in read for b in read if a[0] > b[0]]
        agrees = bool(pairs) and all(a[1] > b[1] or (ties == "agree" and a[1] == b[1]) for a, b in pairs)
        reasons = set(found.filter((pl.col("prompt_id") == f"p{i}") & pl.col("human").is_not_null())["reason"])
        assert reasons & {None, "score_is_full"} == set() or agrees
        assert not (agrees and reasons & {"other_order", "nothing_to_order"})


def test_ratings_stand_in_for_the_truth_on_the_rubrics_scale() -> None:
    assert score_range("additive") == (0.0, 5.0)
    fixed = tables.read("generations", paths.generations("world", "fixed"))
    prompts = tables.read("prompts", paths.prompts("fixed"))
    human = dict(tables.read("scores", paths.scores("human", "world", "fixed"))["generation_id", "score"].rows())
    unknown = fixed.select("generation_id", truth=pl.lit(None, dtype=pl.Float64))
    told = dict(with_ratings(unknown, prompts, fixed, "additive").rows())
    assert told.keys() == human.keys()
    assert {gid: None if r is None else (r - 1) / 9 * 5 for gid, r in human.items()} == pytest.approx(told)
    known = fixed.select("generation_id", truth=pl.lit(3.0))
    assert with_ratings(known, prompts, fixed, "additive")["truth"].to_list() == [3.0] * fixed.height


def test_without_ratings_the_truth_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSR_DATA", str(tmp_path / "elsewhere"))
    truth = pl.DataFrame({"generation_id": ["a"], "truth": [None]}, schema_overrides={"truth": pl.Float64})
    assert with_ratings(truth, prompt_rows(["p"]), generations(["a"]), "additive").equals(truth)
