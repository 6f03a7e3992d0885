"""What is held against the seeds: the claims of arXiv 2508.06026, and what must be asked beside them.

Every comparison, its rounds, its direction and its bar stand here, apart from any result; so does which of them the
README quotes.
"""

from dataclasses import dataclass

SELF, FIXED, TRUTH = "self", "M0", "truth"
KEPT = 0.9  # of the first value: what still counts as kept
SAME = 1.0
PAPER = "arXiv 2508.06026"  # where no other source is named
IMPLIED = "implied, not said apart"
BESIDE = "not a claim of the paper"
HEADLINE = (
    "2 rounds against 4, Llama-3.1-8B: AlpacaEval 2.0 29.44 against 19.69, Arena-Hard 14.6 against 9.4, "
    "MT-Bench 5.89 against 5.74"
)
COMPUTE = "ahead of SR for the same computation; TSR's 2 rounds are said to take what SR's 5 do"


@dataclass(frozen=True)
class Point:
    """An arm after a round (0: M0), under a judge."""

    arm: str
    round: int
    judge: str = SELF


@dataclass(frozen=True)
class Compared:
    """A quantity here and there, seed by seed: the difference, or (`share`) the first as a share of the second."""

    quantity: str
    one: Point
    other: Point
    share: bool = False

    @property
    def points(self) -> tuple[Point, ...]:
        """Return what must have run."""
        return self.one, self.other


@dataclass(frozen=True)
class Equal:
    """The true score of `one` less that of the other arm when it had spent as much. `other.round` is its last one."""

    cost: str
    one: Point
    other: Point

    @property
    def points(self) -> tuple[Point, ...]:
        """Return what must have run."""
        return self.one, self.other


@dataclass(frozen=True)
class Together:
    """The correlation of two quantities over an arm's rounds up to `last`, within a seed."""

    quantity: str
    other: str
    last: Point

    @property
    def points(self) -> tuple[Point, ...]:
        """Return what must have run."""
        return (self.last,)


@dataclass(frozen=True)
class Claim:
    """One row of the page: the number of each seed that `ask` gives is said to lie above the bar, or below it.

    `paper` is what PAPER says of it, or another source, `says` the number that it gives, where it gives this one.
    `quoted` rows stand in the README, whatever they say.
    """

    key: str
    section: str
    text: str
    paper: str
    ask: Compared | Equal | Together
    above: bool
    bar: float = 0.0
    quoted: bool = False
    says: float | None = None


GAP, LEARNING, RIVALS, PARTS, JUDGES, DRIFT = (
    "The gap of chosen and rejected",
    "Features, gradients, margin",
    "TSR against Self-Rewarding",
    "Parts of the method, and other arms",
    "Judges",
    "Drift of the judge",
)
SECTIONS = (GAP, LEARNING, RIVALS, PARTS, JUDGES, DRIFT)
_SR_FIRST, _SR_TWO, _SR, _SR_MORE = Point("sr", 1), Point("sr", 2), Point("sr", 4), Point("sr", 5)
_TSR_FIRST, _TSR = Point("tsr", 1), Point("tsr", 2)
_START = Point("sr", 0)


def _under(point: Point, judge: str) -> Point:
    return Point(point.arm, point.round, judge)


def _shrinks(
    key: str,
    quantity: str,
    text: str,
    paper: str,
    judge: str = SELF,
    *,
    quoted: bool = False,
    says: float | None = None,
) -> Claim:
    section = JUDGES if judge != SELF else GAP if "gap" in quantity else LEARNING
    ask = Compared(quantity, _under(_SR, judge), _under(_SR_FIRST, judge), share=True)
    return Claim(key, section, text, paper, ask, above=False, bar=SAME, quoted=quoted, says=says)


def _keeps(
    key: str, section: str, quantity: str, text: str, paper: str, last: Point, first: Point, *, quoted: bool = False
) -> Claim:
    ask = Compared(quantity, last, first, share=True)
    return Claim(key, section, text, paper, ask, above=True, bar=KEPT, quoted=quoted)


def _ahead(
    key: str,
    section: str,
    text: str,
    paper: str,
    one: Point,
    other: Point,
    quantity: str = "true_score",
    *,
    quoted: bool = False,
) -> Claim:
    return Claim(key, section, text, paper, Compared(quantity, one, other), above=True, quoted=quoted)


_COLLAPSE = "it shrinks 9 times over 4 rounds, Llama-3.1-8B (Figure 1)"
_GRADIENT = "the DPO gradient fades as the features of chosen and rejected grow alike"

