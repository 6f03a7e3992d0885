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


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the counts, where a file is named for them, of a suite that ran whole and passed."""
    if OUT not in os.environ:
        return
    config = session.config
    chosen = [getattr(config.option, name) for name in ("keyword", "lf", "deselect", "ignore", "ignore_glob")]
    chosen += [name in os.environ for name in ("TSR_FAULTS_KILLS", "TSR_FAULTS_SOAK")]
    chosen += [[Path(arg).resolve() for arg in config.args] != [HERE]]
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    left_out = session.testscollected - len(stats.get("passed", [])) + len(stats.get("deselected", []))
    if exitstatus or any(chosen) or left_out or not session.testscollected:
        print(f"\n{os.environ[OUT]} is not written: not all of tests/faults ran and passed; {left_out} did not")
        return
    _record.write(Path(os.environ[OUT]))


@pytest.fixture(scope="session")
def record() -> Record:
    """The count of faults."""
    return _record


@pytest.fixture(scope="session")
def once_whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """The small project, made once."""
    made = Broken(tmp_path_factory.mktemp("broken"), tmp_path_factory.mktemp("logs"))
    yield made
    made.zygote.close()


@pytest.fixture
def broken(once_whole: Broken) -> Broken:
    """The small project, whole. A test that changes its outputs puts them back, by running the step."""
    once_whole.mend()
    return once_whole
