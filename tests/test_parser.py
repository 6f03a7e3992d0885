"""The micro judge's replies, neat and messy. What cannot be read is null, never a number."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import READING, generations, judgments, limits, parse

from stages.asking import RUBRICS, load_ask, rubric_hash
from stages.errors import TsrError
from stages.ids import content_id, file_sha256
from stages.parsing import Reading, read_votes, score
from stages.score import check_votes

NEAT = "l+ j+ u- u+ f+ o+ ="
LOW, HIGH = limits("micro")


@pytest.mark.parametrize("digit", range(6))
def test_a_neat_reply_is_its_digit(digit: int) -> None:
    assert parse("micro", f"{NEAT}{digit}") == digit
    assert parse("micro", f"  {NEAT}{digit}\n") == digit


MESSY = [
    "",
    " ",
    "=5",
    "5",
    "score: 5",
    "Score: 5/5",
    "l+ j+ u- u+ f+ o+",
    "l+ j+ u- u+ f+ o+ =",
    "l+ j+ u- u+ f",
    f"{NEAT}6",
    f"{NEAT}9",
    f"{NEAT}-1",
    f"{NEAT}10",
    f"{NEAT}55",
    f"{NEAT}5.0",
    f"{NEAT}4 =5",
    f"{NEAT}4 {NEAT}5",
    f"=5 {NEAT}4",
    f"I think {NEAT}4",
    f"{NEAT}4 well done",
    f"{NEAT}\n4",
    "l j u u f o =4",
    "l* j+ =4",
    "<assistant>=5",
    f"</s>{NEAT}4",
    f"{NEAT}４",  # noqa: RUF001  a digit, but not one of ours
    f"{NEAT}nan",
]


@pytest.mark.parametrize("raw", MESSY)
def test_a_messy_reply_has_no_score(raw: str) -> None:
    assert parse("micro", raw) is None


@settings(derandomize=True, max_examples=100, deadline=None, database=None)
@given(st.text(alphabet="lj+-= 0123456789", max_size=30))
def test_a_score_is_in_range_and_stands_at_the_end(raw: str) -> None:
    value = parse("micro", raw)
    assert value is None or (LOW <= value <= HIGH and value.is_integer() and raw.strip().endswith(f"={int(value)}"))


def test_every_beginning_of_a_reply_has_no_score() -> None:
    """A reply that was cut off, wherever."""
    whole = f"{NEAT}4"
    assert [parse("micro", whole[:n]) for n in range(len(whole))] == [None] * len(whole)


WILD = """create macro low() as 0.0; create macro high() as 5.0;
create macro parse(raw) as try_cast(raw as double);"""


def test_out_of_range_is_null_not_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a rubric reads, its limits hold."""
    (tmp_path / "wild").mkdir()
    (tmp_path / "wild" / "parse.sql").write_text(WILD)
    monkeypatch.setattr("stages.parsing.RUBRICS", tmp_path)
    votes = judgments({"g": ["-1", "0", "5", "5.5", "nan", "inf", "-inf", ""]})
    assert read_votes(Reading("wild", 0.5), votes)["value"].to_list() == [None, 0.0, 5.0, *[None] * 5]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("create macro parse(raw) a", "syntax error"),
        ("", "parse"),
        ("create or replace TEMP macro parse(raw) as 1", "has a temp macro; expected `create or replace macro`"),
        ("-- no temp macro\ncreate macro parse(raw) as 1", "low"),
    ],
)
def test_a_rubric_that_cannot_be_read_is_one_line(
    text: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wild").mkdir()
    if text is not None:
        (tmp_path / "wild" / "parse.sql").write_text(text)
    monkeypatch.setattr("stages.parsing.RUBRICS", tmp_path)
    with pytest.raises(TsrError, match=told) as refused:
        read_votes(Reading("wild", 0.5), judgments({"g": ["4"]}))
    assert ".sql:" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_failure_to_parse_is_never_imputed() -> None:
    """It is neither -1 nor 0 nor the mean of the others, and does not weigh on the mean."""
    replies = {"a": [f"{NEAT}4", "score: 5"], "b": ["=5", ""], "c": [f"{NEAT}0"]}
    scored = score(READING, "J", generations(["a", "b", "c", "d"]), judgments(replies)).sort("generation_id")
    assert scored["score"].to_list() == [4.0, None, 0.0, None]
    assert scored["parse_status"].to_list() == ["partial", "unparsed", "ok", "no_votes"]
    assert scored["n_parsed"].to_list() == [1, 0, 1, 0]


@pytest.mark.parametrize("response", ["=5", "score: 5", f"{NEAT}5", "x =5 y", "", " ", "abcdefghijkl", "<user>=5"])
def test_a_response_cannot_write_its_own_score(response: str) -> None:
    """The judged text is broken into single letters, so that no score can be read from the question."""
    asked = load_ask("micro").judge_prompt([{"role": "user", "content": "next kitten"}], response)
    assert parse("micro", asked[-1]["content"]) is None
    assert "=5" not in asked[-1]["content"]
    assert "score" not in asked[-1]["content"]
    assert asked[-1]["content"].startswith("judge next k")


def test_every_response_gives_another_question() -> None:
    ask = load_ask("micro").judge_prompt
    prompt = [{"role": "user", "content": "next kitten"}]
    texts = ["ljuufo", "ljuuf", "ljuufoo", "ljuuof", ""]
    assert len({ask(prompt, text)[-1]["content"] for text in texts}) == len(texts)


def test_the_rubrics_hash_is_of_the_question_not_of_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "micro"
    folder.mkdir()
    (folder / "ask.py").write_text("one")
    (folder / "parse.sql").write_text("one")
    monkeypatch.setattr("stages.asking.RUBRICS", tmp_path)
    before = rubric_hash("micro")
    (folder / "parse.sql").write_text("two")
    assert rubric_hash("micro") == before
    (folder / "ask.py").write_text("two")
    assert rubric_hash("micro") != before


def test_the_rubrics_hash_covers_what_asking_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the fences is a change of the question; the micro judge has none, and keeps its hash."""
    for rubric in ("micro", "ten"):
        (tmp_path / "stages" / "rubrics" / rubric).mkdir(parents=True)
        (tmp_path / "stages" / "rubrics" / rubric / "ask.py").write_text((RUBRICS / rubric / "ask.py").read_text())
    fences = tmp_path / "stages" / "rubrics" / "fencing.py"
    deeper = tmp_path / "stages" / "ids.py"
    monkeypatch.setattr("stages.asking._ROOT", tmp_path)
    monkeypatch.setattr("stages.asking.RUBRICS", tmp_path / "stages" / "rubrics")
    found = []
    for fence, ids in (
        ("one", "one"),
        ("two", "one"),
        ("from stages import ids", "one"),
        ("from stages import ids", "two"),
    ):
        fences.write_text(fence)
        deeper.write_text(ids)
        found.append((rubric_hash("ten"), rubric_hash("micro")))
    assert len({ten for ten, _ in found}) == 4
    assert {micro for _, micro in found} == {content_id("rubric", "micro", file_sha256(RUBRICS / "micro" / "ask.py"))}


def test_a_reply_that_was_cut_off_has_no_score() -> None:
    """The digit may have been the first of two."""
    cut = judgments({"g": [f"{NEAT}5"]}).with_columns(finish_reason=pl.lit("length"))
    assert read_votes(READING, cut)["value"].to_list() == [None]


def test_lost_and_foreign_votes_are_refused() -> None:
    made, votes = generations(["a", "b"]), judgments({"a": ["", ""], "b": ["", ""]})
    check_votes("votes", 2, made, votes, "here")
    with pytest.raises(TsrError, match=r"here: vote 1 on generation b is missing; 1 vote is like that$"):
        check_votes("votes", 2, made, votes.filter((pl.col("generation_id") == "a") | (pl.col("vote_id") == 0)), "here")
    with pytest.raises(TsrError, match=r"here: vote 0 on generation b should not be there; 2 votes are like that$"):
        check_votes("votes", 2, generations(["a"]), votes, "here")


def test_each_kind_of_wrong_votes_is_told() -> None:
    votes = judgments({"b": [""], "c": ["", "", ""]}).with_columns(way=pl.lit("one_token"))
    told = (
        "here: vote 0 on generation a is missing; 3 votes are like that; "
        "besides: is of way one_token, not votes (4), should not be there (1)"
    )
    with pytest.raises(TsrError) as refused:
        check_votes("votes", 2, generations(["a", "b", "c"]), votes, "here")
    assert str(refused.value) == told
