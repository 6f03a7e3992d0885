"""Shared fixtures: tiny random models, made once a session."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from small_run import Run
    from tiny_project import Project

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}

SHARE_A_REPRO = {"test_end_to_end", "test_forecast_done", "test_sharing", "test_claims", "test_cluster"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests on one worker, and those of the files that share a run: they share what they set up.

    `--dist loadgroup` does not, under pytest 9.2: pytest-xdist issue 1386.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = Path(nodeid.partition("::")[0]).stem
            return "repro" if name in SHARE_A_REPRO else name

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that share a run: they are the longest of all that one worker has to do."""
    items.sort(key=lambda item: item.path.stem not in SHARE_A_REPRO)


MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Makes a folder with a randomly initialised tiny Llama; a large `init_std` gives it strong opinions."""
    from stages import models
    from stages.runtime import prepare_torch
    from stages.tiny_llama import build_model, build_tokenizer

    prepare_torch()

    def make(seed: int = 1, name: str = "M0", init_std: float = 0.3, context: int = 128) -> Path:
        folder = tmp_path_factory.mktemp("models") / name
        tokenizer = build_tokenizer()
        shape = {"hidden_size": 32, "layers": 2, "heads": 2, "context": context}
        models.save(build_model(tokenizer, seed, **shape, init_std=init_std), tokenizer, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny(make_model: MakeModel) -> Path:
    """One tiny model for all tests that only read it."""
    return make_model()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Run, Path]":
    """One small run of the stages and its folder."""
    from small_run import make_run

    folder = tmp_path_factory.mktemp("run")
    return make_run(folder), folder


@pytest.fixture
def run(finished: "tuple[Run, Path]", monkeypatch: pytest.MonkeyPatch) -> "Run":
    """The small run, with its folder as the current one."""
    monkeypatch.chdir(finished[1])
    return finished[0]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> "Project":
    """A copy of the repository with tiny params, after `dvc repro`; what a test changes, it puts back."""
    from tiny_project import Project

    made = Project(tmp_path_factory.mktemp("tiny"))
    made.run("dvc", "repro", "-q")
    made.commit()
    return made
