"""The made-up world: the six operations, the verifier, two teachers that err apart, and the splits."""

import string
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import parse as parse_by

from stages.sources import VERIFIERS
from stages.sources.micro_prompts import Settings, fixed_set, prompt_splits
from stages.sources.micro_world import FACTS, OPERATIONS, World, image, parse_prompt, score_of, verify

parse = partial(parse_by, "micro")
few = settings(derandomize=True, max_examples=50, deadline=None, database=None)
ops = st.sampled_from(list(OPERATIONS))
words = st.text(alphabet=string.ascii_lowercase, min_size=6, max_size=6)

SETTINGS = Settings(
    source="micro_world",
    splits=2,
    prompts_per_split=30,
    eval_prompts=20,
    fixed_responses=120,
    ift_examples=200,
    eft_examples=600,
    misconceptions=0.7,
    slip=0.7,
    judge_errors=0.08,
)


def world(seed: int = 7, misconceptions: float = 0.7, judge_errors: float = 0.08, slip: float = 0.7) -> World:
    """A world as in the micro profile."""
    return World(seed, misconceptions, judge_errors, slip)


@pytest.mark.parametrize(
    ("op", "word", "answer"),
    [
        ("next", "kitten", "ljuufo"),
        ("next", "zzzzzz", "aaaaaa"),
        ("prev", "ljuufo", "kitten"),
        ("half", "nopqrs", "abcdef"),
        ("leap", "abcxyz", "fghcde"),
        ("flip", "abcxyz", "zyxcba"),
        ("swap", "abcdyz", "badczy"),
    ],
)
def test_operations_by_hand(op: str, word: str, answer: str) -> None:
    assert "".join(image(op, letter) for letter in word) == answer
    assert verify(f"{op} {word}", answer) == 5


def test_an_operation_permutes_letters_and_names_are_of_one_length() -> None:
    assert all(sorted(images) == list(string.ascii_lowercase) for images in OPERATIONS.values())
    assert {len(op) for op in OPERATIONS} == {4}


def test_scores_by_hand() -> None:
    assert [score_of(right) for right in range(7)] == [0, 1, 2, 3, 3, 4, 5]


@few
@given(ops, words, st.sets(st.integers(0, 5)))
def test_the_score_counts_right_positions(op: str, word: str, wrong: set[int]) -> None:
    answer = "".join("?" if i in wrong else image(op, a) for i, a in enumerate(word))
    assert verify(f"{op} {word}", answer) == score_of(6 - len(wrong))


@pytest.mark.parametrize("response", ["", "ljuuf", "ljuufoo", " ljuufo", "LJUUFO", "=5", "score: 5"])
def test_what_is_not_an_answer_gets_0(response: str) -> None:
    assert VERIFIERS["micro_world"]("next kitten", response) == 0


@pytest.mark.parametrize("text", ["", "next", "next kitte", "next kittens", "jump kitten", "next KITTEN", "judge next"])
def test_what_is_not_a_prompt_is_none(text: str) -> None:
    assert parse_prompt(text) is None
    assert verify(text, "ljuufo") == 0


def test_the_teachers_err_on_the_share_of_facts_they_should() -> None:
    made = world()
    for beliefs, share in ((made.answer_beliefs, 0.7), (made.judge_beliefs, 0.08)):
        wrong = sum(beliefs[fact] != image(*fact) for fact in FACTS)
        assert wrong == round(share * len(FACTS))
    assert world(misconceptions=0.0).answer_beliefs == {fact: image(*fact) for fact in FACTS}


def test_slip_is_how_often_a_misconception_shows() -> None:
    rng = np.random.default_rng(0)
    made = world(misconceptions=1.0, slip=0.7)
    answers = [made.teacher_answer(rng, "next", "abcdef") for _ in range(500)]
    slips = np.mean([b != image("next", a) for answer in answers for a, b in zip("abcdef", answer, strict=True)])
    assert abs(slips - 0.7) < 0.03
    assert world(slip=0.0).teacher_answer(rng, "next", "kitten") == "ljuufo"


@few
@given(ops, words, st.integers(0, 6), st.integers(0, 99))
def test_the_judging_teacher_replies_as_the_parser_reads(op: str, word: str, right: int, seed: int) -> None:
    answer = world().answer_with(np.random.default_rng(seed), op, word, right)
    reply = world().teacher_judgment(op, word, answer)
    assert parse(reply) == score_of(right)
    assert reply.count("+") == right


def test_a_perfect_judge_agrees_with_the_truth() -> None:
    made = world(judge_errors=0.0)
    assert parse(made.teacher_judgment("next", "kitten", "ljuxxo")) == verify("next kitten", "ljuxxo")


def test_splits_have_their_sizes_and_share_no_prompt() -> None:
    splits = prompt_splits(world(), SETTINGS)
    fixed, responses = fixed_set(world(), SETTINGS)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "eval": 20,
        "r0": 30,
        "r1": 30,
        "ift": 200,
        "eft": 600,
    }
    asked = [row["messages"][-1]["content"].removeprefix("judge ") for rows in splits.values() for row in rows]
    heads = [text[:5] + (text[5:] if " " not in text[5:] else text[5::3]) for text in asked]
    heads += [row["messages"][-1]["content"] for row in fixed]
    assert len(heads) == len(set(heads))
    assert [r["prompt_id"] for r in responses] == [p["prompt_id"] for p in fixed]


def test_judgments_are_balanced_over_the_scores() -> None:
    rows = prompt_splits(world(), SETTINGS)["eft"]
    counts = np.bincount([int(parse(row["reference"]) or 0) for row in rows], minlength=6)
    assert counts.min() > 60
    assert counts.max() < 140


def test_more_rounds_change_no_prompt_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so few words that splits get into each other's way."""
    words = "stages.sources.micro_world._word"
    monkeypatch.setattr(words, lambda rng: "".join("ab"[i] for i in rng.integers(2, size=6)))
    small = SETTINGS.model_copy(update={"fixed_responses": 30, "ift_examples": 60, "eft_examples": 60})
    before = prompt_splits(world(), small)
    after = prompt_splits(world(), small.model_copy(update={"splits": 4, "ift_examples": 90, "eft_examples": 70}))
    assert all(after[split] == before[split] for split in ("eval", "r0", "r1"))
    assert fixed_set(world(), small) == fixed_set(world(), small.model_copy(update={"splits": 4}))


def test_the_seed_decides_the_world() -> None:
    assert prompt_splits(world(), SETTINGS) == prompt_splits(world(), SETTINGS)
    assert prompt_splits(world(), SETTINGS)["r0"] != prompt_splits(world(seed=8), SETTINGS)["r0"]
    assert world().judge_beliefs != world(seed=8).judge_beliefs
