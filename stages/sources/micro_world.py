"""The micro world "ciphers with misconceptions": prompts, an imperfect teacher, a verifier.

A prompt is one of six letterwise operations and a six-letter word; the right answer replaces each
letter. The score of an answer is the share of right positions on a scale of 0 to 5.

    prompt    next kitten
    answer    ljuufo        -> 5
    judgment  l+ j+ u+ u+ f+ o+ =5

Two teachers err, each in its own way, on (operation, letter) *facts*: the answering teacher (IFT)
has misconceptions about most facts, the judging teacher (EFT) about a few. So judging starts better
than answering, and the judge can be exploited, as in life.
"""

import string
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.ids import prompt_id, seed_for

LETTERS = string.ascii_lowercase
WORD_LENGTH = 6
TOP_SCORE = 5


def _shift(by: int) -> str:
    return LETTERS[by:] + LETTERS[:by]


# operation -> the image of a..z. All names have four letters, so that all prompts have one length.
OPERATIONS: dict[str, str] = {
    "next": _shift(1),
    "prev": _shift(-1),
    "half": _shift(13),
    "leap": _shift(5),
    "flip": LETTERS[::-1],
    "swap": "".join(LETTERS[i ^ 1] for i in range(26)),
}
FACTS = [(op, letter) for op in OPERATIONS for letter in LETTERS]


def image(op: str, letter: str) -> str:
    """Return the right letter for one fact."""
    return OPERATIONS[op][LETTERS.index(letter)]


def parse_prompt(text: str) -> tuple[str, str] | None:
    """Split `next kitten` into operation and word; None if it is not a prompt of this world."""
    op, _, word = text.partition(" ")
    if op not in OPERATIONS or len(word) != WORD_LENGTH or not set(word) <= set(LETTERS):
        return None
    return op, word


def score_of(right: int) -> int:
    """Return the score 0..5 of `right` out of six positions, halves rounded up."""
    return (2 * TOP_SCORE * right + WORD_LENGTH) // (2 * WORD_LENGTH)


def verify(prompt: str, response: str) -> int:
    """Return the true score, 0..5. Ground truth: for measuring only, never for pairing or training.

    An answer that is not six characters long gets 0.
    """
    parsed = parse_prompt(prompt)
    if parsed is None or len(response) != WORD_LENGTH:
        return 0
    op, word = parsed
    return score_of(sum(image(op, a) == b for a, b in zip(word, response, strict=True)))


@dataclass(frozen=True)
class World:
    """The facts as the two teachers hold them, drawn from one seed.

    `misconceptions` and `judge_errors` are the shares of facts the answering and the judging
    teacher get wrong; `slip` is how often the answering teacher follows a misconception it has.
    """

    seed: int
    misconceptions: float
    judge_errors: float
    slip: float = 1.0
    answer_beliefs: dict[tuple[str, str], str] = field(init=False, repr=False)
    judge_beliefs: dict[tuple[str, str], str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(seed_for(self.seed, "world"))
        object.__setattr__(self, "answer_beliefs", _beliefs(rng, self.misconceptions))
        object.__setattr__(self, "judge_beliefs", _beliefs(rng, self.judge_errors))

    def prompts(self, split: str, count: int, taken: set[str]) -> list[dict[str, Any]]:
        """Draw `count` prompts that are not in `taken` (ids), and add them to it."""
        rng = np.random.default_rng(seed_for(self.seed, "prompts", split))
        rows: list[dict[str, Any]] = []
        ops = list(OPERATIONS)
        while len(rows) < count:
            op = ops[rng.integers(len(ops))]
            word = _word(rng)
            messages = [{"role": "user", "content": f"{op} {word}"}]
            pid = prompt_id(messages)
            if pid in taken:
                continue
            taken.add(pid)
            rows.append({"prompt_id": pid, "messages": messages, "op": op, "word": word})
        return rows

    def teacher_answer(self, rng: np.random.Generator, op: str, word: str) -> str:
        """Return an answer as the answering teacher gives it."""
        return "".join(self._answer_letter(rng, op, letter) for letter in word)

    def _answer_letter(self, rng: np.random.Generator, op: str, letter: str) -> str:
        slips = rng.random() < self.slip  # drawn always, so that `slip` changes no other draw
        return self.answer_beliefs[op, letter] if slips else image(op, letter)

    def answer_with(self, rng: np.random.Generator, op: str, word: str, right: int) -> str:
        """Return an answer that the *judging* teacher would give `right` right positions."""
        keep = set(rng.permutation(WORD_LENGTH)[:right].tolist())
        return "".join(
            self.judge_beliefs[op, a] if i in keep else _other(rng, self.judge_beliefs[op, a])
            for i, a in enumerate(word)
        )

    def teacher_judgment(self, op: str, word: str, response: str) -> str:
        """Return the judging teacher's reply: per position its letter and a mark, then the score."""
        believed = [self.judge_beliefs[op, a] for a in word]
        marks = [want == got for want, got in zip(believed, response, strict=True)]
        spelled = "".join(f"{want}{'+' if ok else '-'} " for want, ok in zip(believed, marks, strict=True))
        return f"{spelled}={score_of(sum(marks))}"


def _word(rng: np.random.Generator) -> str:
    return "".join(LETTERS[i] for i in rng.integers(26, size=WORD_LENGTH))


def _other(rng: np.random.Generator, letter: str) -> str:
    return LETTERS[(LETTERS.index(letter) + 1 + int(rng.integers(25))) % 26]


def _beliefs(rng: np.random.Generator, wrong_share: float) -> dict[tuple[str, str], str]:
    """Return fact -> believed letter, with a share of the facts wrong."""
    wrong = set(rng.permutation(len(FACTS))[: round(wrong_share * len(FACTS))].tolist())
    return {
        (op, letter): _other(rng, image(op, letter)) if i in wrong else image(op, letter)
        for i, (op, letter) in enumerate(FACTS)
    }
