"""Judging examples learned again beside the pairs of a step, so that a model that judges itself does not forget how.

The paper (arXiv 2508.06026) has no such thing: it is off unless `dpo.replay`, or an arm of one's own, asks for it.
"""

import os
from typing import TYPE_CHECKING

import polars as pl
import torch

from stages import paths, tables
from stages.errors import TsrError
from stages.features import Tokens, encode
from stages.ids import seed_for
from stages.lengths import answer, within

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from stages.training import Job

_NO_LABEL = -100  # of a token that nothing is learned from


class Replay:
    """A training's judging examples: `count` a step, in equal shares for its processes.

    `left_out` are those beyond max_tokens, of which none is drawn.
    """

    def __init__(self, examples: list[Tokens], count: int, processes: int, left_out: int = 0) -> None:
        self._examples, self._count, self._processes = examples, count, processes
        self.left_out = left_out
        self._at = (-1, 0)  # a step, and how many of its batches this process has had

    def batch(self, step: int, process: int, times: int) -> dict[str, torch.Tensor]:
        """Return the next of the `times` batches that a process holds in a step, (rows, tokens), padded at the right.

        Only answers have labels. The last step of an epoch may have fewer: they share its examples all the same.
        """
        had = self._at[1] if self._at[0] == step else 0
        self._at = (step, had + 1)
        share = self._count // self._processes
        first = step * self._count + process * share
        return _padded(self._examples[first + share * had // times : first + share * (had + 1) // times])

    def tokens(self, step: int) -> int:
        """Return how many tokens the examples of a step have."""
        return sum(one.ids.shape[1] for one in self._of(step))

    def weight(self, step: int, batch: dict[str, torch.Tensor], times: int) -> float:
        """Return what a batch's mean loss counts, so that a step's mean over batches is that over its tokens."""
        learned = sum(one.ids.shape[1] - one.start for one in self._of(step))
        here = int((batch["labels"] != _NO_LABEL).sum())
        return here * times * self._processes / learned

    def _of(self, step: int) -> list[Tokens]:
        return self._examples[step * self._count : (step + 1) * self._count]


def of(job: "Job", tokenizer: "PreTrainedTokenizerBase", steps: int) -> Replay:
    """Return what a training of so many steps learns again: the judging examples of SFT, drawn by the training's seed.

    Raises TsrError where there are none, or where a step's do not divide into its batches.
    """
    from stages.training import rows_a_step

    count, path = int(job.schedule.model_dump()["replay"]), paths.eft()
    _, times = rows_a_step(job)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    parts = times * processes
    if count % parts:
        raise TsrError(f"params.yaml: dpo.replay {count} is no multiple of the {parts} batches that a step is held in")
    rows = tables.read("prompts", path).drop_nulls("reference")
    asked = rows.select("prompt_id", prompt="messages", completion=answer(pl.col("reference")))
    kept, left_out = within(asked.sort("prompt_id"), tokenizer, ("completion",), job.schedule.max_tokens)
    if not kept.height:
        raise TsrError(f"{path}: no judging examples; dpo.replay {count} needs some")
    order = drawn(kept.height, steps * count, job.seed)
    known = kept.select("prompt", "completion").rows(named=True)
    encoded = {place: encode(tokenizer, known[place]["prompt"], known[place]["completion"]) for place in set(order)}
    return Replay([encoded[place] for place in order], count, processes, left_out)


def drawn(rows: int, count: int, seed: int) -> list[int]:
    """Return `count` of the places 0 .. rows - 1 by lot; none comes again before all have come."""
    found: list[int] = []
    for again in range(-(-count // rows)):
        places = pl.Series(range(rows)).shuffle(seed=seed_for(seed, "replay", again))
        found += places.to_list()
    return found[:count]


def _padded(examples: list[Tokens]) -> dict[str, torch.Tensor]:
    """Return examples of different lengths as one batch."""
    width = max(one.ids.shape[1] for one in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)  # behind an example any token will do: none looks there
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, _NO_LABEL)
    for row, one in enumerate(examples):
        length = one.ids.shape[1]
        ids[row, :length], mask[row, :length] = one.ids[0], 1
        labels[row, one.start : length] = one.ids[0, one.start :]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
