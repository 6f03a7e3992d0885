"""Statistics over seeds, against figures worked out elsewhere and against what they promise."""

import doctest

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.claims import statistics
from stages.claims.statistics import Interval, bootstrap, comparisons, holm, interval, over_seeds, paired
from stages.errors import TsrError

# Student's sleep data (1908): hours gained with two drugs by the same ten patients. t = -4.0621, p = 0.002833.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(statistics).failed == 0


def test_students_own_data() -> None:
    found = paired(FIRST, SECOND)
    assert (found.difference, found.n, found.ahead) == (-1.58, 10, 0)
    assert (found.low, found.high) == pytest.approx((-2.459886, -0.700114), abs=1e-6)
    assert found.p_t == pytest.approx(0.00283289, abs=1e-8)
    assert found.p_wilcoxon is not None and 0.003 < found.p_wilcoxon < 0.012


def test_one_seed_has_no_interval_and_no_test() -> None:
    assert interval([3.0]) == bootstrap([3.0]) == Interval(3.0, None, None, 1)
    found = paired([3.0], [2.0])
    assert (found.difference, found.low, found.p_t, found.p_wilcoxon) == (1.0, None, None, None)


def test_no_spread_is_not_tested() -> None:
    found = paired([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert (found.difference, found.low, found.high, found.ahead, found.p_t) == (1.0, 1.0, 1.0, 3, None)
    assert bootstrap([1.0, 1.0]) == Interval(1.0, 1.0, 1.0, 2)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    for asked in (interval, bootstrap):
        with pytest.raises(TsrError, match="expected one number a seed"):
            asked(values)


def test_unequal_seeds_are_refused() -> None:
    with pytest.raises(TsrError, match=r"2 and 1 values"):
        paired([1.0, 2.0], [1.0])


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(2.0, 1.0, size=(400, 10))
    held = [found.low <= 2.0 <= found.high for row in draws if (found := interval(row.tolist())).low is not None]
    assert 0.92 < np.mean(held) < 0.98


def test_a_test_of_nothing_finds_something_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(2)
    seen = [paired(rng.normal(size=10).tolist(), rng.normal(size=10).tolist()).p_t for _ in range(400)]
    assert 0.02 < np.mean([p is not None and p < 0.05 for p in seen]) < 0.08


def test_bootstrap_and_t_agree_where_there_are_many_seeds() -> None:
    values = np.random.default_rng(3).normal(size=200).tolist()
    drawn, student = bootstrap(values), interval(values)
    assert (drawn.low, drawn.high) == pytest.approx((student.low, student.high), abs=0.01)
    assert bootstrap(values) == drawn, "the same twice"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_holm_raises_no_p_above_bonferroni_and_keeps_their_order(ps: list[float | None]) -> None:
    found = holm(ps)
    tested = [(p, q) for p, q in zip(ps, found, strict=True) if p is not None]
    assert [q is None for q in found] == [p is None for p in ps]
    assert all(q is not None and p <= q <= min(1.0, len(tested) * p) + 1e-12 for p, q in tested)
    assert [q for _, q in sorted(tested)] == sorted(q for _, q in tested)


def rows(**arms: list[float | None]) -> pl.DataFrame:
    """One value a seed for each arm."""
    found = [{"arm": arm, "seed": seed, "score": v} for arm, values in arms.items() for seed, v in enumerate(values)]
    return pl.DataFrame(found, schema={"arm": pl.String, "seed": pl.Int64, "score": pl.Float64}, orient="row")


def test_groups_over_seeds() -> None:
    found = over_seeds(rows(b=[1.0, 2.0, 3.0], a=[5.0, None]), ["arm"], "score")
    assert found.rows() == [("a", 5.0, None, None, 1), ("b", 2.0, -0.484138, 4.484138, 3)]


def test_arms_are_compared_on_the_seeds_that_both_have() -> None:
    told = rows(a=[None, 2.0, 3.0, 4.5], b=[9.0, 1.0, 1.5, 3.0], c=[1.0])
    found = comparisons(told, "arm", "score", [("a", "b"), ("b", "a"), ("a", "c")])
    assert found["n"].to_list() == [3, 3, 0]
    assert found["difference"].to_list() == [1.333333, -1.333333, None]
    assert found["ahead"].to_list() == [3, 0, None]
    first, second, third = found["p_holm"].to_list()
    assert first == second == pytest.approx(2 * found["p_t"][0])
    assert third is None


def test_a_seed_that_counts_twice_is_refused() -> None:
    twice = pl.concat([rows(a=[1.0]), rows(a=[2.0])])
    with pytest.raises(
        TsrError, match=r"^2 rows share their arm\+seed, first arm=a, seed=0; expected one value a seed"
    ):
        over_seeds(twice, ["arm"], "score")
    with pytest.raises(TsrError, match="share their arm"):
        comparisons(twice, "arm", "score", [("a", "a")])


def test_the_noise_of_a_subtraction_is_no_spread() -> None:
    found = paired([0.3, 0.7, 0.1 + 0.2 + 0.3], [0.2, 0.6, 0.5])
    assert found.difference == 0.1
    assert found.p_t is None
