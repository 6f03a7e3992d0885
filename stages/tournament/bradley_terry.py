"""Bradley-Terry: each player has a strength, and i beats j with probability 1 / (1 + exp(s_j - s_i)).

Fitted by maximum likelihood (Bradley and Terry 1952; Newton's method), a tie being half a win of each. Intervals come
from drawing prompts again: games on one prompt share its responses and are not independent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ELO = 400 / np.log(10)  # points of an odds ratio of e; 400 points are ten to one
PRIOR = 1.0  # ties added to every two that met: who won all games has no finite strength without
_STEPS, _SMALL, _FURTHEST = 200, 1e-10, 2.0  # Newton's steps at most, when it has arrived, how far one may go


@dataclass(frozen=True)
class Counts:
    """Verdicts by prompt (rows) and by two players who met (columns).

    `one` and `other` are the players' places, shape (pairs,); `points` are the wins of `one`, ties as a half, and
    `games` the verdicts, both of shape (prompts, pairs).
    """

    players: int
    one: Ints
    other: Ints
    points: Floats
    games: Floats


@dataclass(frozen=True)
class Fit:
    """Strengths in nats against the player at place 0, shape (players,); `drawn` those of resamples, a row each.

    `expected` and `seen` are each two players' shares of points for `one`, by the fit and as counted. `p_value` is
    that of the test whether the strengths alone explain `seen`; None where there is nothing to test.
    """

    strengths: Floats
    drawn: Floats
    expected: Floats
    seen: Floats
    p_value: float | None


def fit(counts: Counts, seed: int, resamples: int) -> Fit:
    """Return strengths, and those of `resamples` draws of the prompts with replacement. Every two must have met."""
    everyone = np.ones((1, len(counts.points)))
    prompts = len(counts.points)
    random = np.random.default_rng(seed)
    weights = random.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples).astype(float)
    whole, parts = (_strengths(counts, drawn) for drawn in (everyone, weights))
    seen, drawn_seen = (_shares(counts, drawn) for drawn in (everyone, weights))
    expected, drawn_expected = _expected(counts, whole), _expected(counts, parts)
    p_value = _misfit(counts.players, (seen - expected)[0], drawn_seen - drawn_expected, drawn_seen.std(axis=0))
    return Fit(whole[0], parts, expected[0], seen[0], p_value)


def _strengths(counts: Counts, weights: Floats) -> Floats:
    """Return a row of strengths for each row of prompts' weights."""
    points, games = weights @ counts.points, weights @ counts.games
    points, games = points + PRIOR / 2 * (games > 0), games + PRIOR * (games > 0)
    strengths = np.zeros((len(weights), counts.players))
    for _ in range(_STEPS):
        chance = _expected(counts, strengths)
        slope, bend = points - games * chance, games * chance * (1 - chance)
        gradient = np.zeros_like(strengths)
        curvature = np.zeros((len(weights), counts.players, counts.players))
        for pair, (one, other) in enumerate(zip(counts.one, counts.other, strict=True)):
            gradient[:, one] += slope[:, pair]
            gradient[:, other] -= slope[:, pair]
            for a, b, sign in ((one, one, 1), (other, other, 1), (one, other, -1), (other, one, -1)):
                curvature[:, a, b] += sign * bend[:, pair]
        step = np.linalg.solve(curvature[:, 1:, 1:], gradient[:, 1:, None])[..., 0]
        strengths[:, 1:] += np.clip(step, -_FURTHEST, _FURTHEST)
        if np.abs(step).max(initial=0) < _SMALL:
            break
    return strengths


def _expected(counts: Counts, strengths: Floats) -> Floats:
    """Return each pair's expected share of points for `one`, for each row of strengths."""
    chance: Floats = 1 / (1 + np.exp(strengths[:, counts.other] - strengths[:, counts.one]))
    return chance


def _shares(counts: Counts, weights: Floats) -> Floats:
    """Return each pair's share of points for `one`, for each row of prompts' weights; NaN where a draw has no game."""
    with np.errstate(invalid="ignore"):
        shares: Floats = (weights @ counts.points) / (weights @ counts.games)
    return shares


def _misfit(players: int, misses: Floats, drawn: Floats, spread: Floats) -> float | None:
    """Return how often resamples stray from `misses` as far as these are from zero.

    The sum of squares over the pairs, each by its own spread, is compared with that of the resamples about the seen
    values, so that pairs that share responses are not taken for independent ones.
    """
    if len(misses) < players or not np.isfinite(drawn).all() or not (spread > 0).all():
        return None  # as many strengths as pairs explain anything; a pair that never varies has no scale
    far = ((misses / spread) ** 2).sum()
    strayed = (((drawn - misses) / spread) ** 2).sum(axis=1)
    return float((strayed >= far).mean())
