"""What a judge of two responses is asked: rubric first, then the conversation, then both responses between fences.

Which response stands first is the caller's to swap: judges lean towards a place.
"""

from stages.rubrics.fencing import FENCES, conversation, fenced

_RUBRIC = """\
You compare what two chat assistants, A and B, responded to the last message of the same conversation, and decide \
which response serves the person better. Weigh, in this order: is it right and does it do what was asked; does it \
cover what matters; would the person understand it and be able to go on with it. Length as such earns nothing, nor \
does manner of layout, nor that a response comes first. Say tie only where neither is better.

First give your reasons, in a few sentences. Then end with one line that is one of these three, and write nothing \
after it:
Verdict: A
Verdict: B
Verdict: tie
"""


def compare_prompt(messages: list[dict[str, str]], first: str, second: str) -> list[dict[str, str]]:
    """Return the message that asks whether `first`, called A, or `second`, called B, is the better response."""
    both = [fenced("response A", first), fenced("response B", second)]
    return [{"role": "user", "content": "\n".join([_RUBRIC, FENCES, *conversation(messages), *both])}]
