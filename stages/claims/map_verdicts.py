"""Where TSR wins, ties and loses against Self-Rewarding at equal tokens: the map's points with their seeds.

The middle is what `tsr claims` ran with params.yaml as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from stages.claims import contrasts
from stages.claims.contrasts import Numbers, Results
from stages.claims.findings import LEAST_SPENT
from stages.claims.hypotheses import CLAIMS, SELF
from stages.claims.map_points import Map, Point
from stages.claims.statistics import ALPHA, Interval, Paired, holm, interval, paired

WINS, TIES, LOSES, OPEN, NOT_RUN = "TSR wins", "tie", "TSR loses", "open", "not run"
MIDDLE = Point("Middle", "params.yaml as it is", {})
MIDDLE_SAME = Point("Middle", "the same, the map's seeds alone", {})
_ASKED = next(claim for claim in CLAIMS if claim.key == "tsr_tokens")


@dataclass(frozen=True)
class Place:
    """A point and what ran there. `judge` has M0's agreement on the fixed set, `scores` the means of TSR and SR.

    `numbers` are TSR's true score less SR's at as many tokens; `p` is Holm's, for all points of the map.
    """

    point: Point
    numbers: Numbers
    judge: dict[int, float]
    around: Interval | None
    test: Paired | None
    p: float | None
    verdict: str
    shift: Interval | None = None  # of the difference against the middle's, over the seeds that both have

    @property
    def scores(self) -> tuple[float, float] | None:
        """Return the means of both arms; None without seeds."""
        sides = self.numbers.sides.values()
        return (fmean(one for one, _ in sides), fmean(other for _, other in sides)) if sides else None


def places(wanted: Map, home: Path, middle: Path) -> list[Place]:
    """Return the middle, the middle on the map's seeds alone, and every point in the map's order, run or not."""
    found = [(point, contrasts.read_changed(home, wanted.changed(point))) for point in wanted.points]
    told = [_numbers(results) for _, results in found]
    centre = contrasts.read_changed(middle, {})
    whole = _numbers(centre)
    same = _only(whole, {seed for one in told for seed in one.seeds})
    rows = [(MIDDLE, centre, whole), (MIDDLE_SAME, centre, same)]
    rows += [(point, results, one) for (point, results), one in zip(found, told, strict=True)]
    tests = [_test(one) for _, _, one in rows]
    corrected = holm(
        [test.p_t if test and point != MIDDLE_SAME else None for (point, _, _), test in zip(rows, tests, strict=True)]
    )
    return [
        Place(
            point,
            one,
            _judges(results, one.seeds),
            interval(list(one.seeds.values())) if one.seeds else None,
            test,
            p,
            verdict(test, wanted.tie, fmean(one.spent.values()) if one.spent else 1.0),
            _shift(one, whole) if point.set else None,
        )
        for (point, results, one), test, p in zip(rows, tests, corrected, strict=True)
    ]


def verdict(test: Paired | None, tie: float, spent: float = 1.0) -> str:
    """Return what one point's seeds say: a difference that is clear alone, a tie, or that they are too few to tell.

    `spent` is SR's mean share of TSR's tokens: with clearly less, TSR cannot be said to win at equal cost.
    """
    if test is None or test.n < 2:
        return NOT_RUN
    if test.p_t is not None and test.p_t < ALPHA:
        ahead = WINS if spent >= LEAST_SPENT else OPEN
        return ahead if test.difference > 0 else LOSES
    close = test.low is not None and test.high is not None and -tie <= test.low and test.high <= tie
    return TIES if close else OPEN


def _numbers(results: Results) -> Numbers:
    return contrasts.numbers(results, [_ASKED])[_ASKED.key]


def _only(found: Numbers, seeds: set[int]) -> Numbers:
    """Return the numbers of some seeds."""
    inside = [seed for seed in found.seeds if seed in seeds]
    return Numbers(
        {seed: found.seeds[seed] for seed in inside},
        {seed: found.sides[seed] for seed in inside},
        {seed: found.spent[seed] for seed in inside},
    )


def _shift(found: Numbers, middle: Numbers) -> Interval | None:
    """Return how the difference is another than in the middle, seed by seed."""
    both = sorted(found.seeds.keys() & middle.seeds.keys())
    return interval([found.seeds[seed] - middle.seeds[seed] for seed in both]) if both else None


def _test(found: Numbers) -> Paired | None:
    values = list(found.seeds.values())
    return paired(values, [0.0] * len(values)) if values else None


def _judges(results: Results, seeds: Sequence[int] | dict[int, float]) -> dict[int, float]:
    """Return M0's agreement with the truth on the fixed set, by seed."""
    rows = results.points.filter(quantity="fixed_agreement", judge=SELF, arm="sr", round=0)
    return {seed: value for seed, value in rows.select("seed", "value").iter_rows() if seed in seeds}
