"""Write beside, then rename: a crash leaves the old file or the new one, never a half."""

import os
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
