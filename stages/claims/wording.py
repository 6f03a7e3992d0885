"""Findings in words: what was compared, what came out, with as many digits as a quantity bears."""

from typing import Any

from stages.claims.findings import NOT_RUN, Finding
from stages.claims.hypotheses import SELF, Claim, Compared, Equal, Point, Together
from stages.claims.statistics import ALPHA
from stages.reporting.figures import name_of
from stages.reporting.verdicts import NBSP, number, signed

NOTHING = "\N{EN DASH}"
_DIGITS = {"margin_per_update": 4, "cosine": 4, "cosine_centred": 4, "gradient_distance": 1}
COST_NAMES = {"updates": "updates", "tokens": "tokens", "cpu_seconds": "seconds of processor time"}
Row = dict[str, Any]


def unit(claim: Claim) -> str:
    """Return what a claim's number is in; those of one unit share a scale."""
    ask = claim.ask
    if isinstance(ask, Together):
        return "correlation"
    return "share" if isinstance(ask, Compared) and ask.share else _quantity(claim)


def worded(claim: Claim, value: float) -> str:
    """Return a claim's number: a share in per cent, a difference with its sign."""
    if unit(claim) == "share":
        return f"{number(100 * value, 0)}{NBSP}%"
    if unit(claim) == "correlation":
        return signed(value)
    return signed(value, _DIGITS.get(_quantity(claim), 2))


def compared(claim: Claim) -> str:
    """Return what is held against what, e.g. `TSR round 2 - SR round 4`."""
    ask = claim.ask
    if isinstance(ask, Together):
        return f"{name_of(ask.last.arm)}, rounds 1 to {ask.last.round}{_by(ask.last)}"
    one, other = ask.one, ask.other
    if isinstance(ask, Equal):
        budget = COST_NAMES[ask.cost]
        return f"{name_of(one.arm)} round {one.round} \N{MINUS SIGN} {name_of(other.arm)} at as many {budget}{_by(one)}"
    if (one.arm, one.judge) == (other.arm, other.judge):
        return f"{name_of(one.arm)}, {_round(other)} \N{RIGHTWARDS ARROW} {_round(one)}{_by(one)}"
    if one.judge == other.judge:
        return f"{name_of(one.arm)} {_round(one)} \N{MINUS SIGN} {name_of(other.arm)} {_round(other)}{_by(one)}"
    return f"{name_of(one.arm)} {_round(one)}, judge {one.judge} \N{MINUS SIGN} judge {other.judge}"


def measured(found: Finding) -> str:
    """Return what came out: both sides' means and the number's; why not, where nothing did."""
    if found.around is None:
        return f"{NOT_RUN}: {found.lacks}"
    mean = worded(found.claim, found.around.mean)
    if found.sides is None:
        return mean
    digits = _DIGITS.get(_quantity(found.claim), 2)
    one, other = (number(side, digits) for side in found.sides)
    ask = found.claim.ask
    if isinstance(ask, Compared) and (ask.one.arm, ask.one.judge) == (ask.other.arm, ask.other.judge):
        return f"{other} \N{RIGHTWARDS ARROW} {one}: {mean}"
    return f"{one} against {other}: {mean}"


def around(found: Finding) -> str:
    """Return the interval in words."""
    return between(found.claim, found.around.low, found.around.high) if found.around else NOTHING


def between(claim: Claim, low: float | None, high: float | None) -> str:
    """Return two limits in words."""
    if low is None or high is None:
        return "none from one seed"
    return f"{worded(claim, low)} to {worded(claim, high)}"


def chance(p: float | None) -> str:
    """Return a p value in words."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def remarks(found: Finding) -> list[str]:
    """Return what must be known beside a claim's numbers."""
    told, ask = [], found.claim.ask
    counted = len(found.numbers.seeds)
    if counted and found.ran > counted:
        lost = found.ran - counted
        told.append(
            f"{lost} of {found.ran} seeds have no value here: a line ended for want of pairs, or began at nothing"
        )
    if counted == 1:
        told.append("one seed; a test needs two")
    elif found.test and found.test.p_t is not None:
        side = found.test.ahead if found.claim.above else sum(v < found.claim.bar for v in found.numbers.seeds.values())
        told.append(f"so in {side} of {counted} seeds")
    if found.test and found.test.n > 1 and found.test.p_t is None:
        told.append("the same in all seeds: no spread to test against")
    if found.test and found.test.p_t is not None and found.test.p_t < ALPHA <= (found.p or 0.0):
        told.append(f"p before the correction: {chance(found.test.p_t)}")
    shrinks = unit(found.claim) == "share" and not found.claim.above
    if shrinks and found.sides and 0 < found.sides[0] < found.sides[1]:
        told.append(f"{number(found.sides[1] / found.sides[0], 1)} times smaller, by the means")
    told += _beside_the_paper(found)
    if isinstance(ask, Equal) and found.spent is not None and found.spent < 1:
        told.append(f"{name_of(ask.other.arm)}'s rounds took {100 * found.spent:.0f}{NBSP}% of it")
    if found.cost is not None:
        told.append(f"at {number(found.cost)} times the tokens")
    return told


def _beside_the_paper(found: Finding) -> list[str]:
    """Return where the paper's own number lies."""
    says, here = found.claim.says, found.around
    if says is None or here is None or here.low is None or here.high is None:
        return []
    where = "below" if says < here.low else "above" if says > here.high else "within"
    return [f"the paper's {worded(found.claim, says)} lies {where} the interval"]


def _quantity(claim: Claim) -> str:
    return "true_score" if isinstance(claim.ask, Equal) else claim.ask.quantity


def _round(point: Point) -> str:
    return "M0" if point.round == 0 else f"round {point.round}"


def _by(point: Point) -> str:
    return "" if point.judge == SELF else f", judge {point.judge}"
