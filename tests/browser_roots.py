"""Dataset roots for the pair browser: one as an import makes it, one as the pipeline does, with its plan."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages import paths, plan, tables
from stages.candidates import Sides, read_candidates
from stages.ids import content_id, prompt_id
from stages.pair import make_pairs
from stages.params import Arms, Pair

NASTY = '<script>window.pwned = 1</script> <img src="http://example.invalid/a.png"> http://example.invalid/b.png'
VOTES = 3


def _message(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def write_prompts(split: str, texts: list[str]) -> list[str]:
    """Write a split and return its ids, in the order of the texts."""
    ids = [prompt_id(_message("user", text)) for text in texts]
    base = {"split": split, "source": "made", "reference": None, "meta": "{}"}
    rows = [base | {"prompt_id": i, "messages": _message("user", t)} for i, t in zip(ids, texts, strict=True)]
    tables.write("prompts", tables.frame("prompts", rows), paths.prompts(split))
    return ids


def write_answers(model: str, judge: str, split: str, answers: dict[str, tuple[str, list[float | None]]]) -> None:
    """Write a model's response to each prompt, {prompt_id: (response, votes)}, with what is not known left null."""
    made, judged, scored = [], [], []
    for asked, (response, votes) in answers.items():
        gid = content_id("generation", model, asked)
        made.append(_generation(gid, model, asked, response))
        judged += [_vote(gid, judge, number, vote) for number, vote in enumerate(votes)]
        known = [vote for vote in votes if vote is not None]
        scored.append(_score(gid, model, judge, len(votes), known))
    tables.write("generations", tables.frame("generations", made), paths.generations(model, split))
    tables.write("judgments", tables.frame("judgments", judged), paths.judgments(judge, model, split))
    tables.write("scores", tables.frame("scores", scored), paths.scores(judge, model, split))


def _generation(gid: str, model: str, asked: str, response: str) -> dict[str, Any]:
    unknown = dict.fromkeys(["model_hash", "seed", "error", "prompt_tokens", "response_tokens", "logprob_sum"])
    made = {"generation_id": gid, "model": model, "prompt_id": asked, "sample_id": 0, "response": response}
    return unknown | made | {"finish_reason": "stop", "status": "ok", "backend": "import"}


def _vote(gid: str, judge: str, number: int, vote: float | None) -> dict[str, Any]:
    unknown = dict.fromkeys(["judge_hash", "rubric_hash", "seed", "digit_logprobs", "error"])
    unknown |= dict.fromkeys(["prompt_tokens", "response_tokens"])
    told = {"generation_id": gid, "judge": judge, "way": "given", "vote_id": number, "given_score": vote}
    return unknown | told | {"raw": f"vote says {vote}", "finish_reason": "stop", "status": "ok", "backend": "import"}


def _score(gid: str, model: str, judge: str, n_votes: int, known: list[float]) -> dict[str, Any]:
    status = "unparsed" if not known else "ok" if len(known) == n_votes else "partial"
    series = pl.Series(known, dtype=pl.Float64)
    told = {"score": series.mean(), "score_std": series.std(ddof=0), "parse_status": status}
    return {"generation_id": gid, "model": model, "judge": judge, "n_votes": n_votes, "n_parsed": len(known)} | told


def write_pairs(name: str, strategy: str, sides: Sides) -> None:
    """Make pairs of what was written."""
    prompts = tables.read("prompts", paths.prompts(sides.split))
    pairs, dropped = make_pairs(Pair(min_gap=0.0, parameters={}), name, strategy, prompts, read_candidates(sides))
    tables.write("pairs", pairs, paths.pairs(name))
    tables.write("dropped", dropped, paths.dropped(name))


def imported(root: Path) -> Path:
    """Make a root with 30 prompts, two models and a judge of three votes: 28 pairs, a tie, and one without a score."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSR_DATA", str(root))
        ids = write_prompts("test", [f"Explain number {n} to a child." for n in range(28)] + ["tied", "silent"])
        for model, score in (("alpha", 4.0), ("beta", 2.0)):
            answers = {
                asked: (f"{model} says that {n} is a number of apples", [score, score, score + n % 3 / 2])
                for n, asked in enumerate(ids)
            }
            answers[ids[0]] = (f"{model} {NASTY}", [score] * VOTES)
            answers[ids[28]] = (f"{model} tied", [3.0] * VOTES)
            answers[ids[29]] = (f"{model} silent", [None] * VOTES)
            write_answers(model, "rater", "test", answers)
        write_pairs("mine", "self_rewarding", Sides("rater", "test", "*", "*", "*"))
    return root


def planned(folder: Path) -> Path:
    """Make a project folder with a plan and the pairs of sr-1 and tsr-1; return its data folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("TSR_DATA", raising=False)
        Path("stages").mkdir()
        plan.write(plan.build(Arms(sr=1, tsr=1, past_only=1)))
        ids = write_prompts("r0", [f"next word{n}" for n in range(6)])
        for model, shift in (("M0", 0), ("sr-1", 2)):
            answers = {asked: (f"{model}answer{n}", [float(n + shift)]) for n, asked in enumerate(ids)}
            write_answers(model, "M0", "r0", answers)
        write_pairs("tsr-1", "future_guided", Sides("M0", "r0", "M0", "M0", "sr-1"))
        write_pairs("sr-1", "self_rewarding", Sides("M0", "r0", "M0", "M0", "M0"))
    return folder / "data"
