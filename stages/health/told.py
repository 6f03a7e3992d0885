"""Verdicts as tables of 80 columns for a reader, or as JSON, an object a line."""

import textwrap
from collections.abc import Iterator
from typing import Any

import polars as pl

from stages.health.thresholds import Threshold
from stages.health.verdicts import Health, number
from stages.output import as_json

WIDTH = 80
_MARKS = {"fine": " ", "watch": "!", "collapsing": "X", "unknown": " "}
_UNITS = {"as it is": "", "share of the first": " of round 1", "change from the first": " off round 1"}
_UNITS["times the first"] = " x round 1"
_SHORT = {compared: unit.replace("round 1", "first") for compared, unit in _UNITS.items()}
_WORDS = {"collapsing": "collap."}
ROUNDS = 5  # that fit beside each other


def summary(health: Health) -> str:
    """Return a line a round: its verdict, and the signals that it rests on."""
    lines = ["arm           round  verdict     because"]
    for row in health.rounds.iter_rows(named=True):
        start = f"{row['arm']:<12.12}  {row['round']:>5}  {row['verdict']:<10}  "
        why = textwrap.wrap(", ".join(_because(health, row)), WIDTH - len(start)) or [""]
        lines += [f"{start}{why[0]}".rstrip(), *(" " * len(start) + more for more in why[1:])]
    return "\n".join([*lines, *_unknown(health)])


def _because(health: Health, row: dict[str, Any]) -> Iterator[str]:
    """Yield the signals that are not fine, the worst first."""
    for level in ("collapsing", "watch"):
        same = [pl.col(key) == row[key] for key in ("run", "arm", "round")]
        for signal in health.signals.filter(*same, pl.col("verdict") == level).iter_rows(named=True):
            limit = health.thresholds[signal["signal"]]
            yield f"{signal['signal']} {number(signal['measured'])}{_UNITS[limit.compared]}"


def _unknown(health: Health) -> list[str]:
    """Return a line on the signals that no round has."""
    missing = [signal for signal in health.thresholds if signal not in health.known]
    return textwrap.wrap(f"Unknown in every round: {', '.join(missing)}.", WIDTH) if missing else []


def detail(health: Health, arm: str) -> str:
    """Return an arm's signals by round, each with its limits; many rounds stand in several blocks."""
    of_arm = health.of([arm])
    rounds = of_arm.rounds["round"].to_list()
    blocks = [rounds[start : start + ROUNDS] for start in range(0, len(rounds), ROUNDS)]
    return "\n\n".join(_block(of_arm, arm, block) for block in blocks)


def _block(health: Health, arm: str, rounds: list[int]) -> str:
    lines = [f"{arm:<24.24} {'watch':>6} {'collap':>6}" + "".join(f"{f'round {number}':>8}" for number in rounds)]
    for signal, limit in health.thresholds.items():
        values = health.signals.filter(pl.col("signal") == signal, pl.col("round").is_in(rounds)).sort("round")
        start = f"{signal + _SHORT[limit.compared]:<24} {_limit(limit, limit.watch)} {_limit(limit, limit.collapsing)}"
        lines.append(start + "".join(_cell(row, limit) for row in values.iter_rows(named=True)))
    verdicts = health.rounds.filter(pl.col("round").is_in(rounds)).sort("round")["verdict"]
    lines.append(f"{'verdict':<38}" + "".join(f"{_WORDS.get(verdict, verdict):>7} " for verdict in verdicts))
    return "\n".join(line.rstrip() for line in lines)


def _limit(limit: Threshold, value: float) -> str:
    return f"{'<' if limit.bad == 'low' else '>'}{value:>5g}"


def _cell(row: dict[str, Any], limit: Threshold) -> str:
    """Return what is held against the limits with its mark; the value that starts a comparison is in brackets."""
    if row["measured"] is not None:
        return f"{number(row['measured']):>7}{_MARKS[row['verdict']]}"
    starts = row["value"] is not None and limit.compared != "as it is"
    return f"{'(' + number(row['value']) + ')' if starts else '?':>8}"


def as_lines(health: Health) -> str:
    """Return an object a round: arm, round, model, judge, verdict, unknown, and its signals with their limits."""
    lines = []
    for row in health.rounds.drop("run").iter_rows(named=True):
        found = health.signals.filter(pl.col("arm") == row["arm"], pl.col("round") == row["round"])
        signals = {
            one["signal"]: {key: one[key] for key in ("value", "measured", "verdict")}
            | {
                key: getattr(health.thresholds[one["signal"]], key)
                for key in ("compared", "bad", "watch", "collapsing")
            }
            for one in found.iter_rows(named=True)
        }
        lines.append(as_json(row | {"signals": signals}))
    return "\n".join(lines)
