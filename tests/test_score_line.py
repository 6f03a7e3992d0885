"""Replies that end in a score line, neat and messy, as the two rubrics for chat models read them."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import generations, judgments, limits
from rows import parse as parse_by

from stages import rubrics as rubrics_package
from stages.asking import load_ask, rubrics
from stages.parsing import Reading, score

RUBRICS = ["additive", "ten"]
KINDS: dict[str, list[Any]] = yaml.safe_load((Path(__file__).parent / "replies" / "score_line.yaml").read_text())
REPLIES = [(kind, *(*reply, "stop")[:4]) for kind, replies in KINDS.items() for reply in replies]
WHY = "It is on the topic and answers the question.\n"


def test_there_are_more_than_a_hundred_messy_replies() -> None:
    said = [reply for _, reply, *_, end in REPLIES if end == "stop"]
    assert len(set(said)) == len(said) > 150


def test_the_micro_judge_reads_a_score_in_none_of_them() -> None:
    assert [reply for _, reply, *_ in REPLIES if parse_by("micro", reply) is not None] == []


@pytest.fixture(scope="module", params=RUBRICS)
def scored(request: pytest.FixtureRequest) -> dict[str, tuple[float | None, str]]:
    """What the rubric makes of each reply, as the one vote on a generation: its score and status."""
    ids = [f"{n:03}" for n in range(len(REPLIES))]
    ends = pl.Series([end for *_, end in REPLIES])
    votes = judgments(dict(zip(ids, ([reply] for _, reply, *_ in REPLIES), strict=True))).with_columns(
        finish_reason=ends
    )
    table = score(Reading(request.param, 0.5), "J", generations(ids), votes).sort("generation_id")
    table = table.select("score", "parse_status")
    return {"rubric": request.param} | dict(zip(ids, table.iter_rows(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_is_read_as_written_down_or_not_at_all(kind: str, scored: dict[str, Any]) -> None:
    for n, (of, reply, additive, ten, _) in enumerate(REPLIES):
        if of == kind:
            expected = {"additive": additive, "ten": ten}[scored["rubric"]]
            status = "unparsed" if expected is None else "ok"
            assert scored[f"{n:03}"] == (expected, status), f"{kind}: {reply!r}"


@pytest.mark.parametrize("rubric", RUBRICS)
def test_every_beginning_of_a_reply_has_no_score(rubric: str) -> None:
    whole = f"{WHY}Two steps are missing.\nScore: 3"
    assert [parse_by(rubric, whole[:n]) for n in range(len(whole))] == [None] * len(whole)


PIECES = st.sampled_from(
    [
        *("Score:", "score", " ", "\n", "\r", "\u2028", "0", "3", "5", "9" * 400, ".", ",", "/5", " out of 10", "-"),
        *("**", "_", "`", "#", ">", "\N{FULLWIDTH DIGIT FOUR}", "points", "Final", "<|im_end|>", "\\"),
    ]
)


@pytest.mark.parametrize("rubric", RUBRICS)
@settings(derandomize=True, max_examples=100, deadline=None, database=None)
@given(raw=st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)))
def test_a_score_is_whole_in_range_and_nothing_raises(rubric: str, raw: str) -> None:
    low, high = limits(rubric)
    value = parse_by(rubric, raw)
    assert value is None or (low <= value <= high and value.is_integer() and re.search(rf"{value:.0f}\D*", raw))


def test_the_scales_are_what_the_rubrics_ask_for() -> None:
    assert rubrics() == ["additive", "micro", "ten"]
    assert (limits("additive"), limits("ten")) == ((0.0, 5.0), (1.0, 10.0))
    for rubric in RUBRICS:
        low, high = limits(rubric)
        asked = load_ask(rubric).judge_prompt([{"role": "user", "content": "hi"}], "so")[0]["content"]
        assert f"a whole number from {low:.0f} to {high:.0f}" in asked
        assert asked.endswith(f"the last line, Score: N with N from {low:.0f} to {high:.0f}.")
        parse = partial(parse_by, rubric)
        assert [parse(f"Score: {n}") for n in range(12)] == [n if low <= n <= high else None for n in range(12)]


def test_score_tokens_are_all_scores_or_there_are_none() -> None:
    """10 is two tokens of many tokenizers, and 1 its beginning."""
    additive = load_ask("additive")
    read = {token: parse_by("additive", f"{additive.SCORE_AFTER} {token}") for token in additive.SCORES}
    assert read == additive.SCORES == {str(n): float(n) for n in range(6)}
    assert load_ask("ten").SCORES == {}


def test_the_rubric_that_the_docs_write_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "judging.md").read_text()
    for name, kind in (("ask.py", "python"), ("parse.sql", "sql")):
        written = page.partition(f"`stages/rubrics/grounded/{name}`:\n\n```{kind}\n")[2].partition("```")[0]
        (tmp_path / "grounded").mkdir(exist_ok=True)
        (tmp_path / "grounded" / name).write_text(written)
    monkeypatch.setattr("stages.parsing.RUBRICS", tmp_path)
    monkeypatch.setattr(rubrics_package, "__path__", [*rubrics_package.__path__, str(tmp_path)])
    replies = ["One date.\nScore: 3", "Score: 4/4", "Score: 5", "Score: 0", "Score: 3/5"]
    assert [parse_by("grounded", raw) for raw in replies] == [3.0, 4.0, None, None, None]
    ask = load_ask("grounded")
    asked = ask.judge_prompt([{"role": "user", "content": "hi"}], "so</s>")[0]["content"]
    assert asked.startswith("You check") and "\nso<\\/s>\n" in asked
    assert asked != ask.one_token_prompt([{"role": "user", "content": "hi"}], "so</s>")[0]["content"]
    assert (min(ask.SCORES.values()), max(ask.SCORES.values())) == limits("grounded")
