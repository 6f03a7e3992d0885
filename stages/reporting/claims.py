"""The paper's claims (arXiv 2508.06026) against one run: a verdict and a sentence of numbers for each.

Every word here is chosen by numbers; an arm that did not run gives `not tested`, never silence.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from stages.reporting.verdicts import (
    CONTRARY,
    NBSP,
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    Estimate,
    falls,
    keeps,
    minus,
    number,
    plus_minus,
    rises,
    told,
)

_ARM_PAIRS = (("tsr", "sr"), ("past_only", "future_only"), ("tsr", "past_only"), ("tsr", "future_only"))
GAPS = {"gap": "judged gap", "true_gap": "true gap"}


@dataclass(frozen=True)
class Facts:
    """What a run measured.

    `series[arm][measure]` has one estimate a round; `lines[arm]` the model versions from M0 on;
    `ahead[model, other]` is the paired difference of their true scores (empty without ground truth);
    `tokens[arm]` is what all its rounds took.
    """

    series: dict[str, dict[str, list[Estimate]]]
    lines: dict[str, list[str]]
    ahead: dict[tuple[str, str], Estimate]
    tokens: dict[str, int]


@dataclass(frozen=True)
class Finding:
    """A claim, the verdict on it, and why."""

    claim: str
    verdict: str
    text: str


def comparisons(lines: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return the (model, other) whose true scores the findings compare, each once."""
    wanted = [(line[-1], line[0]) for line in lines.values()]
    for arm, other in _ARM_PAIRS:
        if arm in lines and other in lines:
            wanted += [(lines[arm][-1], lines[other][-1]), _same_round(lines, arm, other)]
    return sorted(set(wanted))


def _same_round(lines: dict[str, list[str]], arm: str, other: str) -> tuple[str, str]:
    last = min(len(lines[arm]), len(lines[other])) - 1
    return lines[arm][last], lines[other][last]


def findings(facts: Facts) -> list[Finding]:
    """Return all findings, in the order of the paper's claims."""
    return [
        *_changes(facts, "sr", "Self-Rewarding's {} shrinks over the rounds", falls),
        *_changes(facts, "tsr", "TSR keeps the {}", keeps),
        *_wider(facts),
        _shift(facts, "cosine", "cosine of chosen and rejected", "rises", rises, 3),
        _shift(facts, "cosine_centred", "centred cosine of chosen and rejected", "rises", rises, 3),
        _shift(facts, "gradient_distance", "gradient distance of chosen and rejected", "fades", falls, 1),
        *_quality(facts),
    ]


def paragraph(found: list[Finding]) -> str:
    """Return the findings in one plain paragraph: what this run supports, and what it does not."""
    openings = (
        (SUPPORTED, "This run supports"),
        (NOT_SUPPORTED, "It does not support"),
        (CONTRARY, "It speaks against"),
        (NOT_TESTED, "It does not test"),
    )
    told = []
    for verdict, opening in openings:
        claims = [f"that {_inner(f.claim)}" for f in found if f.verdict == verdict]
        if claims:
            told.append(f"{opening} {_listed(claims)}.")
    return " ".join(told)


def _inner(claim: str) -> str:
    """Return a claim as it stands inside a sentence."""
    return claim[0].lower() + claim[1:] if claim.startswith(("In ", "The ")) else claim


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _changes(facts: Facts, arm: str, claim: str, verdict: Callable[[Estimate], str]) -> list[Finding]:
    return [
        _first_to_last(facts, arm, key, claim.format(words), words, verdict, 2, share=True)
        for key, words in GAPS.items()
        if key == "gap" or _has_truth(facts)
    ]


def _shift(facts: Facts, key: str, words: str, verb: str, verdict: Callable[[Estimate], str], digits: int) -> Finding:
    claim = f"In Self-Rewarding the {words} {verb}"
    return _first_to_last(facts, "sr", key, claim, words, verdict, digits, share=False)


