"""The published files of Arena-Hard (0.1 and 2.0) and MT-Bench, read and checked."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import TsrError

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A question: its turns by the user, and for MT-Bench the reference answers to them, where there are any."""

    place: int  # in the file, from 0
    name: str  # its id there
    category: str
    turns: list[str]
    references: list[str] | None = None


def arena_hard(path: Path, limit: int) -> list[Question]:
    """Return Arena-Hard's questions: `uid` or `question_id`, and `prompt` or `turns`. Raises TsrError for others."""

    def one(row: Row) -> tuple[str, str, list[str]]:
        prompt = row["prompt"] if "prompt" in row else row["turns"][0]["content"]
        return _name(row), str(row["category"]), [_text(prompt)]

    return _questions(path, limit, one, "uid, category, prompt")


def mt_bench(path: Path, references: Path | None, limit: int) -> list[Question]:
    """Return MT-Bench's questions: `question_id`, `category`, `turns` of two. Raises TsrError for others."""

    def one(row: Row) -> tuple[str, str, list[str]]:
        turns = [_text(turn) for turn in row["turns"]]
        if len(turns) != 2:
            raise ValueError
        return _name(row), _text(row["category"]), turns

    given = answers(references, turns=2) if references else {}
    found = _questions(path, limit, one, "question_id, category, turns of two texts")
    return [Question(q.place, q.name, q.category, q.turns, given.get(q.name)) for q in found]


def answers(path: Path, turns: int = 1) -> dict[str, list[str]]:
    """Return question id -> answers, a text a turn, of a published file. Raises TsrError for another schema.

    `choices` with `turns` as in Arena-Hard 0.1 and MT-Bench, or `messages` as in Arena-Hard 2.0.
    """
    found: dict[str, list[str]] = {}
    for number, row in _rows(path):
        try:
            if "messages" in row:
                told = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
            else:
                told = row["choices"][0]["turns"]
            texts = [_text(text) for text in told]
            if len(texts) != turns or _name(row) in found:
                raise ValueError
            found[_name(row)] = texts
        except (KeyError, IndexError, TypeError, ValueError):
            wanted = f"uid and messages, or question_id and choices, with {turns} answers, each question once"
            raise TsrError(f"{path}: line {number}: expected {wanted}") from None
    return found


def _questions(path: Path, limit: int, one: Callable[[Row], tuple[str, str, list[str]]], wanted: str) -> list[Question]:
    found: dict[str, Question] = {}
    for number, row in _rows(path):
        try:
            name, category, turns = one(row)
            if name in found:
                raise ValueError
            found[name] = Question(len(found), name, category, turns)
        except (KeyError, IndexError, TypeError, ValueError):
            raise TsrError(f"{path}: line {number}: expected {wanted}, each question once") from None
    if not found:
        raise TsrError(f"{path}: no questions")
    return list(found.values())[: limit or None]


def _rows(path: Path) -> list[tuple[int, Row]]:
    """Return (line number, object) of a JSONL file; lines end with a line feed and nothing else."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: not a readable file: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TsrError(f"{path}: line {number}: not valid JSON: {error}") from error
            if not isinstance(row, dict):
                raise TsrError(f"{path}: line {number}: expected an object")
            rows.append((number, row))
    return rows


def _name(row: Row) -> str:
    name = row["uid"] if "uid" in row else row["question_id"]
    if not isinstance(name, str | int):
        raise TypeError
    return str(name)


def _text(told: Any) -> str:
    """Return a text that stands alone, or under `content` or `answer`."""
    while isinstance(told, dict):
        told = told["content"] if "content" in told else told["answer"]
    if not isinstance(told, str):
        raise TypeError
    return told
