"""What the signals of a run say against the thresholds: by signal, and by round."""

from dataclasses import dataclass

import polars as pl

from stages.health import thresholds as limits
from stages.health.signals import QUERIES
from stages.sqlrun import connect, run_file

LEVELS = ("unknown", "fine", "watch", "collapsing")  # each worse than the one before


@dataclass(frozen=True)
class Health:
    """One row a run, arm, round and signal in `signals`, one a run, arm and round in `rounds`, under `thresholds`."""

    signals: pl.DataFrame
    rounds: pl.DataFrame
    thresholds: limits.Thresholds

    @property
    def known(self) -> set[str]:
        """Return the signals that some round has."""
        return set(self.signals.drop_nulls("value")["signal"])

    def of(self, arms: list[str]) -> "Health":
        """Return the rows of some arms, in their order."""
        parts = [[rows.filter(pl.col("arm") == arm) for arm in arms] for rows in (self.signals, self.rounds)]
        return Health(pl.concat(parts[0]), pl.concat(parts[1]), self.thresholds)


def judged(signals: pl.DataFrame, thresholds: limits.Thresholds) -> Health:
    """Return the verdicts on `signals`, as signals.py makes them."""
    with connect() as db:
        frames = {"signals": signals, "thresholds": limits.frame(thresholds)}
        by_signal = run_file(db, QUERIES / "verdicts.sql", frames, {})
        by_round = run_file(db, QUERIES / "rounds.sql", {"verdicts": by_signal}, {})
    return Health(by_signal, by_round, thresholds)


def at_least(level: str) -> list[str]:
    """Return a level and those that are worse.

    >>> at_least("watch")
    ['watch', 'collapsing']
    """
    return list(LEVELS[LEVELS.index(level) :])


def number(value: float) -> str:
    """Return a number for readers.

    >>> number(0.1234), number(7.0), number(123.4)
    ('0.123', '7.00', '123')
    """
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"
