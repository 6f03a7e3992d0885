"""Real pairs for readers: both responses side by side, with what differs marked."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from stages.reporting.lineage import side_of
from stages.reporting.verdicts import number

LONGEST = 1200  # characters shown of a text
ALIKE = 0.3  # share of matching words below which marks would be everywhere and say nothing
_WORD = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")

Parts = list[tuple[str, bool]]  # pieces of a text, each with whether it differs from the other side


@dataclass(frozen=True)
class Side:
    """One response of a pair, ready for the page."""

    role: str
    parts: Parts
    model: str
    side: str
    score: str
    truth: str


@dataclass(frozen=True)
class Example:
    """One pair, ready for the page."""

    kind: str
    learner: str
    arm: str
    where: str
    pair_id: str
    prompt: str
    gap: str
    sides: tuple[Side, Side]


def cut(text: str) -> str:
    """Return a text short enough to show."""
    return text if len(text) <= LONGEST else text[:LONGEST] + " […]"


def differences(chosen: str, rejected: str) -> tuple[Parts, Parts]:
    """Return the pieces of both texts, each with whether the other has something else there.

    Single words are compared letter by letter, others word by word. Texts that have little in common carry no marks.

    >>> differences("ljuufo", "ljxxfo")[0]
    [('lj', False), ('uu', True), ('fo', False)]
    >>> differences("the cat sat", "the dog sat")[1]
    [('the ', False), ('dog ', True), ('sat', False)]
    >>> differences("one two three", "vier")[0]
    [('one two three', False)]
    """
    if not re.search(r"\s", chosen + rejected):
        return marked(chosen, rejected), marked(rejected, chosen)
    words = _WORD.findall(chosen), _WORD.findall(rejected)
    matcher = SequenceMatcher(None, *words)
    if matcher.ratio() < ALIKE:
        return [(chosen, False)], [(rejected, False)]
    spans = matcher.get_opcodes()
    first = [("".join(words[0][a:b]), tag != "equal") for tag, a, b, _, _ in spans if b > a]
    second = [("".join(words[1][c:d]), tag != "equal") for tag, _, _, c, d in spans if d > c]
    return first, second


def marked(text: str, other: str) -> Parts:
    """Return the pieces of `text`, each with whether `other` has something else there.

    Texts of one length are held against each other position by position, others by their longest matches.

    >>> marked("ljuufo", "ljxxfo")
    [('lj', False), ('uu', True), ('fo', False)]
    """
    if len(text) == len(other):
        return _joined((letter, letter != there) for letter, there in zip(text, other, strict=True))
    matcher = SequenceMatcher(None, text, other, autojunk=False)
    return _joined((text[a:b], tag != "equal") for tag, a, b, _, _ in matcher.get_opcodes() if b > a)


def _joined(pieces: Any) -> Parts:
    """Return pieces with neighbours of one kind put together."""
    parts: Parts = []
    for piece, differs in pieces:
        if parts and parts[-1][1] == differs:
            parts[-1] = (parts[-1][0] + piece, differs)
        else:
            parts.append((piece, differs))
    return parts


def example(
    row: dict[str, Any], plan: dict[str, Any], home: tuple[str, int], arm_name: Callable[[str], str]
) -> Example:
    """Return a pair as the page shows it."""
    arm, round_number = home
    texts = {role: cut(_text(row[role])) for role in ("chosen", "rejected")}
    learn = plan["learns"][row["model"]]
    first, second = differences(texts["chosen"], texts["rejected"])
    return Example(
        kind=row["kind"],
        learner=row["model"],
        arm=arm,
        where=f"{arm_name(arm)}, round {round_number}",
        pair_id=row["pair_id"],
        prompt=cut(_text(row["prompt"])),
        gap=number(row["gap"]),
        sides=(_side(row, learn, "chosen", first), _side(row, learn, "rejected", second)),
    )


def _side(row: dict[str, Any], learn: dict[str, Any], role: str, parts: Parts) -> Side:
    truth = row[f"{role}_truth"]
    return Side(
        role=role,
        parts=parts,
        model=row[f"{role}_model"],
        side=side_of(learn, row[f"{role}_model"]),
        score=number(row[f"{role}_score"]),
        truth="" if truth is None else number(truth),
    )


def _text(messages: list[dict[str, str]]) -> str:
    """Return the message's text; of several, who says what."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
