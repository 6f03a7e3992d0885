"""Write beside, then rename: a crash leaves the old file or the new one, never a half."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.errors import TsrError

# What the system says, as libraries in Rust (weights, tokenizers) tell it, in errors of their own that are no OSError.
_OF_SYSTEM = re.compile(r"([^:]*) \(os error \d+\)")
_TORCH = "PytorchStreamWriter failed"  # what torch says of a full disk; an unwritable place is told otherwise


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
    except Exception as error:
        refused = isinstance(error, TsrError) and "cannot be written" in str(error)
        if why := unwritten(error) or (_refused(beside) if refused else ""):
            raise TsrError(f"{path}: cannot be written: {why}") from error
        raise
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
        _put(beside, whole, old, path, replace=replace)
    except TsrError:
        raise
    except Exception as error:
        if why := unwritten(error):
            raise TsrError(f"{path}: cannot be written: {why}") from error
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if old.exists() and not whole.exists():
            old.replace(whole)
        shutil.rmtree(old, ignore_errors=True)


def unwritten(error: Exception) -> str:
    """Return what the system says, where an error is of a file that could not be written or read; else nothing."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    said = _OF_SYSTEM.search(str(error))
    if said and not isinstance(error, TsrError):
        return said[1].strip()
    return "No space left on device" if _TORCH in str(error) else ""


def _refused(beside: Path) -> str:
    """Return what the system says to more bytes at the end of a file that goes anyway; nothing where it takes them.

    Some libraries do not tell why a file could not be written: polars calls a full disk a transport error.
    """
    try:
        with beside.open("ab", buffering=0) as handle:
            handle.write(bytes(1 << 16))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _put(beside: Path, whole: Path, old: Path, told: Path, *, replace: bool) -> None:
    """Put a folder in its place; of two runs that replace it at once, the later one's stays."""
    while True:
        if replace:
            shutil.rmtree(old, ignore_errors=True)  # as when another run has put one there since
            with suppress(FileNotFoundError):
                whole.replace(old)
        try:
            _become(beside, whole, told)
        except TsrError:
            if replace:
                continue
            raise
        return


def _become(beside: Path, whole: Path, told: Path) -> None:
    """Rename a folder; the system itself refuses where a filled one is there, however late it came."""
    try:
        beside.replace(whole)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise TsrError(f"{told}: is there already; --replace puts another in its place") from error
        raise
