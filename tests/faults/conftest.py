"""What the fault tests share: one small project that ran without a fault, and the count of faults."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_project import Broken
from record import OUT, Record

os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # DVC hashes folders of code, bytecode and all
HERE = Path(__file__).parent
_record = Record()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, so that `make test` leaves it out."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.faults)


def pytest_sessionfinish() -> None:
    """Write the counts, where a file is named for them."""
    if OUT in os.environ and _record.injected:
        _record.write(Path(os.environ[OUT]))


@pytest.fixture(scope="session")
def record() -> Record:
    """The count of faults."""
    return _record


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """The small project. A test that changes its outputs puts them back, by running the step."""
    made = Broken(tmp_path_factory.mktemp("broken"), tmp_path_factory.mktemp("logs"))
    yield made
    made.zygote.close()
