"""Each claim with what the seeds say of it: interval, tests, correction, verdict. RULES says how, word for word."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from stages.claims.contrasts import Numbers, Results, numbers
from stages.claims.hypotheses import CLAIMS, KEPT, Claim, Compared, Point
from stages.claims.statistics import ALPHA, Interval, Paired, bootstrap, holm, interval, paired
from stages.reporting.figures import name_of

SUPPORTED, NOT_SUPPORTED, REFUTED, NOT_RUN = "supported", "not supported", "refuted here", "not run"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, REFUTED, NOT_RUN)
LEAST_SPENT = 0.95  # of the budget; below it two arms were not at equal cost
RULES = (
    "The unit is the seed: facts, prompts, examples, initial weights, sampling and training order all vary with it. "
    "Each claim has one number a seed, and a bar that it is said to lie above or below: 0 for a difference or a "
    f"correlation, 100 % for a share that is said to fall, {100 * KEPT:.0f} % for a share that is said to be kept.",
    "Intervals are Student's t, 95 %, over seeds. p is the t test's of the numbers against the bar (for two arms: the "
    "paired t test), two-sided, by Holm's method corrected for all claims of this page that could be tested.",
    f"Supported: the mean lies on the claim's side of the bar and p is below {ALPHA}. Refuted here: it lies on the "
    "other side and p is as low. Not supported: all else; it says that these seeds do not show it, not that it is "
    "false. Not run: fewer than 2 seeds.",
    "At equal cost, the other arm's score is read on the straight line between two of its rounds, at what TSR's rounds "
    "took in that seed; nothing is guessed beyond its last round. Where it spent less than "
    f"{100 * LEAST_SPENT:.0f} % of that, on average, the costs were not equal, and the claim cannot be supported.",
)


@dataclass(frozen=True)
class Finding:
    """A claim and what was measured; without seeds, `lacks` says what did not run.

    `ran` counts the seeds that ran all of it, `around` has the number's mean and interval, `drawn` the bootstrap's,
    `test` holds it against the bar, `p` is Holm's, `spent` the other arm's mean share of the budget.
    """

    claim: Claim
    verdict: str
    numbers: Numbers
    ran: int
    lacks: str
    around: Interval | None
    drawn: Interval | None
    test: Paired | None
    p: float | None
    spent: float | None
    cost: float | None = None  # tokens of the one arm as a multiple of the other's, where two are compared as they are

    @property
    def sides(self) -> tuple[float, float] | None:
        """Return the means of the two values that are compared, over the seeds that have a number."""
        pairs = self.numbers.sides.values()
        return (fmean(one for one, _ in pairs), fmean(other for _, other in pairs)) if pairs else None


def findings(results: Results, claims: Sequence[Claim] = CLAIMS) -> list[Finding]:
    """Return all findings, in the order of the claims; p is corrected for all of them."""
    found = numbers(results, claims)
    tests = [_test(claim, found[claim.key]) for claim in claims]
    corrected = holm([test.p_t if test else None for test in tests])
    return [
        _finding(results, claim, found[claim.key], test, p)
        for claim, test, p in zip(claims, tests, corrected, strict=True)
    ]


def verdict(claim: Claim, test: Paired | None, p: float | None, spent: float | None = None) -> str:
    """Return the verdict by RULES."""
    if test is None or test.n < 2:
        return NOT_RUN
    if p is None or p >= ALPHA:
        return NOT_SUPPORTED
    if (test.difference > 0) != claim.above:
        return REFUTED
    return NOT_SUPPORTED if spent is not None and spent < LEAST_SPENT else SUPPORTED


def _test(claim: Claim, found: Numbers) -> Paired | None:
    values = list(found.seeds.values())
    return paired(values, [claim.bar] * len(values)) if values else None


def _finding(results: Results, claim: Claim, found: Numbers, test: Paired | None, p: float | None) -> Finding:
    values = list(found.seeds.values())
    spent = fmean(found.spent.values()) if found.spent else None
    ran = set.intersection(*(results.ran(point) for point in claim.ask.points))
    return Finding(
        claim,
        verdict(claim, test, p, spent),
        found,
        len(ran),
        "" if values else _lacking(results, claim, len(ran)),
        interval(values) if values else None,
        bootstrap(values) if values else None,
        test,
        p,
        spent,
        _cost(results, claim),
    )


def _cost(results: Results, claim: Claim) -> float | None:
    """Return how many times the tokens of the other arm the one took, on average; None where that says nothing."""
    ask = claim.ask
    if (
        not isinstance(ask, Compared)
        or ask.quantity != "true_score"
        or not ask.other.round
        or ask.one.arm == ask.other.arm
    ):
        return None
    one, other = (
        dict(
            results.points.filter(quantity="tokens", judge=at.judge, arm=at.arm, round=at.round)
            .select("seed", "value")
            .iter_rows()
        )
        for at in (ask.one, ask.other)
    )
    ratios = [one[seed] / other[seed] for seed in one if other.get(seed)]
    return fmean(ratios) if ratios else None


def _lacking(results: Results, claim: Claim, ran: int) -> str:
    """Return what is missing where a claim has no numbers."""
    if ran:
        return f"{ran} seeds, none with a value: their lines ended for want of pairs, or nothing varies"
    for point in claim.ask.points:
        if not results.ran(point):
            return told(point)
    return "both sides on one seed"


def told(point: Point) -> str:
    """Return a point in words, e.g. `SR round 4 with judge self`."""
    return f"{name_of(point.arm)} round {point.round} with judge {point.judge}"
