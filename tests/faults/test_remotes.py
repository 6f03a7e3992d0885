"""The remote vanishes in the middle of a push or a pull: what is here stays whole, and a later one completes."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from broken_project import Broken
from console import bucket
from record import Record, drawn

from stages import lockfile

PATIENCE = 120  # seconds
ONCE = {"AWS_MAX_ATTEMPTS": "1", "AWS_RETRY_MODE": "standard"}


class Gate:
    """A way to a server on 127.0.0.1 that closes for good when so many bytes have come back through it."""

    def __init__(self, port: int) -> None:
        self._to, self._left = port, float("inf")
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close_after(self, size: float) -> None:
        """Let so many bytes through from now on, both ways together."""
        self._left = size

    def _serve(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._left <= 0:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while self._left > 0 and (read := one.recv(1024)):
                other.sendall(read)
                self._left -= len(read)
        for end in (one, other) if self._left > 0 else tuple(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def dvc(folder: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    """Start a DVC command."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(["dvc", *words], cwd=folder, env=os.environ | env, text=True, **pipes)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what was told."""
    told = process.communicate(timeout=PATIENCE)[0]
    return process.returncode, told


def check_here(folder: Path, lock: dict[str, str]) -> None:
    """Assert that every output is here, and whole."""
    for out, md5 in lock.items():
        if out.startswith("data/"):
            assert lockfile.actual_md5(folder / out) == md5, out


def check_files(folder: Path, whole: Path, lock: dict[str, str]) -> None:
    """Assert that every file of an output that is here is whole. DVC may lay out a folder without some of its files."""
    for out in lock:
        here = folder / out
        for path in [here] if here.is_file() else [one for one in here.rglob("*") if one.is_file()]:
            assert path.read_bytes() == (whole / path.relative_to(folder)).read_bytes(), path


@pytest.fixture
def there(broken: Broken, tmp_path: Path) -> Iterator[Path]:
    """A copy of the small project with its cache, whose remote is a folder, empty so far."""
    assert broken.lock
    place = tmp_path / "there"
    shutil.copytree(broken.folder, place, ignore=shutil.ignore_patterns(".tsr"), symlinks=True)
    subprocess.run(["dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store")], cwd=place, check=True)
    yield place


def empty_copy(there: Path) -> Path:
    """A copy without any output, as a clone is."""
    place = there.with_name("clone")
    shutil.copytree(there, place, ignore=shutil.ignore_patterns(".tsr", "cache", "tmp"), symlinks=True)
    for path in (place / "data").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    return place


def objects(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def vanishing(store: Path, process: subprocess.Popen[str], watched: Path, number: int) -> None:
    """Take a folder away, and put a file in its place, when another has so many files more."""
    before, until = objects(watched), time.monotonic() + PATIENCE
    while objects(watched) < before + number and process.poll() is None:
        assert time.monotonic() < until
    store.rename(store.with_name("away"))
    store.write_text("no folder any more")


def back(store: Path) -> None:
    store.unlink()
    store.with_name("away").rename(store)


def test_a_folder_that_vanishes_in_a_push_and_in_a_pull(broken: Broken, there: Path, record: Record) -> None:
    store, draw = there.with_name("store"), drawn("folder")
    store.mkdir()
    with record.fault("remote vanished", "push to a folder"):
        process = dvc(there, "push", "-q", "-j", "1")
        vanishing(store, process, store, draw.randint(1, 8))
        code, told = ended(process)
        assert code, told
        check_here(there, broken.lock)
        back(store)
        assert ended(dvc(there, "push", "-q")) == (0, "")
    clone = empty_copy(there)
    with record.fault("remote vanished", "pull from a folder"):
        process = dvc(clone, "pull", "-q", "-j", "1")
        vanishing(store, process, clone / ".dvc", draw.randint(1, 8))
        code, told = ended(process)
        assert code, told
        check_files(clone, there, broken.lock)
        back(store)
        assert ended(dvc(clone, "pull", "-q")) == (0, "")
        check_here(clone, broken.lock)


def test_a_bucket_that_vanishes_in_a_push_and_in_a_pull(broken: Broken, there: Path, record: Record) -> None:
    draw = drawn("bucket")
    with bucket("tables") as env:
        port = int(env["AWS_ENDPOINT_URL"].rpartition(":")[2])
        size = sum(path.stat().st_size for path in (there / ".dvc/cache").rglob("*") if path.is_file())

        def through(gate: Gate) -> dict[str, str]:
            return env | ONCE | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{gate.port}"}

        assert ended(dvc(there, "remote", "add", "-q", "-d", "-f", "store", "s3://tables"))[0] == 0
        # Without it DVC keeps what it had of a file when the connection closed, and takes it for whole from then on.
        assert ended(dvc(there, "remote", "modify", "-q", "store", "verify", "true"))[0] == 0
        with record.fault("remote vanished", "push to a bucket"):
            gate = Gate(port)
            gate.close_after(size * draw.uniform(0.1, 0.6))
            code, told = ended(dvc(there, "push", "-q", "-j", "2", **through(gate)))
            assert code, told
            check_here(there, broken.lock)
            code, told = ended(dvc(there, "push", "-q", **through(Gate(port))))
            assert code == 0, told
        clone = empty_copy(there)
        with record.fault("remote vanished", "pull from a bucket"):
            gate = Gate(port)
            gate.close_after(size * draw.uniform(0.1, 0.6))
            code, told = ended(dvc(clone, "pull", "-q", "-j", "2", **through(gate)))
            assert code, told
            check_files(clone, there, broken.lock)
            code, told = ended(dvc(clone, "pull", "-q", **through(Gate(port))))
            assert code == 0, told
            check_here(clone, broken.lock)


def test_a_remote_that_is_not_there_is_told_and_changes_nothing(broken: Broken, there: Path, record: Record) -> None:
    clone = empty_copy(there)
    with record.fault("remote vanished", "pull from nothing"):
        code, told = ended(dvc(clone, "pull", "-q"))
        assert code, told
        check_files(clone, there, broken.lock)
