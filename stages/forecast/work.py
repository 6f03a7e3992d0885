"""What the plan's stages do: requests, tokens read and written, tokens trained on, passes and steps."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl

from stages import models, paths, plan
from stages.evaluate import fixed_ways
from stages.forecast.assumed import Assumed
from stages.forecast.lengths import Lengths
from stages.params import Profile

KINDS = ("prepare", "base", "eft", "sft", "generate", "judge", "score", "pair", "dpo", "measure", "evaluate", "report")


@dataclass(frozen=True)
class Asked:
    """Requests of one form to one engine (`generate` or `judge`). Tokens are of all of them together.

    `fresh` is what is read where equal prompts are read once, `head` the part of it with which all of them begin.
    """

    engine: str
    requests: int
    read: float
    written: float
    fresh: float
    head: float = 0.0


@dataclass(frozen=True)
class Task:
    """One stage of the plan.

    `trained` tokens go forward and backward, `forward` tokens only forward, one conversation in each of `passes`.
    """

    kind: str
    key: str = ""
    asked: tuple[Asked, ...] = ()
    trained: float = 0.0
    forward: float = 0.0
    passes: float = 0.0
    steps: int = 0
    done: bool = False
    kept: int = 0  # requests whose rows are there, where it is not done
    measured: bool = False  # its numbers are those of its table
    row: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """Return the stage's name, as DVC has it."""
        return f"{self.kind}@{self.key}" if self.key else self.kind

    @property
    def requests(self) -> int:
        """Return the requests of all forms."""
        return sum(part.requests for part in self.asked)

    @property
    def read(self) -> float:
        """Return the tokens of all prompts."""
        return sum(part.read for part in self.asked)

    @property
    def written(self) -> float:
        """Return the tokens that a model writes."""
        return sum(part.written for part in self.asked)

    @property
    def tokens(self) -> float:
        """Return what a measured rate is in: tokens read, written, trained on and passed forward."""
        return self.read + self.written + self.trained + self.forward

    @property
    def left(self) -> float:
        """Return the share that is still to be done."""
        if self.done:
            return 0.0
        return 1 - self.kept / self.requests if self.requests else 1.0


def tasks(profile: Profile, planned: dict[str, Any], lengths: Lengths, assumed: Assumed) -> list[Task]:
    """Return every stage of the plan for a profile, in the order of `dvc.yaml`, as if nothing were there."""
    yields = {name: _pairs(profile, row, lengths, assumed) for name, row in planned["learns"].items()}
    found = [Task(kind) for kind in KINDS if kind in ("prepare", "base", "eft", "report")]
    found.append(_sft(profile, lengths, assumed))
    for key, row in _rows(planned, "answers"):
        found.append(Task("generate", key, (_answers(profile, lengths, row["split"]),), row=row))
    for key, row in _rows(planned, "judges"):
        found += [Task("judge", key, (_votes(profile, lengths, row["split"], assumed),), row=row), Task("score", key)]
    for key, pairs in yields.items():
        dpo = _dpo(profile, lengths, key, pairs, planned["learns"][key])
        found += [Task("pair", key), dpo, _measure(profile, lengths, key, pairs)]
    found += [Task("evaluate", key, _evaluation(profile, lengths), row=row) for key, row in _rows(planned, "models")]
    return sorted(found, key=lambda task: KINDS.index(task.kind))


