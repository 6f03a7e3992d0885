"""What many seeds say: means with intervals, paired differences with tests, and a correction for testing much.

The unit is the seed: everything varies with it, so seeds are independent and prompts within one are not. Pure functions
over numbers or tables; the tests are scipy's. Two arms are compared on the same seeds, seed by seed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from stages.errors import TsrError

CONFIDENCE = 0.95
RESAMPLES = 9999
ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds and the interval around it; without limits where one seed cannot give any."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """The mean difference of two arms over the seeds that both ran on, and what tests say of `no difference`.

    `p_t` is the paired t test's, `p_wilcoxon` the signed-rank test's, both two-sided; None where there is nothing to
    test: under two seeds, or without any spread. `ahead` seeds have a difference above 0.
    """

    difference: float
    low: float | None
    high: float | None
    n: int
    ahead: int
    p_t: float | None
    p_wilcoxon: float | None


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of one value a seed, with Student's t interval. Raises TsrError for no value, or NaN.

    >>> interval([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.484138, high=4.484138, n=3)
    """
    from scipy import stats

    data = _numbers(values)
    if data.size == 1:
        return Interval(float(data[0]), None, None, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, data.size - 1) * stats.sem(data))
    mean = float(data.mean())
    return Interval(_cut(mean), _cut(mean - half), _cut(mean + half), data.size)


def bootstrap(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Return the mean with a bootstrap interval (BCa; percentile where all values are nearly the same).

    It needs no normal distribution, but is too narrow for few seeds. Raises TsrError as `interval` does.
    """
    from scipy import stats

    data = _numbers(values)
    if data.size == 1:
        return Interval(float(data[0]), None, None, 1)
    if np.ptp(data) == 0:
        return Interval(float(data[0]), float(data[0]), float(data[0]), data.size)
    drawn = stats.bootstrap(
        (data,),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    if math.isnan(drawn.low) or math.isnan(drawn.high):
        drawn = stats.bootstrap(
            (data,),
            np.mean,
            confidence_level=confidence,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(_cut(float(data.mean())), _cut(float(drawn.low)), _cut(float(drawn.high)), data.size)


def paired(arm: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE) -> Paired:
    """Return how `arm` differs from `other`, seed by seed, in the same order. Raises TsrError for unequal lengths."""
    from scipy import stats

    if len(arm) != len(other):
        raise TsrError(f"paired: {len(arm)} and {len(other)} values; expected one of each for every seed")
    change = np.round(_numbers(arm) - _numbers(other), 9)  # further digits are of the subtraction, and no spread
    around = interval(change.tolist(), confidence)
    ahead = int((change > 0).sum())
    if change.size < 2 or np.ptp(change) == 0:
        return Paired(around.mean, around.low, around.high, around.n, ahead, None, None)
    p_t = float(stats.ttest_1samp(change, 0.0).pvalue)
    p_wilcoxon = float(stats.wilcoxon(change).pvalue)
    return Paired(around.mean, around.low, around.high, around.n, ahead, p_t, p_wilcoxon)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for being many, by Holm's step-down method (1979), in their order.

    It holds the chance of any false finding among them at alpha, whatever hangs together. None was not tested.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        found[place] = highest
    return found


def over_seeds(rows: pl.DataFrame, by: Sequence[str], value: str) -> pl.DataFrame:
    """Return `by`, mean, low, high, n: one row a group, in order. `rows` have one value a seed and group; nulls go.

    Raises TsrError for a group with two values of one seed.
    """
    known = rows.drop_nulls(value)
    _one_each(known, [*by, "seed"])
    groups = known.sort(*by, "seed").group_by(by, maintain_order=True).agg(pl.col(value))
    schema = {name: known.schema[name] for name in by} | {
        "mean": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n": pl.Int64,
    }
    return pl.DataFrame(
        [row | asdict(interval(row.pop(value))) for row in groups.iter_rows(named=True)], schema=schema, orient="row"
    )


def comparisons(
    rows: pl.DataFrame, group: str, value: str, pairs: Iterable[tuple[str, str]], confidence: float = CONFIDENCE
) -> pl.DataFrame:
    """Return one row a pair (arm, other) of values of `group`, over the seeds that both have, as `Paired`.

    `p_holm` is `p_t` corrected for all pairs of this call: what is asked together is corrected together. Raises
    TsrError for a seed with two values of one group.
    """
    known = rows.drop_nulls(value)
    _one_each(known, [group, "seed"])
    found = []
    for arm, other in pairs:
        sides = [known.filter(pl.col(group) == name).select("seed", value) for name in (arm, other)]
        both = sides[0].join(sides[1], on="seed", suffix="_other").sort("seed")
        row: dict[str, Any] = {"arm": arm, "other": other}
        if both.height:
            row |= asdict(paired(both[value].to_list(), both[f"{value}_other"].to_list(), confidence))
        found.append(row)
    schema = {"arm": pl.String, "other": pl.String, "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    schema |= {"n": pl.Int64, "ahead": pl.Int64, "p_t": pl.Float64, "p_wilcoxon": pl.Float64}
    table = pl.DataFrame(found, schema=schema, orient="row").with_columns(pl.col("n").fill_null(0))
    return table.with_columns(p_holm=pl.Series(holm(table["p_t"].to_list()), dtype=pl.Float64))


def _one_each(rows: pl.DataFrame, key: list[str]) -> None:
    twice = rows.filter(pl.struct(key).is_duplicated())
    if twice.height:
        told = ", ".join(f"{name}={twice.sort(key)[name][0]}" for name in key)
        raise TsrError(f"{twice.height} rows share their {'+'.join(key)}, first {told}; expected one value a seed")


def _numbers(values: Sequence[float]) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if not data.size or not np.isfinite(data).all():
        raise TsrError(f"{data.size} values, {int((~np.isfinite(data)).sum())} not finite; expected one number a seed")
    return data


def _cut(value: float) -> float:
    """Return a number without the digits that differ between machines."""
    return round(value, 6)
