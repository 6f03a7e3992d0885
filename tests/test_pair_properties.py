"""What must hold of pairs whatever the candidates are."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import candidates, prompts

from stages.pair import make_pairs
from stages.params import Pair

NAMES = ("self_rewarding", "anchored_rejection", "future_guided")
PROMPTS = "opqrst"
few = settings(derandomize=True, max_examples=8, deadline=None, database=None)


@st.composite
def drawn(draw: st.DrawFn, roles: tuple[str, ...] = ("own", "anchor", "future")) -> list[dict[str, Any]]:
    """Candidate rows of a few prompts, with ties, nulls, truncation, equal texts and holes."""
    row = st.fixed_dictionaries(
        {
            "prompt": st.sampled_from(PROMPTS),
            "role": st.sampled_from(roles),
            "score": st.sampled_from([None, 0, 1, 1, 2, 5]),
            "response": st.sampled_from(["x", "y", "z"]),
            "finish": st.sampled_from(["stop", "stop", "stop", "length"]),
        }
    )
    rows = draw(st.lists(row, min_size=4, max_size=40))
    ids = draw(st.permutations(range(len(rows))))
    return [row | {"id": f"g{number:02}"} for row, number in zip(rows, ids, strict=True)]


def paired(rows: list[dict[str, Any]], name: str, asked: str = PROMPTS, min_gap: float = 0.0) -> tuple[Any, Any]:
    """Pairs and drops, each in the order of prompts."""
    made = make_pairs(Pair(min_gap=min_gap, parameters={}), "m", name, prompts(list(asked)), candidates(rows))
    return made[0].sort("prompt_id"), made[1].sort("prompt_id")


def choice(pairs: pl.DataFrame) -> list[dict[str, Any]]:
    """What was chosen, without the strategy's name."""
    return pairs.drop("strategy", "pair_id").to_dicts()


@pytest.mark.parametrize("name", NAMES)
@few
@given(rows=drawn(), min_gap=st.sampled_from([0.0, 1.0, 3.5]))
def test_every_prompt_ends_once_and_every_pair_is_one(name: str, rows: list[dict[str, Any]], min_gap: float) -> None:
    pairs, dropped = paired(rows, name, min_gap=min_gap)
    assert sorted([*pairs["prompt_id"], *dropped["prompt_id"]]) == list(PROMPTS)
    assert not dropped["reason"].has_nulls()
    by_id = {row["id"]: row for row in rows}
    for row in pairs.iter_rows(named=True):
        assert row["chosen_id"] != row["rejected_id"]
        assert row["chosen"] != row["rejected"]
        assert row["chosen_score"] - row["rejected_score"] > min_gap
        for side in ("chosen", "rejected"):
            source = by_id[row[f"{side}_id"]]
            assert source["prompt"] == row["prompt_id"]
            assert source["finish"] == "stop"
            assert source["score"] == row[f"{side}_score"]
            assert source["response"] == row[side][0]["content"]


@pytest.mark.parametrize("name", NAMES)
@few
@given(rows=drawn(), data=st.data())
def test_order_of_candidates_changes_nothing(name: str, rows: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    before, after = paired(rows, name), paired(shuffled, name, asked=PROMPTS[::-1])
    assert before[0].equals(after[0])
    assert before[1].equals(after[1])


@pytest.mark.parametrize("name", NAMES)
@few
@given(rows=drawn())
def test_another_prompt_changes_no_pair(name: str, rows: list[dict[str, Any]]) -> None:
    other = [
        {"prompt": "z", "role": role, "id": f"z{role}{score}", "score": score}
        for role in {row["role"] for row in rows} | {"own"}
        for score in (0, 5)
    ]
    before, after = paired(rows, name), paired([*rows, *other], name, asked=PROMPTS + "z")
    assert before[0].equals(after[0].filter(pl.col("prompt_id") != "z"))
    assert before[1].equals(after[1].filter(pl.col("prompt_id") != "z"))


@few
@given(rows=drawn(roles=("own",)))
def test_anchored_rejection_with_itself_as_anchor_is_self_rewarding(rows: list[dict[str, Any]]) -> None:
    assert choice(paired(rows, "anchored_rejection")[0]) == choice(paired(rows, "self_rewarding")[0])


@few
@given(rows=drawn(roles=("own", "anchor")))
def test_future_guided_with_itself_as_future_is_anchored_rejection(rows: list[dict[str, Any]]) -> None:
    assert choice(paired(rows, "future_guided")[0]) == choice(paired(rows, "anchored_rejection")[0])


@few
@given(rows=drawn())
def test_anchor_and_future_never_narrow_a_gap(rows: list[dict[str, Any]]) -> None:
    whole = {row["prompt"] for row in rows}
    for role in {row["role"] for row in rows} | {"own"}:
        whole &= {row["prompt"] for row in rows if row["role"] == role}
    gaps = [dict(paired(rows, name)[0]["prompt_id", "gap"].iter_rows()) for name in NAMES]
    for prompt in whole:
        shown = [gap[prompt] for gap in gaps if prompt in gap]
        assert shown == sorted(shown)
