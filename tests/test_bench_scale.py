"""The engines of the scale benchmark make the tables that the stages make."""

from pathlib import Path

import bench_scale
import polars as pl
import pytest
import scale_data

from stages import pair
from stages.params import Pair

PROMPTS = 500


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts with candidates and votes, scored and paired by the stages."""
    folder = tmp_path_factory.mktemp("scale")
    scale_data.build(folder, PROMPTS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TSR_DATA", "")
        bench_scale.ours(folder)
    return folder


def test_the_made_up_data_has_what_real_data_has(data: Path) -> None:
    scores = pl.read_parquet(data / "scores/tsr-1/tsr-1/r0.parquet")
    assert set(scores["parse_status"]) == {"ok", "partial", "no_votes"}
    assert {"identical", "missing_side"} <= set(pl.read_parquet(data / "dropped/bench.parquet")["reason"])


@pytest.mark.parametrize("engine", bench_scale.OTHERS)
def test_equal_tables(data: Path, engine: str) -> None:
    told = bench_scale.measured(engine, data)
    assert told["peak_mib"] > 0
    answers = sum(pl.read_parquet(path).height for path in data.glob("generations/*/r0.parquet"))
    assert bench_scale.compare(data, engine) == answers + PROMPTS


def test_pairs_made_in_parts_are_those_made_at_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [data / kind / "bench.parquet" for kind in ("pairs", "dropped")]
    whole = [path.read_bytes() for path in files]
    monkeypatch.setenv("TSR_DATA", str(data))
    monkeypatch.setattr(pair, "PROMPTS", 7)
    pair.run(Pair(min_gap=0.0, parameters={}), "bench", "future_guided", bench_scale.SIDES)
    assert [path.read_bytes() for path in files] == whole
