"""Judging examples beside the pairs: which ones, how they are batched, what they do to a training."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from pipeline_file import PARAMS
from small_run import Run

from stages import models, paths, tables
from stages.errors import TsrError
from stages.features import Tokens
from stages.replay import Replay, drawn

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")


def example(first: int, length: int) -> Tokens:
    """An example whose tokens count up from `first`, with an answer of two tokens."""
    return Tokens(torch.arange(first, first + length)[None], length - 2)


def test_none_is_drawn_again_before_all_were() -> None:
    places = drawn(5, 12, seed=3)
    assert len(places) == 12
    assert sorted(places[:5]) == sorted(places[5:10]) == list(range(5))
    assert places[:5] != places[5:10], "each pass has an order of its own"
    assert drawn(5, 12, seed=3) == places != drawn(5, 12, seed=4)
    assert drawn(5, 7, seed=3) == places[:7], "a longer training draws the same ones first"


@pytest.mark.parametrize(("processes", "times"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_every_example_of_a_step_is_in_one_batch(processes: int, times: int) -> None:
    examples = [example(10 * place, 4) for place in range(8)]
    seen: Counter[int] = Counter()
    for process in range(processes):
        replay = Replay(examples, 4, processes)
        for step in range(2):
            for _ in range(times):
                batch = replay.batch(step, process, times)
                assert batch["input_ids"].shape[0] == 4 // (processes * times)
                seen.update(batch["input_ids"][:, 0].tolist())
    assert seen == dict.fromkeys(range(0, 80, 10), 1)


def test_only_answers_are_learned_and_padding_is_not_seen() -> None:
    batch = Replay([example(1, 3), example(100, 6)], 2, 1).batch(0, 0, 1)
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, -100, -100], [-100, -100, -100, -100, 104, 105]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert Replay([example(1, 3), example(100, 6)], 1, 1).tokens(1) == 6


@pytest.mark.parametrize(("processes", "times"), [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)])
def test_parts_of_a_step_count_by_their_tokens(processes: int, times: int) -> None:
    """The mean over parts of the weighed means is the mean over all labelled tokens; a short step shares all too."""
    examples = [Tokens(torch.arange(length)[None], 1) for length in (3, 9, 2, 5)]
    parts = []
    for process in range(processes):
        replay = Replay(examples, 4, processes)
        for _ in range(times):
            batch = replay.batch(0, process, times)
            values = batch["labels"][batch["labels"] != -100].double()
            parts.append(float(values.mean()) * replay.weight(0, batch, times))
    everything = torch.cat([one.ids[0, one.start :] for one in examples]).double()
    assert sum(parts) / len(parts) == pytest.approx(float(everything.mean()))
    if processes * times == 1:
        assert replay.weight(0, batch, 1) == 1.0, "nothing is weighed where a step is not divided"


def test_how_a_step_is_divided_changes_nothing_but_rounding(run: Run) -> None:
    ways = {"at-once": {}, "in-halves": {"rows_at_once": 2}, "one-by-one": {"rows_at_once": 1}}
    # Four pairs fill a step: in a shorter one DPO's own mean depends on its parts.
    logs = {name: [e for e in fitted(name, 4, "tsr-1", 4, **how) if "loss" in e] for name, how in ways.items()}
    assert [len(log) for log in logs.values()] == [2, 2, 2]
    whole = models.load_model(paths.model("at-once")).state_dict()
    for name in ("in-halves", "one-by-one"):
        for one, other in zip(logs[name], logs["at-once"], strict=True):
            assert one["replay/loss"] == pytest.approx(other["replay/loss"], rel=1e-4)
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        for key, weights in models.load_model(paths.model(name)).state_dict().items():
            torch.testing.assert_close(weights, whole[key], rtol=1e-3, atol=1e-4, msg=f"{name}: {key}")


def test_a_step_that_is_not_full_learns_all_its_examples_too(run: Run) -> None:
    assert tables.read("pairs", paths.pairs("sr-1")).height == 3, "of four in a step"
    first = [fitted("short-step", 4, rows_at_once=rows)[0]["replay/loss"] for rows in (4, 2, 1)]
    assert first == pytest.approx([first[0]] * 3, rel=1e-4)


def test_examples_that_are_too_long_are_counted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eft = tables.read("prompts", paths.eft())
    longer = pl.when(pl.int_range(pl.len()) < 2).then(pl.col("reference") + " 1" * 150).otherwise("reference")
    tables.write("prompts", eft.with_columns(reference=longer), tmp_path / "eft.parquet")
    monkeypatch.setattr(paths, "eft", lambda: tmp_path / "eft.parquet")
    fitted("short", 4, max_tokens=200)
    made = models.read_json(paths.model("short") / models.MADE_BY)
    assert made["replay_left_out"] == 2
    assert made["schedule"]["max_tokens"] == 200
    fitted("none-asked-for", None)
    assert "replay_left_out" not in models.read_json(paths.model("none-asked-for") / models.MADE_BY)


def fitted(
    name: str, replay: int | None, key: str = "sr-1", rows: int = 100, max_tokens: int = 0, **changed: int
) -> list[dict[str, float]]:
    from stages.dpo import fit
    from stages.params import load

    settings = load().block
    update: dict[str, Any] = {"training": settings.training.model_copy(update=changed)}
    if max_tokens:
        update["dpo"] = settings.dpo.model_copy(update={"max_tokens": max_tokens})
    settings = settings.model_copy(update=update)
    pairs = tables.read("pairs", paths.pairs(key)).head(rows)
    return fit(PARAMS["seed"], settings, name, paths.model("M0"), pairs, steps=2, replay=replay)


def test_a_training_with_replay_learns_both_and_says_so(run: Run) -> None:
    with_replay, without = fitted("replayed", 4), fitted("plain", None)
    steps = [entry for entry in with_replay if "loss" in entry]
    assert [entry["loss"] > entry["replay/loss"] > 0 for entry in steps] == [True, True]
    assert all(entry["replay/tokens"] > 0 for entry in steps)
    assert not any("replay/loss" in entry for entry in without)
    assert models.model_hash(paths.model("replayed")) != models.model_hash(paths.model("plain"))
    assert models.read_json(paths.model("replayed") / models.MADE_BY)["schedule"]["replay"] == 4
    fitted("again", 4)
    assert models.model_hash(paths.model("again")) == models.model_hash(paths.model("replayed"))
    assert [entry["replay/tokens"] for entry in fitted("halves", 4, rows_at_once=2) if "loss" in entry] == [
        entry["replay/tokens"] for entry in steps
    ], "a step has the same examples however many it holds at once"


def test_what_does_not_divide_is_refused(run: Run) -> None:
    with pytest.raises(TsrError, match=r"^params\.yaml: dpo\.replay 3 is no multiple of the 2 batches that a step"):
        fitted("uneven", 3, rows_at_once=2)
