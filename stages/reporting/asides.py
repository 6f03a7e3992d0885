"""Plain sentences beside the claims: what else a reader must know before believing a verdict.

Each takes numbers and returns a sentence, or an empty string where there is nothing to say.
"""

from stages.reporting.verdicts import NBSP, Estimate, is_clear, number, plus_minus


def one_seed(seed: int) -> str:
    """Say what the standard errors leave out."""
    return (
        f"This is one run with one seed ({seed}). The standard errors are over the prompts and pairs of this run; "
        "they do not say how another seed would come out, and one run cannot."
    )


def percent(share: float | None) -> str:
    """Return a share for readers, as in 41.5 %."""
    return "none" if share is None else f"{number(100 * share, 1)}{NBSP}%"


def best_round(arm: str, models: list[str], scores: list[float | None]) -> str:
    """Say where an arm is best, if it does not end there."""
    known = [
        (score, -position, model)
        for position, (score, model) in enumerate(zip(scores, models, strict=True))
        if score is not None
    ]
    if len(known) < 2:
        return ""
    score, position, best = max(known)
    last = known[-1][0]
    if best == models[-1] or number(score) == number(last):
        return ""
    return f"{arm} is best after round {-position} ({best}, {number(score)}) and ends at {number(last)} ({models[-1]})."


def judge_drift(
    arm: str,
    candidates: list[float | None],
    fixed: list[float | None],
    change: tuple[Estimate, Estimate | None] | None,
) -> str:
    """Say how an arm's judges change, on their own round's candidates and on responses that never change.

    `change` holds the paired differences of the last and the first judge on the fixed responses: in agreement
    with the truth, and in leniency.
    """
    seen, same = ([value for value in values if value is not None] for values in (candidates, fixed))
    if len(seen) < 2 or len(same) < 2 or change is None:
        return ""
    agreement, leniency = change
    return (
        f"{arm}: the judge agrees exactly with the truth on {percent(seen[0])} of the first round's candidates and on "
        f"{percent(seen[-1])} of the last round's, of every side that the arm uses; on the fixed responses, "
        f"{percent(same[0])} before training and {percent(same[-1])} after it"
        f"{'' if is_clear(agreement) else ' (within two standard errors)'}{_leniency(leniency)}."
    )


def _leniency(change: Estimate | None) -> str:
    if change is None or not is_clear(change):
        return ""
    size = plus_minus(Estimate(abs(change.value), change.se))
    return f", and scores them {size} {'higher' if change.value > 0 else 'lower'}"


def at_cost(arm: str, other: str, rounds: list[tuple[int, float | None]], spent: list[tuple[int, float | None]]) -> str:
    """Say how far `other` had come for no more tokens than `arm` took, round by round.

    Both lists hold (tokens so far, true score), one entry a round.
    """
    told = []
    for round_number, (tokens, score) in enumerate(rounds, start=1):
        reached = [value for cost, value in spent if cost <= tokens and value is not None]
        if score is not None and reached:
            told.append(f"{number(max(reached))} where {arm} had {number(score)} (round {round_number})")
    return f"For no more tokens, {other} had reached {', and '.join(told)}." if told else ""


def upside_down(shares: dict[str, list[float | None]]) -> str:
    """Say how many pairs teach the wrong way round, in each arm's first and last round."""
    known = {arm: [share for share in found if share is not None] for arm, found in shares.items()}
    told = [f"{arm} {percent(found[0])} and {percent(found[-1])}" for arm, found in known.items() if found]
    return f"Pairs upside down, first and last round: {'; '.join(told)}." if told else ""


def cost(tokens: dict[str, int]) -> str:
    """Say what each arm costs beside the first."""
    (first, base), *others = tokens.items()
    told = [f"{arm} {count:,} ({number(count / base)} times {first}'s)" for arm, count in others if base]
    return f"Tokens for all rounds: {', '.join([f'{first} {base:,}', *told])}."


def unfinished(models: dict[str, float | None]) -> str:
    """Say which final model versions leave responses unfinished, worst first; they score as wrong."""
    cut = sorted((finished, model) for model, finished in models.items() if finished is not None and finished < 0.95)
    if not cut:
        return ""
    told = ", ".join(f"{model} {percent(1 - finished)}" for finished, model in cut)
    return f"Held-out responses cut off at the token limit: {told}."