def _rows(planned: dict[str, Any], table: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from planned[table].items()


def prompts_of(profile: Profile, split: str, assumed: Assumed) -> int:
    """Return the rows of a split that are answered or, of those that came with responses, judged."""
    rated = getattr(profile.prepare, "eft_prompts", 0)
    counts = {
        "eval": profile.prepare.eval_prompts,
        "fixed": profile.prepare.fixed_responses,
        "rated": round(rated * assumed["rated_responses"]) if rated else 0,
    }
    return counts.get(split, profile.prepare.prompts_per_split)


def _answers(profile: Profile, lengths: Lengths, split: str) -> Asked:
    held_out = split == "eval"
    prompts = profile.prepare.eval_prompts if held_out else profile.prepare.prompts_per_split
    samples = profile.evaluate.samples if held_out else profile.generate.samples
    requests = prompts * samples
    fresh = prompts * lengths.prompt.value
    return Asked("generate", requests, fresh * samples, requests * lengths.response.value, fresh)


def _votes(profile: Profile, lengths: Lengths, split: str, assumed: Assumed) -> Asked:
    if split == "rated":
        judged = prompts_of(profile, split, assumed)
    elif split == "fixed":
        judged = profile.prepare.fixed_responses
    else:
        judged = profile.prepare.prompts_per_split * profile.generate.samples
    return _judged(lengths, judged, profile.judge.votes, lengths.reply.value)


def _judged(lengths: Lengths, judged: int, votes: int, reply: float) -> Asked:
    question = lengths.question.value + lengths.prompt.value + lengths.response.value
    head = judged * lengths.question.value  # the rubric comes first in every question
    return Asked("judge", judged * votes, judged * votes * question, judged * votes * reply, judged * question, head)


def _evaluation(profile: Profile, lengths: Lengths) -> tuple[Asked, ...]:
    fixed = profile.prepare.fixed_responses
    judged = [
        _judged(lengths, fixed, votes, 1.0 if way == "one_token" else lengths.reply.value)
        for way, votes in fixed_ways(profile.judge).items()
    ]
    return (_answers(profile, lengths, "eval"), *judged)


def _sft(profile: Profile, lengths: Lengths, assumed: Assumed) -> Task:
    sft = profile.sft
    eft = getattr(profile.prepare, "eft_examples", None)  # the micro world writes them; else rated responses give them
    if eft is None:
        rated = prompts_of(profile, "rated", assumed)
        eft = round(rated * assumed["eft_kept"]) if rated else 0
    if sft.steps:
        examples = sft.steps * sft.batch_size
        ift = round(examples * sft.ift_share)
        tokens = ift * lengths.ift.value + (examples - ift) * lengths.eft.value
        return Task("sft", trained=tokens, steps=sft.steps)
    ift = profile.prepare.ift_examples
    tokens = ift * lengths.ift.value + eft * lengths.eft.value
    return Task("sft", trained=tokens * sft.epochs, steps=sft.epochs * ceil((ift + eft) / sft.batch_size))


def _pairs(profile: Profile, row: dict[str, Any], lengths: Lengths, assumed: Assumed) -> int:
    """Return the pairs of a round; a yield that was measured of the same strategy, else of any, else assumed."""
    known = lengths.yields
    anyone = sum(known.values()) / len(known) if known else None
    share = known.get(row["strategy"], anyone)
    return round(profile.prepare.prompts_per_split * (assumed["yield"] if share is None else share))


def _dpo(profile: Profile, lengths: Lengths, key: str, pairs: int, row: dict[str, Any]) -> Task:
    """Return a training; the reference's log-probabilities are one pass forward over all pairs alone."""
    epochs, tokens = profile.dpo.epochs, pairs * lengths.pair.value
    steps = epochs * ceil(pairs / profile.dpo.batch_size)
    again = steps * _replay(profile, row) * lengths.eft.value
    return Task("dpo", key, trained=epochs * tokens + again, forward=tokens, steps=steps)


def _replay(profile: Profile, row: dict[str, Any]) -> int:
    """Return how many judging examples a round learns again beside the pairs of a step."""
    if row["trainer"] != plan.DPO:
        return 0
    return profile.dpo.replay if row["replay"] == plan.AS_SET else int(row["replay"])


def _measure(profile: Profile, lengths: Lengths, key: str, pairs: int) -> Task:
    """Return a measurement: each side goes twice through the policy, once through what was learned, one at a time."""
    asked = min(profile.measure.gradient_pairs, pairs)
    return Task(
        "measure", key, trained=asked * lengths.pair.value, forward=3 * pairs * lengths.pair.value, passes=6.0 * pairs
    )


def as_it_was(task: Task, profile: Profile) -> Task:
    """Return a finished task with the numbers of its own tables, where these have any."""
    if task.kind in ("generate", "judge") and (path := _table(task)).is_file():
        one = task.asked[0]
        requests, read, written = _counted(path)
        scale = read / one.read if one.read else 0.0
        asked = Asked(one.engine, requests, read, written, scale * one.fresh, scale * one.head)
        return replace(task, asked=(asked,), measured=True)
    if task.kind in ("sft", "dpo", "measure"):
        return _trained(task, profile)
    return task


def _trained(task: Task, profile: Profile) -> Task:
    name = task.key or "M0"
    told, made = paths.measures_json(name), paths.model(name) / models.MADE_BY
    steps = models.read_json(made)["steps"] if task.kind != "measure" and made.is_file() else task.steps
    if task.kind == "sft" or not told.is_file():
        return replace(task, steps=steps)
    round_ = models.read_json(told)
    tokens = (round_["tokens_trained"] - round_.get("tokens_replayed", 0)) / profile.dpo.epochs
    if task.kind == "dpo":
        return replace(task, trained=float(round_["tokens_trained"]), forward=tokens, steps=steps, measured=True)
    asked = min(profile.measure.gradient_pairs, round_["pairs"]) / max(round_["pairs"], 1)
    return replace(task, trained=asked * tokens, forward=3 * tokens, passes=6.0 * round_["pairs"], measured=True)


def _table(task: Task) -> Path:
    row = task.row
    if task.kind == "generate":
        return paths.generations(row["model"], row["split"])
    return paths.judgments(row["judge"], row["model"], row["split"])


def _counted(path: Path) -> tuple[int, float, float]:
    """Return rows, tokens read and tokens written of a table."""
    rows, read, written = (
        pl.scan_parquet(path)
        .select(pl.len(), pl.col("prompt_tokens").sum(), pl.col("response_tokens").sum())
        .collect()
        .row(0)
    )
    return int(rows), float(read or 0), float(written or 0)
