"""HumanEval's items: the program that an answer makes, and whether it passes its tests, in the sandbox."""

from typing import Any

from stages.benchmark.sandbox import Program, passes
from stages.progress import progress

FENCE = "```"


def judged(task: str, samples: list[dict[str, Any]], seconds: float) -> list[str]:
    """Return for each sample of lm-eval's why its code does not pass, an empty text where it does."""
    told = []
    with progress(f"{task}: code in the sandbox", len(samples), "programs") as advance:
        for sample in samples:
            told.append(passes(program(task, sample["doc"], str(sample["resps"][0][0])), seconds))
            advance(failed=0)
    return told


def program(task: str, item: dict[str, Any], answer: str) -> Program:
    """Return the program of an answer that goes on from the prompt; a chat model's ends where its code block does."""
    text = answer.split(FENCE, maxsplit=1)[0] if task == "humaneval_instruct" else answer
    return Program(item["prompt"] + text, item["entry_point"], item["prompt"], item["test"])
