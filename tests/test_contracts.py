"""Tables under contract: what a writer refuses, and that a refusal leaves no trace."""

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import generations, prompts

from stages import tables
from stages.errors import TsrError

CONTRACTS = sorted(Path(tables.__file__).parent.glob("contracts/*.yml"))
NAMES = {"prompts", "generations", "judgments", "scores", "pairs", "dropped"}


def test_the_tables_of_the_design_have_contracts() -> None:
    assert {path.stem for path in CONTRACTS} >= NAMES


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_contract_is_well_formed(path: Path) -> None:
    rules = yaml.safe_load(path.read_text())
    assert set(rules) <= {"grain", "key", "unique", "columns"}
    assert rules["grain"].startswith("one row per ")
    for name, spec in rules["columns"].items():
        assert set(spec) <= {"type", "nullable", "about", *tables._LIMITS}, name
        assert spec["type"] in tables.TYPES, name
    for key in [rules["key"], *rules.get("unique", [])]:
        assert set(key) <= set(rules["columns"])
        assert not any(rules["columns"][name].get("nullable") for name in key)
    empty = tables.frame(path.stem, [])
    assert tables.validate(path.stem, empty, "here").columns == list(rules["columns"])


def set_first(column: str, value: Any) -> Any:
    """Change one column of the first row."""
    first = pl.int_range(pl.len()) == 0
    return lambda data: data.with_columns(
        pl.when(first).then(pl.lit(value, dtype=data.schema[column])).otherwise(pl.col(column)).alias(column)
    )


BAD: dict[str, tuple[Any, list[str]]] = {
    "missing column": (lambda d: d.drop("seed"), ["'seed'", "missing"]),
    "wrong type": (lambda d: d.cast({"seed": pl.Float64}), ["'seed'", "Float64", "expected Int64"]),
    "narrower type": (lambda d: d.cast({"seed": pl.Int32}), ["'seed'", "Int32", "expected Int64"]),
    "extra column": (lambda d: d.with_columns(time=1), ["'time'", "not part of generations"]),
    "duplicate key": (lambda d: pl.concat([d, d.head(1)]), ["generation_id", "generation_id=a", "2 rows"]),
    "null": (set_first("response", None), ["'response'", "null", "generation_id=a"]),
    "null key": (set_first("generation_id", None), ["'generation_id'", "null"]),
    "NaN": (set_first("logprob_sum", math.nan), ["'logprob_sum'", "finite", "generation_id=a", "nan"]),
    "infinite": (set_first("logprob_sum", -math.inf), ["'logprob_sum'", "finite", "generation_id=a"]),
    "same sample": (set_first("sample_id", 1), ["model+prompt_id+sample_id", "2 rows"]),
    "below the minimum": (set_first("sample_id", -1), ["'sample_id'", "min 0", "generation_id=a", "-1"]),
    "above the maximum": (set_first("logprob_sum", 0.5), ["'logprob_sum'", "max 0.0", "generation_id=a", "0.5"]),
    "not in the list": (set_first("finish_reason", "eos"), ["'finish_reason'", "stop", "generation_id=a", "eos"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table_is_refused_and_nothing_written(kind: str, tmp_path: Path) -> None:
    change, told = BAD[kind]
    path = tmp_path / "t.parquet"
    tables.write("generations", generations(["old"]), path)
    before = path.read_bytes()
    for target in (path, tmp_path / "new.parquet"):
        with pytest.raises(TsrError) as refused:
            tables.write("generations", change(generations(["a", "b"])), target)
        assert all(part in str(refused.value) for part in [str(target), *told]), str(refused.value)
        assert "\n" not in str(refused.value)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["t.parquet"]


def test_limits_that_other_tables_use() -> None:
    pair = dict.fromkeys(tables.schema("pairs"), "x") | {
        "prompt": [],
        "chosen": [],
        "rejected": [],
        "chosen_score": 1.0,
        "rejected_score": 1.0,
        "gap": 0.0,
        "length_delta": 0,
    }
    with pytest.raises(TsrError, match=r"'gap' is not within above 0\.0 in 1 rows, first prompt_id=x"):
        tables.validate("pairs", tables.frame("pairs", [pair]), "here")
    with pytest.raises(TsrError, match="prompt_id=x; expected one row per prompt"):
        rows = [pair | {"gap": 1.0, "pair_id": name} for name in "yz"]
        tables.validate("pairs", tables.frame("pairs", rows), "here")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    tables.write("generations", generations(["old"]), path)
    before = path.read_bytes()

    def half(_self: pl.LazyFrame, file: Path, **_: Any) -> None:
        file.write_bytes(before[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", half)
    with pytest.raises(KeyboardInterrupt):
        tables.write("generations", generations(["new"]), path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["t.parquet"]


@settings(derandomize=True, max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations("abcdef"), columns=st.permutations(list(tables.schema("generations"))))
def test_equal_content_has_equal_bytes(order: list[str], columns: list[str], tmp_path: Path) -> None:
    tables.write("generations", generations(list("abcdef")), tmp_path / "one.parquet")
    tables.write(
        "generations",
        generations(list("abcdef"))[["abcdef".index(name) for name in order]].select(columns),
        tmp_path / "two.parquet",
    )
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    tables.write("prompts", prompts(["p", "q"]), tmp_path / "t.parquet")
    assert tables.read("prompts", tmp_path / "t.parquet").equals(prompts(["p", "q"]))


def test_a_broken_or_foreign_file_is_refused_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    tables.write("generations", generations(["a", "b"]), good)
    whole = good.read_bytes()
    broken = {
        "empty": b"",
        "text": b"generation_id,model\na,M0\n",
        "tail cut": whole[:-9],
        "half": whole[: len(whole) // 2],
        "middle lost": whole[:100] + whole[400:],
        "head lost": whole[50:],
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        with pytest.raises(TsrError, match="not a readable Parquet file") as refused:
            tables.read("generations", path)
        assert str(path) in str(refused.value), name
        assert "\n" not in str(refused.value), name
    with pytest.raises(TsrError, match=r"'prompt_id' is missing|'split' is missing"):
        tables.read("prompts", good)
    with pytest.raises(TsrError, match="no such file; expected a table of prompts"):
        tables.read("prompts", tmp_path / "none.parquet")


def test_an_unknown_table_names_those_there_are() -> None:
    tables.contract.cache_clear()
    with pytest.raises(TsrError, match=r"no contract preferences\.yml; there are: .*generations"):
        tables.contract("preferences")
