"""Judging examples beside the pairs: which ones, how they are batched, what they do to a training."""

from collections import Counter

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
        replay = Replay(examples, 4, processes * times, times)
        for step in range(2):
            for _ in range(times):
                batch = replay.batch(step, process)
                assert batch["input_ids"].shape[0] == 4 // (processes * times)
                seen.update(batch["input_ids"][:, 0].tolist())
    assert seen == dict.fromkeys(range(0, 80, 10), 1)


def test_only_answers_are_learned_and_padding_is_not_seen() -> None:
    batch = Replay([example(1, 3), example(100, 6)], 2, 1, 1).batch(0, 0)
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, -100, -100], [-100, -100, -100, -100, 104, 105]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert Replay([example(1, 3), example(100, 6)], 1, 1, 1).tokens(1) == 6


def fitted(name: str, replay: int | None, **changed: int) -> list[dict[str, float]]:
    from stages.dpo import fit
    from stages.params import load

    settings = load().block
    settings = settings.model_copy(update={"training": settings.training.model_copy(update=changed)})
    pairs = tables.read("pairs", paths.pairs("sr-1"))
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
