"""Games to a ranking: SQL counts, Bradley-Terry fits, and the fit is put in words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from stages.errors import TsrError
from stages.ids import seed32_for
from stages.sqlrun import connect, run_file
from stages.tournament.bradley_terry import ELO, Counts, Fit, fit
from stages.tournament.games import QUERIES, Hall

LEVEL = 0.95  # of the intervals
REJECTED = 0.05  # p-value below which strengths alone do not explain the results
SLIGHT = 0.05  # share of points that a fit may miss between two players and still be fair


@dataclass(frozen=True)
class Ranking:
    """`table` has a row a player, the strongest first; `told` is what is known of the tournament as a whole."""

    table: pl.DataFrame
    told: dict[str, Any]


def rank(hall: Hall, games: pl.DataFrame, truth: dict[str, float], resamples: int) -> Ranking:
    """Return the ranking; `truth` has the true scores of the players that have one.

    Raises TsrError where two players have no meeting that counts.
    """
    with connect() as db:
        meetings = run_file(db, QUERIES / "meetings.sql", {"games": games}, {})
        standings = run_file(db, QUERIES / "standings.sql", {"meetings": meetings}, {})
        positions = run_file(db, QUERIES / "positions.sql", {"games": games}, {})
    counts = _counts(hall.players, meetings)
    fitted = fit(counts, seed32_for(hall.seed, "tournament", hall.players), resamples)
    table = _table(hall.players, fitted).join(standings, on="model", how="left").sort("rank")
    known = pl.DataFrame({"model": list(truth), "true_score": list(truth.values())}, schema_overrides=_TRUTH)
    table = table.join(known, on="model", how="left", maintain_order="left")
    reasons = dict(games.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows())
    ways = dict(games.group_by("way").len().sort("way").iter_rows())
    told = {
        "verdicts": ways,
        "without_verdict": reasons,
        "meetings_left_out": int(meetings["left_out"].sum()),
        "positions": positions.row(0, named=True),
        "fit": _words(hall.players, counts, fitted),
        "as_true_scores": _agreement(table),
    }
    return Ranking(table, told)


_TRUTH = {"model": pl.String, "true_score": pl.Float64}


def _counts(players: list[str], meetings: pl.DataFrame) -> Counts:
    """Return the verdicts as arrays. Raises TsrError for two players without a meeting that counts."""
    place = {model: index for index, model in enumerate(players)}
    pairs = sorted(
        {(model, other) for model, other in meetings.select("model", "other").iter_rows()},
        key=lambda pair: (place[pair[0]], place[pair[1]]),
    )
    column = {pair: index for index, pair in enumerate(pairs)}
    row = {prompt: index for index, prompt in enumerate(sorted(set(meetings["prompt_id"])))}
    points, games = np.zeros((len(row), len(pairs))), np.zeros((len(row), len(pairs)))
    for prompt, model, other, wins, ties, losses, _ in meetings.iter_rows():
        at = row[prompt], column[model, other]
        points[at] += wins + ties / 2
        games[at] += wins + ties + losses
    met = {pair for pair, index in column.items() if games[:, index].any()}
    wanted = {tuple(sorted((a, b))) for a in players for b in players if a != b}
    if apart := sorted(wanted - met):
        more = f"; {len(apart)} pairs of models are like that" if len(apart) > 1 else ""
        raise TsrError(
            f"tournament: {' and '.join(apart[0])} have no meeting that counts{more}; see the games' reasons"
        )
    one, other = (np.array([place[pair[side]] for pair in pairs], dtype=np.int64) for side in (0, 1))
    return Counts(len(players), one, other, points, games)


def _table(players: list[str], fitted: Fit) -> pl.DataFrame:
    """Return rank, model, strength in Elo points against the first player, and the intervals of rank and strength."""
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(fitted.drawn, tails, axis=0) * ELO
    ranks = 1 + (fitted.drawn[:, None, :] > fitted.drawn[:, :, None]).sum(axis=2)
    best, worst = np.quantile(ranks, tails, axis=0, method="inverted_cdf")
    columns = {
        "rank": 1 + (fitted.strengths[None, :] > fitted.strengths[:, None]).sum(axis=1),
        "model": players,
        "elo": _tenths(fitted.strengths * ELO),
        "elo_low": _tenths(low),
        "elo_high": _tenths(high),
        "rank_best": best.astype(np.int64),
        "rank_worst": worst.astype(np.int64),
    }
    return pl.DataFrame(columns)


def _tenths(values: Any) -> Any:
    """Return values to a tenth: further digits differ between machines. No zero is negative."""
    return np.round(values, 1) + 0.0


def _words(players: list[str], counts: Counts, fitted: Fit) -> dict[str, Any]:
    """Return how well strengths alone explain who beats whom, and the two players whom they explain worst."""
    misses = np.abs(fitted.seen - fitted.expected)
    worst = int(misses.argmax())
    p_value = fitted.p_value
    if p_value is None:
        word = "untested"
    elif p_value >= REJECTED:
        word = "good"
    else:
        word = "fair" if misses[worst] <= SLIGHT else "poor"
    return {
        "word": word,
        "p_value": p_value,
        "worst": {
            "model": players[counts.one[worst]],
            "other": players[counts.other[worst]],
            "points": float(fitted.seen[worst]),
            "expected": float(fitted.expected[worst]),
        },
    }


def _agreement(table: pl.DataFrame) -> dict[str, int] | None:
    """Return how many pairs of models stand in the order of their true scores; None where fewer than two have one."""
    known = table.drop_nulls("true_score").select("elo", "true_score").rows()
    pairs = [(a, b) for i, a in enumerate(known) for b in known[:i] if a[1] != b[1]]
    same = sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in pairs)
    return {"pairs": len(pairs), "same_order": same} if pairs else None
