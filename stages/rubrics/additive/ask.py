"""What the additive judge is asked: five points, one for each thing that holds.

After Self-Rewarding (arXiv 2401.10020), in words of our own. Reasons first, then a last line `Score: N`; or one digit
and nothing else.
"""

from stages.rubrics.fencing import laid_out

SCORES = {str(score): float(score) for score in range(6)}
SCORE_AFTER = "Score:"

_RUBRIC = """\
You grade what a chat assistant responded to the last message of a conversation. Start from 0 points and add 1 for \
each of these that holds:

1. Relevance: the response is about what was asked and tells something that bears on it, even if much is missing or \
beside the point.
2. Coverage: it deals with most of what was asked, even if it stops short of a full or straight answer.
3. Usefulness: the person could go on with it, because the core of the request is met, no matter who or what seems \
to have written it.
4. Assistant's view and clarity: it speaks to the person as an assistant, takes on the whole request head-on, and is \
in good order and easy to follow; small flaws in wording or focus may remain.
5. Expert quality: it fits this request exactly, leaves out the needless, and shows knowledge and insight that an \
expert would be glad to put their name to.

Length as such earns nothing.
"""
_IN_WORDS = """\
First give your reasons, in a few sentences. Then end with one line of this form, N being the points, a whole number \
from 0 to 5, and write nothing after it:
Score: N
"""
_ONE_DIGIT = """\
Give no reasons. Reply with the points and nothing else: one digit from 0 to 5.
"""
_IN_WORDS_AGAIN = "Now judge the response: your reasons, then the last line, Score: N with N from 0 to 5."
_ONE_DIGIT_AGAIN = "Now judge the response: one digit from 0 to 5."


def judge_prompt(messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
    """Return the message that asks for reasons and then a last line `Score: N`."""
    return laid_out(f"{_RUBRIC}\n{_IN_WORDS}", messages, response, _IN_WORDS_AGAIN)


def one_token_prompt(messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
    """Return the message whose whole reply is one digit."""
    return laid_out(f"{_RUBRIC}\n{_ONE_DIGIT}", messages, response, _ONE_DIGIT_AGAIN)
