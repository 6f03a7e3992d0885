"""Write beside, then rename: a crash leaves the old file or the new one, never a half."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        with suppress(OSError):  # where it could not be made, there is nothing to remove
            beside.unlink()


def write_text(text: str, path: Path) -> None:
    """Write a text file atomically, as UTF-8."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; it becomes `path` if the block ends well, and goes if not.

    With `replace` it takes the place of what is there, which is put back where that fails. Raises TsrError where it
    cannot be written, as on a full disk, and without `replace` where something is there once the block has ended.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (the name of `..` is wanted, and links are to stay)
    beside, old = (whole.with_name(f".{whole.name}.{os.getpid()}.{what}.tmp") for what in ("new", "old"))
    try:
        beside.mkdir(parents=True)
        yield beside
        if replace and whole.exists():
            whole.replace(old)
        _become(beside, whole, path)
    except OSError as error:
        raise TsrError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if old.exists() and not whole.exists():
            old.replace(whole)
        shutil.rmtree(old, ignore_errors=True)


def _become(beside: Path, whole: Path, told: Path) -> None:
    """Rename a folder; the system itself refuses where a filled one is there, however late it came."""
    try:
        beside.replace(whole)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise TsrError(f"{told}: is there already; --replace puts another in its place") from error
        raise
