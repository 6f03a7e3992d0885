"""What a difference says about a claim. Pure functions: numbers in, words out.

The measure of doubt is the standard error over prompts or pairs of one run; two of them is the bar.
"""

import math
from dataclasses import dataclass

SUPPORTED = "supported"
NOT_SUPPORTED = "not supported"
CONTRARY = "contrary"
NOT_TESTED = "not tested"
BAR = 2.0  # standard errors
NBSP = "\N{NO-BREAK SPACE}"  # keeps a number and what belongs to it on one line


@dataclass(frozen=True)
class Estimate:
    """A measured number and its standard error (None: unknown, as for a single prompt)."""

    value: float
    se: float | None


def minus(a: Estimate, b: Estimate) -> Estimate:
    """Return a - b of two independent estimates."""
    known = a.se is not None and b.se is not None
    return Estimate(a.value - b.value, math.hypot(a.se or 0.0, b.se or 0.0) if known else None)


def is_clear(change: Estimate) -> bool:
    """Return whether the difference exceeds two standard errors; an unknown error is never clear."""
    return change.se is not None and abs(change.value) > BAR * change.se


def rises(change: Estimate) -> str:
    """Return the verdict on `this is above zero`.

    >>> rises(Estimate(0.3, 0.1)), rises(Estimate(0.1, 0.1)), rises(Estimate(-0.3, 0.1))
    ('supported', 'not supported', 'contrary')
    """
    if not is_clear(change):
        return NOT_SUPPORTED
    return SUPPORTED if change.value > 0 else CONTRARY


def falls(change: Estimate) -> str:
    """Return the verdict on `this is below zero`."""
    return rises(Estimate(-change.value, change.se))


def keeps(change: Estimate) -> str:
    """Return the verdict on `this does not fall`: contrary only where it clearly does."""
    if change.se is None:
        return NOT_SUPPORTED
    return CONTRARY if falls(change) == SUPPORTED else SUPPORTED


def number(value: float, digits: int = 2) -> str:
    """Return a number for readers, with a true minus sign and no minus zero."""
    text = f"{value:.{digits}f}"
    return text[1:] if float(text) == 0 and text.startswith("-") else text.replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign."""
    text = number(value, digits)
    return text if value <= 0 or float(text) == 0 else f"+{text}"


def plus_minus(estimate: Estimate, digits: int = 2) -> str:
    """Return `4.52 ± 0.05`."""
    return number(estimate.value, digits) + _error(estimate, digits)


def told(change: Estimate, digits: int = 2) -> str:
    """Return a difference with its error and whether it is clear."""
    text = signed(change.value, digits) + _error(change, digits)
    if change.se is None:
        return f"{text} (standard error unknown)"
    return f"{text}, {'more than' if is_clear(change) else 'within'} two standard errors"


def _error(estimate: Estimate, digits: int) -> str:
    return "" if estimate.se is None else f"{NBSP}±{NBSP}{number(estimate.se, digits)}"