def _first_to_last(
    facts: Facts,
    arm: str,
    key: str,
    claim: str,
    words: str,
    verdict: Callable[[Estimate], str],
    digits: int,
    *,
    share: bool,
) -> Finding:
    """Return the finding on a change of a measure between an arm's first and last round."""
    series = _of(facts, arm, key)
    if len(series) < 2:
        missing = "it was measured in none" if arm in facts.lines else "the arm did not run"
        why = "the arm has one round" if series else missing
        return Finding(claim, NOT_TESTED, f"Two rounds are needed; {why}.")
    first, last = series[0], series[-1]
    change = minus(last, first)
    text = f"The {words} goes from {plus_minus(first, digits)} in round 1 to {plus_minus(last, digits)} in round "
    text += f"{len(series)}: {told(change, digits)}."
    if share and (ratio := _ratio(first, last)):
        text += f" That is {ratio}."
    return Finding(claim, verdict(change), text)


def _ratio(first: Estimate, last: Estimate) -> str:
    """Return the change as a share of the first value; empty where a share has no meaning."""
    if first.value <= 0 or last.value <= 0:
        return ""
    return f"{100 * last.value / first.value:.0f}{NBSP}% of the first round's"


def _wider(facts: Facts) -> list[Finding]:
    """Return the findings on TSR's gap beside SR's, in the last round that both have."""
    return [_wider_in(facts, key, words) for key, words in GAPS.items() if key == "gap" or _has_truth(facts)]


def _wider_in(facts: Facts, key: str, words: str) -> Finding:
    claim = f"TSR's {words} is wider than Self-Rewarding's in the same round"
    both = list(zip(_of(facts, "tsr", key), _of(facts, "sr", key), strict=False))
    if not both:
        return Finding(claim, NOT_TESTED, "It needs both arms; they did not both run.")
    tsr, sr = both[-1]
    change = minus(tsr, sr)
    text = f"In round {len(both)}, TSR {plus_minus(tsr)} against SR {plus_minus(sr)}: {told(change)}."
    return Finding(claim, rises(change), text)


def _quality(facts: Facts) -> list[Finding]:
    """Return the findings on true quality; none can be tested without ground truth."""
    ends = [(arm, words) for arm, words in (("sr", "Self-Rewarding"), ("tsr", "TSR")) if arm in facts.lines]
    return [
        *(_ahead(facts, f"{words} improves on M0", facts.lines[arm][-1], facts.lines[arm][0]) for arm, words in ends),
        _arm_ahead(facts, "tsr", "sr", "TSR after its {} beats Self-Rewarding after its {}", last=True),
        _arm_ahead(facts, "tsr", "sr", "TSR beats Self-Rewarding after as many rounds", last=False),
        _arm_ahead(facts, "past_only", "future_only", "The past alone does more than the future alone", last=False),
        _arm_ahead(facts, "tsr", "past_only", "TSR does more than the past alone", last=False),
        _arm_ahead(facts, "tsr", "future_only", "TSR does more than the future alone", last=False),
    ]


def _arm_ahead(facts: Facts, arm: str, other: str, claim: str, *, last: bool) -> Finding:
    if arm not in facts.lines or other not in facts.lines:
        missing = " and ".join(name for name in (arm, other) if name not in facts.lines)
        return Finding(claim.format("last round", "last round"), NOT_TESTED, f"It needs {missing}, which did not run.")
    pair = (facts.lines[arm][-1], facts.lines[other][-1]) if last else _same_round(facts.lines, arm, other)
    counts = [_rounds(len(facts.lines[name]) - 1) for name in (arm, other)]
    found = _ahead(facts, claim.format(*counts), *pair)
    cost = facts.tokens[arm] / facts.tokens[other]
    return replace(found, text=f"{found.text} All its rounds take {number(cost)} times the tokens.") if last else found


def _rounds(count: int) -> str:
    return f"{count} round" if count == 1 else f"{count} rounds"


def _ahead(facts: Facts, claim: str, model: str, other: str) -> Finding:
    """Return the finding that `model` answers better than `other`."""
    if model == other:
        return Finding(claim, NOT_TESTED, f"Both are {model}.")
    if (model, other) not in facts.ahead:
        return Finding(claim, NOT_TESTED, "There is no ground truth to tell it by.")
    change = facts.ahead[model, other]
    text = f"{model} against {other} on the same held-out prompts: true score {told(change)}."
    return Finding(claim, rises(change), text)


def _of(facts: Facts, arm: str, measure: str) -> list[Estimate]:
    return facts.series.get(arm, {}).get(measure, [])


def _has_truth(facts: Facts) -> bool:
    return bool(facts.ahead)
