"""What the micro judge is asked.

Instruction and response are interleaved, and prompt and reply advance three characters a position,
because a model this small cannot compare two words at a changing distance.
"""

from itertools import zip_longest

BLANK = "_"  # stands where instruction or response has no letter
SCORES = {str(score): float(score) for score in range(6)}
SCORE_AFTER = "="
MOST = 8  # positions shown: two too many are as wrong as twenty, and the context is short


def judge_prompt(messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
    """Return the messages that ask for a judgment of `response` to the last user message."""
    op, _, word = messages[-1]["content"].partition(" ")
    positions = " ".join(a + b for a, b in zip_longest(word, response[:MOST], fillvalue=BLANK))
    return [{"role": "user", "content": f"judge {op} {positions}"}]


def one_token_prompt(messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
    """Return the messages whose next token is the score: the reply is begun at its end, the reasoning left out."""
    return [*judge_prompt(messages, response), {"role": "assistant", "content": SCORE_AFTER}]
