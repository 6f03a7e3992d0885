"""How the points judge's reply is read."""

import re

LOW, HIGH = 0.0, 5.0
_LOOSE = r"[*_`\s]*"  # emphasis and white space
_LINE = re.compile(
    rf"(?:\#{{1,6}}|[-+])?{_LOOSE}(?:(?:[Ff]inal|[Tt]otal|[Oo]verall){_LOOSE})?(?:[Ss]core|SCORE){_LOOSE}:{_LOOSE}"
    rf"(-?[0-9]+(?:[.,][0-9]+)?){_LOOSE}(?:(?:/|out of){_LOOSE}5(?:[.,]0)?{_LOOSE})?(?:points?{_LOOSE})?\.?{_LOOSE}"
)


def parse(raw: str) -> float | None:
    r"""Return the score of a judge's reply, or None where it has none.

    The last line must be `Score: N` and nothing else, but for emphasis, a full stop, and what N is out of: a score
    among other words may be a quotation, and words after it may take it back. Several such lines at the end must
    agree. N is whole and within LOW .. HIGH: the rubric has no halves, so 3.5 is neither 3 nor 4.

    >>> parse("Clear and complete.\n**Score: 4/5**"), parse("Score: 3\nScore: 4"), parse("Score: 3.5")
    (4.0, None, None)
    """
    found: set[float] = set()
    for line in reversed([text for text in raw.splitlines() if text.strip()]):
        if not (match := _LINE.fullmatch(line.strip())):
            break
        found.add(float(match.group(1).replace(",", ".")))
    score = found.pop() if len(found) == 1 else None
    return score if score is not None and score.is_integer() and LOW <= score <= HIGH else None
