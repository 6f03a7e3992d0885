"""Ids and seeds are functions of content alone."""

import re
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.ids import content_id, file_sha256, prompt_id, seed32_for, seed_for

few = settings(derandomize=True, max_examples=50, deadline=None, database=None)
parts = st.lists(st.one_of(st.text(max_size=5), st.integers(), st.floats(allow_nan=False)), min_size=1, max_size=4)


def test_ids_are_what_they_were() -> None:
    """A change here makes every row of every run anew: it must be meant."""
    assert content_id("prompt", [{"role": "user", "content": "next abc"}]) == "b79bc6acd09dbc9c"
    assert seed_for(7, "generate", "h", "p", 0) == 2374195739340616123
    assert seed_for(7, "x") >> 63 == 0


def test_ids_do_not_depend_on_the_process() -> None:
    code = "from stages.ids import content_id; print(content_id('k', {'b': 1, 'a': [2.5, 'ü', None]}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == content_id("k", {"a": [2.5, "ü", None], "b": 1})


@few
@given(parts, parts)
def test_equal_ids_mean_equal_parts(one: list[object], two: list[object]) -> None:
    assert (content_id("k", *one) == content_id("k", *two)) == (repr(one) == repr(two))
    assert re.fullmatch("[0-9a-f]{16}", content_id("k", *one))


@few
@given(parts)
def test_seeds_fit_and_kinds_are_apart(some: list[object]) -> None:
    assert 0 <= seed_for(*some) < 2**63
    assert 0 <= seed32_for(*some) < 2**32
    assert content_id("prompt", *some) != content_id("generation", *some)


def test_parts_do_not_run_into_each_other() -> None:
    ids = {content_id("k", "ab", "c"), content_id("k", "a", "bc"), content_id("k", "abc"), content_id("k", ["ab", "c"])}
    assert len(ids) == 4


def test_seeds_of_neighbouring_rows_are_unrelated() -> None:
    """vLLM gives n samples the seeds s, s+1, ...: neighbours that close would share draws."""
    seeds = [seed_for(7, "generate", "h", f"p{i}", k) for i in range(50) for k in range(7)]
    assert len(set(seeds)) == len(seeds)
    assert min(abs(a - b) for a, b in zip(sorted(seeds)[1:], sorted(seeds), strict=False)) > 2**20


def test_prompt_id_sees_role_and_content_and_nothing_else() -> None:
    message = {"role": "user", "content": "next abc"}
    assert prompt_id([message]) == prompt_id([{"content": "next abc", "role": "user", "name": "x"}])
    assert prompt_id([message]) != prompt_id([message | {"role": "system"}])
    assert prompt_id([message]) != prompt_id([message, message])


def test_file_hash_is_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 1_000_000)
    digest = file_sha256(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"abc" * 999_999 + b"abd")
    assert len(digest) == 64
    assert file_sha256(tmp_path / "f") != digest
