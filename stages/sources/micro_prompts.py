"""The source `micro_world`: prompts and supervised examples of a made-up world.

Writes `data/prompts/{ift,eft,eval,fixed,r0,r1,...}.parquet` and `data/generations/world/fixed.parquet`,
the responses that every judge scores so that its drift can be seen.
"""

import json
from typing import Any, Literal

import numpy as np

from stages import paths, tables
from stages.block import Block, Count, Share
from stages.ids import content_id, prompt_id, seed_for
from stages.rubrics.micro import ask
from stages.sources.micro_world import TOP_SCORE, WORD_LENGTH, World, score_of

Row = dict[str, Any]

# score -> the numbers of right positions that give it
_RIGHT = {s: [n for n in range(WORD_LENGTH + 1) if score_of(n) == s] for s in range(TOP_SCORE + 1)}


class Settings(Block):
    """The block `prepare` of a profile whose source is `micro_world`: splits and teachers."""

    source: Literal["micro_world"]
    splits: Count
    prompts_per_split: Count
    eval_prompts: Count
    fixed_responses: Count
    ift_examples: Count
    eft_examples: Count
    misconceptions: Share
    slip: Share
    judge_errors: Share


def run(seed: int, settings: Settings) -> None:
    """Write all prompt splits and the fixed set."""
    world = World(seed, settings.misconceptions, settings.judge_errors, settings.slip)
    for split, rows in prompt_splits(world, settings).items():
        tables.write("prompts", tables.frame("prompts", rows), paths.prompts(split))
    prompts, responses = fixed_set(world, settings)
    tables.write("prompts", tables.frame("prompts", prompts), paths.prompts("fixed"))
    tables.write("generations", tables.frame("generations", responses), paths.generations(paths.WORLD, "fixed"))
    # Nobody rates this world's responses: what other sources have of that is here too, without rows.
    for table, path in (
        ("prompts", paths.prompts("rated")),
        ("generations", paths.generations(paths.WORLD, "rated")),
        ("scores", paths.scores(paths.HUMAN, paths.WORLD, "rated")),
    ):
        tables.write(table, tables.frame(table, []), path)


def prompt_splits(world: World, settings: Settings) -> dict[str, list[Row]]:
    """Return split -> rows of `prompts`; no prompt stands in two splits.

    Held-out splits are drawn first, so that more rounds or examples change no prompt already there.
    """
    taken: set[str] = set()
    world.prompts("fixed", settings.fixed_responses, taken)
    answered = {"eval": settings.eval_prompts}
    answered |= {f"r{i}": settings.prompts_per_split for i in range(settings.splits)}
    answered |= {"ift": settings.ift_examples}
    splits = {split: _answered(world, split, count, taken) for split, count in answered.items()}
    splits["eft"] = _judged(world, settings.eft_examples, taken)
    return splits


def _answered(world: World, split: str, count: int, taken: set[str]) -> list[Row]:
    """Return prompts with the answering teacher's answer as reference."""
    rng = np.random.default_rng(seed_for(world.seed, "answers", split))
    return [
        _row(p["messages"], split, world.teacher_answer(rng, p["op"], p["word"]), {"op": p["op"]})
        for p in world.prompts(split, count, taken)
    ]


def _judged(world: World, count: int, taken: set[str]) -> list[Row]:
    """Return judge prompts with the judging teacher's reply as reference, balanced over its scores."""
    rng = np.random.default_rng(seed_for(world.seed, "judgments"))
    rows = []
    for p in world.prompts("eft", count, taken):
        answer = world.answer_with(rng, p["op"], p["word"], _right_positions(rng))
        messages = ask.judge_prompt(p["messages"], answer)
        rows.append(_row(messages, "eft", world.teacher_judgment(p["op"], p["word"], answer), {"op": p["op"]}))
    return rows


def fixed_set(world: World, settings: Settings) -> tuple[list[Row], list[Row]]:
    """Return prompts and responses of the fixed set, balanced over the scores the judging teacher gives."""
    rng = np.random.default_rng(seed_for(world.seed, "fixed answers"))
    prompts, responses = [], []
    for p in world.prompts("fixed", settings.fixed_responses, set()):
        prompt = _row(p["messages"], "fixed", None, {"op": p["op"]})
        answer = world.answer_with(rng, p["op"], p["word"], _right_positions(rng))
        prompts.append(prompt)
        responses.append(_fixed_response(prompt["prompt_id"], answer))
    return prompts, responses


def _right_positions(rng: np.random.Generator) -> int:
    options = _RIGHT[int(rng.integers(TOP_SCORE + 1))]
    return options[int(rng.integers(len(options)))]


def _row(messages: list[dict[str, str]], split: str, reference: str | None, meta: dict[str, str]) -> Row:
    return {
        "prompt_id": prompt_id(messages),
        "split": split,
        "source": "micro_world",
        "messages": messages,
        "reference": reference,
        "meta": json.dumps(meta, sort_keys=True),
    }


def _fixed_response(pid: str, answer: str) -> Row:
    return {
        "generation_id": content_id("generation", paths.WORLD, pid, answer),
        "model": paths.WORLD,
        "model_hash": "none",
        "prompt_id": pid,
        "sample_id": 0,
        "seed": 0,
        "response": answer,
        "finish_reason": "stop",
        "status": "ok",
        "error": None,
        "prompt_tokens": 0,
        "response_tokens": len(answer) + 1,
        "logprob_sum": 0.0,
        "backend": "none",
    }
