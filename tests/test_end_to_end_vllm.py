"""The micro profile with `backend: vllm` in both roles: the same stages, another engine."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny_project import Project

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


def with_vllm(params: dict[str, Any]) -> None:
    for role in ("generate", "judge"):
        params["micro"][role]["backend"] = "vllm"
    params["micro"]["base"]["heads"] = 2  # vLLM's attention on the CPU knows no heads below 32


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("vllm"))
    made.edit_params(with_vllm)
    made.run("dvc", "repro", "-q")
    made.commit()
    return made


def tables(project: Project, *names: str) -> list[Path]:
    return [path for name in names for path in (project.folder / "data" / name).rglob("*.parquet")]


def test_every_row_was_made_by_vllm_and_the_tables_agree(project: Project) -> None:
    made = [
        path for path in tables(project, "generations", "judgments") if path.parts[-2:] != ("world", "fixed.parquet")
    ]
    made = [path for path in made if "generations/world" not in str(path) and path.name != "rated.parquet"]
    assert len(made) >= 5
    for path in made:
        assert set(pl.read_parquet(path)["backend"]) == {"vllm"}, path
    assert "all outputs match" in project.run("tsr", "verify")
    assert "vllm" not in project.run("dvc", "status")


def test_one_token_and_reasoning_are_both_there(project: Project) -> None:
    fixed = pl.read_parquet(project.folder / "data/judgments/M0/world/fixed.parquet")
    assert set(fixed["way"]) == {"votes", "one_token"}
    assert fixed.filter(way="one_token")["digit_logprobs"].list.len().to_list() == [6] * 18


def test_rows_that_are_there_start_no_engine(project: Project) -> None:
    path = project.folder / "data/generations/M0/r0.parquet"
    before = path.read_bytes()
    path.unlink()
    told = project.run("tsr", "generate", "M0", "r0")
    assert "(96 reused)" in told
    assert path.read_bytes() == before


def test_a_run_from_nothing_gives_the_same_bytes(project: Project) -> None:
    path = project.folder / "data/generations/M0/r0.parquet"
    before = path.read_bytes()
    path.unlink()
    (project.folder / ".tsr").rename(project.folder / ".tsr-away")
    assert "reused" not in project.run("tsr", "generate", "M0", "r0")
    assert path.read_bytes() == before


def test_a_killed_engine_is_taken_up_where_it_was(project: Project) -> None:
    """kill -9 in the middle of vLLM's work; what had finished is not asked for again."""
    path = project.folder / "data/generations/sr-1/r0.parquet"
    before = path.read_bytes()
    path.unlink()
    (project.folder / ".tsr").rename(project.folder / ".tsr-gone")
    faulty = str(Path(__file__).with_name("faulty.py"))
    project.run("python", faulty, "after_rows:30", "embedded", "generate", "sr-1", "r0", ok=False)
    assert project.code == -9
    assert "(30 reused)" in project.run("tsr", "generate", "sr-1", "r0")
    assert path.read_bytes() == before
