"""Made-up rows of the schemas that the source `chat_data` reads."""

import json
from pathlib import Path
from typing import Any

from stages.sources.chat_data import Settings

Row = dict[str, Any]
FEW = {
    "oasst": ["oasst.jsonl"],
    "ultrafeedback": ["ultrafeedback.jsonl"],
    "files": ["mine.jsonl"],
    "language": "en",
    "turns": 2,
    "max_prompt_tokens": 0,
    "rating": "overall_score",
    "files_rating": [1, 5],
    "eft_from": "ultrafeedback",
    "eft_prompts": 3,
    "fixed_responses": 4,
    "best_prompts": 12,
    "eval_prompts": 3,
    "ift_examples": 5,
    "splits": 2,
    "prompts_per_split": 4,
}


def settings(**changed: Any) -> Settings:
    """Settings that fit the files of `write_all`."""
    return Settings(source="chat_data", **(FEW | changed))


def message(name: str, parent: str | None = None, role: str = "prompter", **more: Any) -> Row:
    """A message of a tree; the tree is named by the first letters of the message's name, up to a dot."""
    tree = name.split(".", maxsplit=1)[0]
    text = f"Text of {name}"
    known = {"message_id": name, "parent_id": parent, "message_tree_id": tree, "role": role, "text": text}
    state = {"lang": "en", "review_result": True, "deleted": False, "rank": None, "synthetic": False}
    return known | state | more


def tree(name: str, turns: int = 1) -> list[Row]:
    """A tree with three ranked replies a question, the best second; it goes on after the best."""
    rows, parent = [message(name)], name
    for turn in range(turns):
        for rank, place in ((1, "a"), (0, "b"), (2, "c")):
            rows.append(message(f"{name}.{turn}{place}", parent, "assistant", rank=rank))
        if turn + 1 < turns:
            parent = f"{name}.{turn}q"
            rows.append(message(parent, f"{name}.{turn}b"))
    return rows


def rated(text: str, *scores: float | None, **more: Any) -> Row:
    """A row of UltraFeedback, a response for each score."""
    completions = [
        {"model": f"m{i}", "response": f"Answer {i} to {text}", "overall_score": score, "fine-grained_score": score}
        for i, score in enumerate(scores)
    ]
    return {"source": "flan", "instruction": text, "models": [], "completions": completions} | more


def mine(text: str, *scores: float | None, **more: Any) -> Row:
    """A row of a user's file, a response for each rating."""
    responses = [{"response": f"Reply {i} to {text}", "rating": score} for i, score in enumerate(scores)]
    return {"prompt": text, "responses": responses} | more


def write(name: str, rows: list[Row]) -> str:
    """Write JSONL in the current folder; returns its name."""
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def write_all() -> None:
    """Write 6 trees, 24 prompts of UltraFeedback and 6 of the user's."""
    write("oasst.jsonl", [row for i in range(6) for row in tree(f"t{i}", turns=1 + i % 2)])
    write("ultrafeedback.jsonl", [rated(f"Task {i}", 1 + i % 10, 5, 1 + i * 3 % 10) for i in range(24)])
    write("mine.jsonl", [mine(f"Mine {i}", reference=f"Known {i}") for i in range(6)])
