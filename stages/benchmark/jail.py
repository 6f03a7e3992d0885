"""Runs inside new namespaces, as their first process: shuts the door, then tests the model's code. Trusted itself.

The model's code runs in a process of its own (candidate.py), which gets arguments and gives results as data: so it
cannot return an object that equals everything, end the tests early, or write the proof of a pass, which it never sees.
Never imported: sandbox.py starts it by its text, with a job as JSON on its standard input.
"""

import ctypes
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PRIVATE, BIND, RECURSIVE = 1 << 18, 1 << 12, 1 << 14  # of mount(2)
NOSUID, NODEV, DETACH = 2, 4, 2
MOUNT_SETATTR, READ_ONLY, RECURSIVELY = 442, 1, 0x8000  # the call's number is the same on every machine
DUMPABLE, NO_NEW_PRIVILEGES, DROP_BOUND = 4, 38, 24  # of prctl(2)
CAPSET_VERSION = 0x20080522
LONGEST = 1 << 20  # bytes of an answer
SCRATCH = "/tmp"  # noqa: S108 (of the sandbox)
libc = ctypes.CDLL(None, use_errno=True)


class FailedError(Exception):
    """The model's code does not pass; the message says why in a few words."""


def check(done: int, what: str) -> None:
    """Raise OSError for a system call that failed."""
    if done < 0:
        raise OSError(ctypes.get_errno(), what)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount, or raise OSError."""
    given = [text.encode() or None for text in (source, target, kind)]
    check(libc.mount(*given, ctypes.c_ulong(flags), options.encode() or None), f"mount {target}")


def shut(root: str, shown: list[str], megabytes: int) -> None:
    """Make an empty folder in memory the root, with `shown` in it, read-only; leave everything else behind."""
    mount("none", "/", "", PRIVATE | RECURSIVE)
    mount("none", root, "tmpfs", NOSUID | NODEV, f"size={megabytes}m,mode=755")
    for path in (*shown, "/dev/null", "/dev/urandom"):
        inside = Path(root + path)
        if Path(path).is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        else:
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        mount(path, str(inside), "", BIND | RECURSIVE)
        if path in shown:
            attributes = (ctypes.c_uint64 * 4)(READ_ONLY | NOSUID, 0, 0, 0)
            call = (MOUNT_SETATTR, -100, str(inside).encode(), RECURSIVELY, attributes, ctypes.c_size_t(32))
            check(libc.syscall(*call), f"read-only {path}")
    for name in ("bin", "lib", "lib64"):
        if Path(f"/{name}").is_symlink():
            Path(root, name).symlink_to(Path(f"/{name}").readlink())
    Path(root + SCRATCH).mkdir()
    Path(root + SCRATCH).chmod(0o777)
    Path(root, "old").mkdir()
    check(libc.pivot_root(root.encode(), f"{root}/old".encode()), "pivot_root")
    os.chdir(SCRATCH)
    check(libc.umount2(b"/old", DETACH), "umount")


def give_up_rights(user: int | None) -> None:
    """Become `user`, if one is given; keep no capability, and get none again. Nobody may look into this process."""
    check(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no new privileges")
    for capability in range(64):
        libc.prctl(DROP_BOUND, capability, 0, 0, 0)  # beyond the last one there is nothing to drop
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header, none = (ctypes.c_uint32 * 2)(CAPSET_VERSION, 0), (ctypes.c_uint32 * 6)()
    check(libc.capset(header, none), "capset")
    check(libc.prctl(DUMPABLE, 0, 0, 0, 0), "not dumpable")


def limit(limits: dict[str, int]) -> None:
    """Set limits of resources, for this process and all that it starts."""
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))


def tested(job: dict[str, Any]) -> None:
    """Run the tests on the model's code. Raises FailedError."""
    child = subprocess.Popen(  # noqa: S603 (no shell)
        [sys.executable, "-I", "-S", "-c", job["candidate"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
    )
    tools: dict[str, Any] = {}
    exec(job["candidate"].replace('__name__ == "__main__"', "False"), tools)  # noqa: S102 (this project's text)

    def told(line: bytes) -> bytes:
        try:
            child.stdin.write(line + b"\n")  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            raise FailedError("ended") from None
        return line

    def candidate(*given: Any) -> Any:
        told(json.dumps([tools["plain"](value) for value in given]).encode())
        answer = child.stdout.readline(LONGEST)  # type: ignore[union-attr]
        if not answer.endswith(b"\n"):
            raise FailedError("answer too long" if answer else "ended")
        try:
            said = json.loads(answer)
            if "returned" in said:
                return tools["value_of"](said["returned"])
            raised = re.sub(r"\W", "", str(said["raised"]))[:40]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise FailedError("no answer") from None
        raise FailedError(f"raised {raised}")

    told(json.dumps({"code": job["code"], "name": job["name"]}).encode())
    names: dict[str, Any] = {}
    exec(job["prompt"], names)  # noqa: S102 (the task's own text: its helpers)
    names[job["name"]] = candidate
    exec(job["test"], names)  # noqa: S102 (the task's own text)
    try:
        names["check"](candidate)
    except FailedError:
        raise
    except AssertionError:
        raise FailedError("wrong answer") from None
    except BaseException as error:  # a result of another type can break the test's own code
        raise FailedError(f"test raised {type(error).__name__}") from None


def main() -> None:
    """Do the job and tell its outcome on standard output."""
    job = json.loads(sys.stdin.buffer.readline())
    try:
        shut(job["root"], job["shown"], job["megabytes"])
        limit(job["limits"])
        give_up_rights(job["user"])
    except OSError as error:
        print(json.dumps({"setup": str(error)}))
        return
    why = ""
    try:
        tested(job)
    except FailedError as failed:
        why = str(failed)
    print(json.dumps({"nonce": job["nonce"], "why": why}))


if __name__ == "__main__":
    main()
