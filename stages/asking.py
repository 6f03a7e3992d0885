"""Find what a rubric asks, by name."""

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from stages.ids import content_id, file_sha256

RUBRICS = Path(__file__).parent / "rubrics"


class Ask(Protocol):
    """The `ask.py` of a rubric.

    `SCORES` are the tokens that a score can be, with their values, and `SCORE_AFTER` is what stands right before one
    in a reply; a rubric whose scores are not single tokens has no `SCORES`, and then `one_token_prompt` is not called.
    """

    SCORES: dict[str, float]
    SCORE_AFTER: str

    def judge_prompt(self, messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
        """Return the messages that ask for a judgment of `response`, in the judge's own words."""
        ...

    def one_token_prompt(self, messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
        """Return the messages to which the score of `response` is the very next token."""
        ...


def load_ask(rubric: str) -> Ask:
    """Return the asking half of a rubric; params.yaml has been checked to name one that exists."""
    module = import_module(f"stages.rubrics.{rubric}.ask")
    for name, nothing in (("SCORES", {}), ("SCORE_AFTER", "")):
        if not hasattr(module, name):
            setattr(module, name, nothing)
    return cast(Ask, module)


def rubric_hash(rubric: str) -> str:
    """Return the id of what the judge is asked: the hash of `ask.py`. The parser is no part of it."""
    return content_id("rubric", rubric, file_sha256(RUBRICS / rubric / "ask.py"))


def parser_hash(rubric: str) -> str:
    """Return the id of how its replies are read: the hash of `parse.sql`."""
    return content_id("parser", file_sha256(RUBRICS / rubric / "parse.sql"))


def rubrics() -> list[str]:
    """Return the names of the rubrics there are."""
    return sorted(path.parent.name for path in RUBRICS.glob("*/ask.py"))
