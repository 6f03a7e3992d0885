"""What the 1-to-10 judge is asked: one grade for the response as a whole, reasons first, then a last line `Score: N`.

No `SCORES`: many tokenizers read 10 as two tokens, and a 1 might then be the beginning of a 10. So there is no judging
in one token, and votes carry no distribution.
"""

from stages.rubrics.fencing import laid_out

_RUBRIC = """\
You grade what a chat assistant responded to the last message of a conversation, as a whole, with a number from 1 to \
10. Weigh whether it is right, whether it does what was asked, all of it and nothing else, whether it helps, and \
whether it is clear. What the numbers mean:

1 or 2: useless: empty, off the subject, wrong throughout, or harmful.
3 or 4: poor: touches the request, but its core is missing or wrong.
5 or 6: middling: of some help, with a real gap or mistake.
7 or 8: good: right and helpful, with small flaws.
9: very good: a careful expert would change next to nothing.
10: could not be better.

Use the whole range. Where the request has one right answer, check it before anything else: a wrong answer earns 4 at \
most, however well it reads. Length and a sure tone as such earn nothing.
"""
_IN_WORDS = """\
First give your reasons, in a few sentences: what is good, what is wrong or missing. Then end with one line of this \
form, N being your grade, a whole number from 1 to 10, and write nothing after it:
Score: N
"""
_AGAIN = "Now judge the response: your reasons, then the last line, Score: N with N from 1 to 10."


def judge_prompt(messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
    """Return the message that asks for reasons and then a last line `Score: N`."""
    return laid_out(f"{_RUBRIC}\n{_IN_WORDS}", messages, response, _AGAIN)
