"""Write beside, then rename: a crash leaves the old file or the new one, never a half."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.errors import TsrError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it becomes `path` if the block ends well, and goes if not.

    Raises TsrError where it cannot be written, as on a full disk.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except OSError as error:
        raise TsrError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write a text file atomically, as UTF-8."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; it takes the place of `path` if the block ends well, and goes if not.

    Raises TsrError where it cannot be written, as on a full disk.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (the name of `..` is wanted, and links are to stay)
    beside, old = (whole.with_name(f".{whole.name}.{os.getpid()}.{what}.tmp") for what in ("new", "old"))
    try:
        beside.mkdir(parents=True)
        yield beside
        if whole.exists():
            whole.replace(old)
        beside.replace(whole)
    except OSError as error:
        raise TsrError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