CLAIMS: tuple[Claim, ...] = (
    _shrinks("sr_gap", "gap", "SR's judged gap shrinks over 4 rounds", _COLLAPSE, quoted=True, says=1 / 9),
    _shrinks("sr_true_gap", "true_gap", "SR's true gap shrinks over 4 rounds", IMPLIED, quoted=True),
    _keeps("tsr_gap", GAP, "gap", "TSR keeps its judged gap", "it stays", _TSR, _TSR_FIRST, quoted=True),
    _keeps(
        "sr_gap2",
        GAP,
        "gap",
        "SR keeps its judged gap over 2 rounds, as long as TSR's are",
        BESIDE,
        _SR_TWO,
        _SR_FIRST,
        quoted=True,
    ),
    _keeps("sr_true_gap2", GAP, "true_gap", "SR keeps its true gap over 2 rounds", BESIDE, _SR_TWO, _SR_FIRST),
    _keeps("tsr_true_gap", GAP, "true_gap", "TSR keeps its true gap", IMPLIED, _TSR, _TSR_FIRST),
    _ahead("gap_ahead", GAP, "TSR's judged gap is wider than SR's in round 2", IMPLIED, _TSR, _SR_TWO, "gap"),
    _ahead("true_gap_ahead", GAP, "TSR's true gap is wider than SR's in round 2", IMPLIED, _TSR, _SR_TWO, "true_gap"),
    Claim(
        "sr_cosine",
        LEARNING,
        "In SR the cosine of chosen and rejected rises over 4 rounds",
        "the last-layer features of chosen and rejected grow alike",
        Compared("cosine", _SR, _SR_FIRST),
        above=True,
        quoted=True,
    ),
    Claim(
        "sr_cosine_centred",
        LEARNING,
        "The same without the round's mean feature",
        "the same claim, without what all responses share",
        Compared("cosine_centred", _SR, _SR_FIRST),
        above=True,
    ),
    _shrinks("sr_distance", "feature_distance", "In SR the features come closer over 4 rounds", _GRADIENT),
    Claim(
        "tsr_cosine",
        LEARNING,
        "TSR's chosen and rejected are less alike than SR's in round 2",
        IMPLIED,
        Compared("cosine", _TSR, _SR_TWO),
        above=False,
    ),
    _shrinks(
        "sr_gradient",
        "gradient_distance",
        "In SR the gradients of chosen and rejected come closer over 4 rounds",
        _GRADIENT,
        quoted=True,
    ),
    _shrinks("sr_grad_norm", "grad_norm", "In SR the norm of DPO's gradient falls over 4 rounds", _GRADIENT),
    _shrinks("sr_margin", "margin", "In SR the margin that DPO reaches falls over 4 rounds", _GRADIENT, quoted=True),
    _shrinks(
        "sr_margin_per_update",
        "margin_per_update",
        "In SR the margin an update reaches falls over 4 rounds",
        "not a claim of the paper: fewer pairs make fewer updates, which alone make a smaller margin",
        quoted=True,
    ),
    _ahead(
        "gradient_ahead",
        LEARNING,
        "TSR's gradients are further apart than SR's in round 2",
        IMPLIED,
        _TSR,
        _SR_TWO,
        "gradient_distance",
    ),
    Claim(
        "bound",
        LEARNING,
        "Over SR's rounds the gradients' distance goes with the features' distance",
        "the first is bounded by a constant times the second",
        Together("gradient_distance", "feature_distance", _SR),
        above=True,
    ),
    _ahead("sr_m0", RIVALS, "SR improves on M0 in 4 rounds", "AlpacaEval 2.0: 19.69 against 5.96", _SR, _START),
    _ahead("tsr_m0", RIVALS, "TSR improves on M0 in 2 rounds", "AlpacaEval 2.0: 29.44 against 5.96", _TSR, _START),
    _ahead("tsr_sr2", RIVALS, "TSR's 2 rounds beat SR's 2", IMPLIED, _TSR, _SR_TWO, quoted=True),
    _ahead("tsr_sr4", RIVALS, "TSR's 2 rounds beat SR's 4", HEADLINE, _TSR, _SR, quoted=True),
    _ahead("tsr_sr5", RIVALS, "TSR's 2 rounds beat SR's 5", COMPUTE, _TSR, _SR_MORE, quoted=True),
    *(
        Claim(
            f"tsr_{cost}",
            RIVALS,
            f"TSR's 2 rounds beat SR at equal {words}",
            COMPUTE,
            Equal(cost, _TSR, _SR_MORE),
            above=True,
            quoted=True,
        )
        for cost, words in (("updates", "updates"), ("tokens", "tokens"), ("cpu_seconds", "seconds"))
    ),
    _ahead(
        "past_future",
        PARTS,
        "The past alone does more than the future alone",
        "Anchored Rejection contributes more than Future-Guided Chosen",
        Point("past_only", 2),
        Point("future_only", 2),
        quoted=True,
    ),
    Claim(
        "past_future_tokens",
        PARTS,
        "The past alone does more than the future alone at equal tokens",
        "Anchored Rejection contributes more than Future-Guided Chosen",
        Equal("tokens", Point("past_only", 2), Point("future_only", 2)),
        above=True,
        quoted=True,
    ),
    _ahead(
        "tsr_past",
        PARTS,
        "Both do more than the past alone",
        IMPLIED,
        _TSR,
        Point("past_only", 2),
        quoted=True,
    ),
    _ahead(
        "tsr_future",
        PARTS,
        "Both do more than the future alone",
        IMPLIED,
        _TSR,
        Point("future_only", 2),
        quoted=True,
    ),
    _ahead(
        "tsr_rejection",
        PARTS,
        "TSR's 2 rounds beat 4 of rejection sampling",
        "one of its baselines",
        _TSR,
        Point("rejection_sampling", 4),
    ),
    _ahead(
        "sr_rejection",
        PARTS,
        "SR's 4 rounds beat 4 of rejection sampling",
        BESIDE,
        _SR,
        Point("rejection_sampling", 4),
    ),
    _ahead(
        "tsr_spin",
        PARTS,
        "TSR's 2 rounds beat SPIN",
        "one of its baselines",
        _TSR,
        Point("spin", 1),
    ),
    _ahead(
        "tsr_spin_fair",
        PARTS,
        "TSR's 2 rounds beat 4 of SPIN on the same prompts",
        "one of its baselines",
        _TSR,
        Point("spin_fair", 4),
    ),
    _ahead(
        "fixed_tsr_sr4",
        JUDGES,
        "With a fixed judge, M0, TSR's 2 rounds beat SR's 4",
        "it holds for other judges (Auto-J 6B, 13B)",
        _under(_TSR, FIXED),
        _under(_SR, FIXED),
        quoted=True,
    ),
    _ahead(
        "truth_tsr_sr4",
        JUDGES,
        "With a judge that knows the truth, TSR's 2 rounds beat SR's 4",
        BESIDE,
        _under(_TSR, TRUTH),
        _under(_SR, TRUTH),
    ),
    _shrinks(
        "truth_sr_gap",
        "true_gap",
        "With a judge that knows the truth, SR's gap shrinks over 4 rounds",
        "not a claim of the paper: does the gap shrink because judging fails, or because answers grow alike?",
        TRUTH,
    ),
    _ahead(
        "self_fixed_sr",
        JUDGES,
        "SR that judges itself does better than with a fixed judge, M0 (4 rounds)",
        "arXiv 2401.10020: the judge improves with the model",
        _SR,
        _under(_SR, FIXED),
        quoted=True,
    ),
    _ahead(
        "self_fixed_tsr",
        JUDGES,
        "TSR that judges itself does better than with a fixed judge, M0 (2 rounds)",
        "arXiv 2401.10020: the judge improves with the model",
        _TSR,
        _under(_TSR, FIXED),
    ),
    _ahead(
        "truth_self_sr",
        JUDGES,
        "SR with a judge that knows the truth does better than judging itself (4 rounds)",
        BESIDE,
        _under(_SR, TRUTH),
        _SR,
    ),
    _ahead(
        "truth_self_tsr",
        JUDGES,
        "TSR with a judge that knows the truth does better than judging itself (2 rounds)",
        BESIDE,
        _under(_TSR, TRUTH),
        _TSR,
    ),
    *(
        _keeps(
            f"drift_{arm}",
            DRIFT,
            "fixed_agreement",
            f"After {rounds} {'round' if rounds == 1 else 'rounds'} of {name} the model keeps 90 % of M0's agreement",
            "not a claim of the paper, but what all its arms rest on",
            Point(arm, rounds),
            Point(arm, 0),
            quoted=arm in ("sr", "tsr"),
        )
        for arm, rounds, name in (
            ("sr", 4, "SR"),
            ("tsr", 2, "TSR"),
            ("past_only", 2, "the past alone"),
            ("future_only", 2, "the future alone"),
            ("rejection_sampling", 4, "rejection sampling"),
            ("spin_fair", 4, "SPIN on the same prompts"),
            ("spin", 1, "SPIN"),
        )
    ),
)
