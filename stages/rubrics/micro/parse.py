"""How the micro judge's reply is read."""

import re

LOW, HIGH = 0.0, 5.0
_REPLY = re.compile(r"(?:[a-z_][+-] )+=([0-5])")


def parse(raw: str) -> float | None:
    """Return the score of a judge's reply, or None where it has none.

    The reply must be of the form as a whole: a score among other text is no score.

    >>> parse("l+ j+ u- u+ f+ o+ =4"), parse("score: 5")
    (4.0, None)
    """
    match = _REPLY.fullmatch(raw.strip())
    return float(match.group(1)) if match else None
