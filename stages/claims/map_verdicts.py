"""Where TSR wins, ties and loses against Self-Rewarding at equal tokens: the map's points with their seeds.

The middle is what `tsr claims` ran with params.yaml as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from stages.claims import contrasts
from stages.claims.contrasts import Numbers, Results
from stages.claims.hypotheses import CLAIMS, SELF
from stages.claims.map_points import Map, Point
from stages.claims.statistics import ALPHA, Interval, Paired, holm, interval, paired

WINS, TIES, LOSES, OPEN, NOT_RUN = "TSR wins", "tie", "TSR loses", "open", "not run"
MIDDLE = Point("Middle", "params.yaml as it is", {})
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

    @property
    def scores(self) -> tuple[float, float] | None:
        """Return the means of both arms; None without seeds."""
        sides = self.numbers.sides.values()
        return (fmean(one for one, _ in sides), fmean(other for _, other in sides)) if sides else None


def places(wanted: Map, home: Path, middle: Path) -> list[Place]:
    """Return the middle and every point of the map, in its order, whether it ran or not."""
    found = [(MIDDLE, contrasts.read_changed(middle, {}))]
    found += [(point, contrasts.read_changed(home, wanted.changed(point))) for point in wanted.points]
    told = [contrasts.numbers(results, [_ASKED])[_ASKED.key] for _, results in found]
    tests = [_test(one) for one in told]
    corrected = holm([test.p_t if test else None for test in tests])
    return [
        Place(
            point,
            one,
            _judges(results, one.seeds),
            interval(list(one.seeds.values())) if one.seeds else None,
            test,
            p,
            verdict(test, wanted.tie),
        )
        for (point, results), one, test, p in zip(found, told, tests, corrected, strict=True)
    ]


def verdict(test: Paired | None, tie: float) -> str:
    """Return what one point's seeds say: a difference that is clear alone, a tie, or that they are too few to tell."""
    if test is None or test.n < 2:
        return NOT_RUN
    if test.p_t is not None and test.p_t < ALPHA:
        return WINS if test.difference > 0 else LOSES
    close = test.low is not None and test.high is not None and -tie <= test.low and test.high <= tie
    return TIES if close else OPEN


def _test(found: Numbers) -> Paired | None:
    values = list(found.seeds.values())
    return paired(values, [0.0] * len(values)) if values else None


def _judges(results: Results, seeds: Sequence[int] | dict[int, float]) -> dict[int, float]:
    """Return M0's agreement with the truth on the fixed set, by seed."""
    rows = results.points.filter(quantity="fixed_agreement", judge=SELF, arm="sr", round=0)
    return {seed: value for seed, value in rows.select("seed", "value").iter_rows() if seed in seeds}
