"""Find what a rubric asks, by name."""

import ast
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from stages.ids import content_id, file_sha256

RUBRICS = Path(__file__).parent / "rubrics"
_ROOT = Path(__file__).parents[1]
_SHARED_RULE = RUBRICS / "score_line.sql"


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
    """Return the id of what the judge is asked: the hash of `ask.py` and of what it imports of `stages`.

    The parser is no part of it.
    """
    ask = RUBRICS / rubric / "ask.py"
    return content_id("rubric", rubric, file_sha256(ask), *map(file_sha256, sorted(_imported(ask, set()))))


def parser_hash(rubric: str) -> str:
    """Return the id of how its replies are read: the hash of `parse.sql` and of the rule that it may use."""
    return content_id("parser", file_sha256(RUBRICS / rubric / "parse.sql"), file_sha256(_SHARED_RULE))


def rubrics() -> list[str]:
    """Return the names of the rubrics there are."""
    return sorted(path.parent.name for path in RUBRICS.glob("*/ask.py"))


def _imported(path: Path, seen: set[Path]) -> set[Path]:
    """Return `seen` and the files of `stages` that a file imports, with what these import."""
    for name in _modules(path):
        file = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if name.startswith("stages.") and file.exists() and file not in seen:
            seen = _imported(file, seen | {file})
    return seen


def _modules(path: Path) -> list[str]:
    """Return the dotted names that a file imports, relative ones left out: `from a import b` may mean a or a.b."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found
