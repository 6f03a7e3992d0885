"""Code that a model wrote, trying to get out of the sandbox and to look as if it had passed."""

import os
import time
from pathlib import Path

import psutil
import pytest

from stages.benchmark import sandbox
from stages.benchmark.sandbox import Program, passes
from stages.errors import TsrError

TEST = "def check(f):\n    assert f(2) == 4\n    assert f([3]) == 9\n"
GOOD = "def f(x):\n    x = x[0] if isinstance(x, list) else x\n    return x * x\n"


@pytest.fixture(scope="module", autouse=True)
def _has_sandbox() -> None:
    try:
        sandbox.require()
    except TsrError as error:
        pytest.skip(str(error))


def outcome(code: str, test: str = TEST, seconds: float = 10) -> str:
    """Why a program does not pass; an empty text where it does."""
    return passes(Program(code, "f", "", test), seconds)


def found(body: str, seconds: float = 10) -> str:
    """What the model's code finds out in the sandbox, by the name of the exception that it is told in."""
    return outcome(
        f"def f(x):\n    import os, socket\n{body}\n    raise type(said, (Exception,), {{}})", seconds=seconds
    )


def test_right_code_passes_and_wrong_code_does_not() -> None:
    assert outcome(GOOD) == ""
    assert outcome("def f(x):\n    return 4") == "wrong answer"
    assert outcome("def f(x):\n    return x / 0") == "raised ZeroDivisionError"
    assert outcome("def f(x)") == "raised SyntaxError"
    assert outcome("def g(x):\n    return 4") == "raised KeyError"


def test_values_come_back_as_they_are() -> None:
    test = "def check(f):\n    for v in VALUES:\n        assert f(v) == v and type(f(v)) is type(v), v\n"
    values = "VALUES = [None, True, 1, 2**80, 0.1, 1e308 * 10, 'a\\n\\u20ac', [1, (2, {3: {'x', 'y'}})], (), {}]\n"
    values += "VALUES += [{(1, 2): None}, {1: 2, '1': 3}]\n"
    assert outcome("def f(x):\n    return x", values + test) == ""


CHEATS = {
    "leaves before the tests": "import os\nos._exit(0)",
    "exits before the tests": "import sys\nsys.exit(0)",
    "leaves in the test": "def f(x):\n    import os\n    os._exit(0)",
    "equals everything": "class E:\n    __eq__ = lambda self, other: True\ndef f(x):\n    return E()",
    "a list that equals everything": "class E(list):\n    __eq__ = lambda self, o: True\ndef f(x):\n    return E()",
    "prints a pass": 'def f(x):\n    print(\'{"nonce": "", "why": ""}\', flush=True)\n    return 0',
    "writes a pass everywhere": (
        "import os\nfor fd in range(64):\n    try:\n"
        '        os.write(fd, b\'{"nonce": "", "why": ""}\\n\')\n    except OSError:\n        pass\n'
    ),
    "changes its check": (
        "import builtins\nbuiltins.AssertionError = Exception\ndef check(f):\n    pass\ndef f(x):\n    return 0"
    ),
    "kills the test": "def f(x):\n    import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 0",
    "answers endlessly": "def f(x):\n    return 'a' * (2 << 20)",
    "answers deeply": "def f(x):\n    x = []\n    for _ in range(2000):\n        x = [x]\n    return x",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_pass_cannot_be_faked(cheat: str) -> None:
    assert outcome(CHEATS[cheat]) not in ("", "out of time")


def test_there_is_no_network() -> None:
    body = "    try:\n        socket.create_connection(('127.0.0.1', 9), 1)\n        said = 'connected'\n"
    body += "    except OSError as e:\n        said = f'errno{e.errno}'"
    assert found(body) in {"raised errno101", "raised errno99"}
    body = "    said = '_'.join(sorted(name for _, name in socket.if_nameindex()))"
    assert found(body) in {"raised lo", "raised "}


def test_it_sees_no_file_of_ours_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert found("    said = '_'.join(sorted(os.environ)) or 'none'") in {"raised LC_CTYPE", "raised none"}
    for path in (str(Path(__file__)), str(Path.home() / "."), "/etc/passwd", "/proc/self/environ", "/proc/1/environ"):
        if not path.startswith("/root") or path == str(Path(__file__)):
            assert found(f"    said = 'seen' if os.path.isfile({path!r}) else 'not'") == "raised not", path
    assert found("    said = '_'.join(sorted(os.listdir('/tmp'))) or 'nothing'") == "raised nothing"


@pytest.mark.parametrize(
    "path", ["/usr/x", "/usr/lib/x", "/etc/ld.so.cache", "/dev/x", "/x", os.path.realpath(os.sys.prefix) + "/x"]
)
def test_it_writes_nothing_that_stays(path: str) -> None:
    before = Path(path).stat().st_mtime_ns if Path(path).exists() else None
    found(f"    open({path!r}, 'wb').write(b'x')\n    said = 'written'")
    assert (Path(path).stat().st_mtime_ns if Path(path).exists() else None) == before


def test_it_writes_only_a_little_in_its_own_folder() -> None:
    assert found("    open('/tmp/a', 'w').write('x')\n    said = open('/tmp/a').read()") == "raised x"
    assert found("    open('/tmp/a', 'wb').write(b'x' * (17 << 20))\n    said = 'written'").startswith("raised OSError")
    body = "    for n in range(9):\n        open(f'/tmp/{n}', 'wb').write(b'x' * (4 << 20))\n    said = 'written'"
    assert found(body).startswith("raised OSError")


def test_it_gets_no_right_back() -> None:
    assert found("    os.setuid(0)\n    said = str(os.getuid())") in {"raised PermissionError", "raised 0"}
    body = "    import ctypes\n    c = ctypes.CDLL(None, use_errno=True)\n"
    body += "    said = str(c.mount(b'none', b'/tmp', b'tmpfs', 0, None)) + 'n' + str(ctypes.get_errno())"
    assert found(body) == "raised 1n1"  # -1, EPERM
    body = "    import ctypes\n    said = str(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))"
    assert found(body) == "raised 1"  # -1: nobody may look into the tester


def test_memory_and_time_are_limited() -> None:
    assert found("    x = b'x' * (600 << 20)\n    said = 'got'") == "raised MemoryError"
    assert outcome("while True:\n    pass", seconds=1.5) == "out of time"
    assert outcome("import time\ntime.sleep(100)", seconds=1.5) == "out of time"


def test_a_fork_bomb_is_stopped_and_nothing_runs_on() -> None:
    assert found("    while True:\n        os.fork()", seconds=5) in {"raised BlockingIOError", "out of time"}
    left = "    if not os.fork():\n        import time\n        time.sleep(100)\n    said = 'left'"
    assert found(left) == "raised left"
    outcome("import os, time\nos.setsid()\nos.fork()\ntime.sleep(100)", seconds=1.5)
    marker, end = (sandbox.HERE / "candidate.py").read_text()[:60], time.monotonic() + 10
    while left_over := [p for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or [])]:
        assert time.monotonic() < end, left_over  # the kernel may take a moment
        time.sleep(0.1)


def test_where_there_is_no_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(TsrError, match="no sandbox for code that a model wrote: no command `unshare` here"):
        sandbox.require()


def test_a_forbidden_namespace_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuses = tmp_path / "unshare"
    refuses.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: str(refuses))
    with pytest.raises(TsrError, match=r"Operation not permitted; it needs `unshare`") as refused:
        sandbox.require()
    assert "\n" not in str(refused.value)
