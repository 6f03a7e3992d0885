"""The console blocks of a page as one session: commands in order in one shell, with their output.

`python tests/console.py docs/sharing.md` fills in the outputs. A page that names `$TSR_REAL_DATA`, the folder of real
data, runs in a checkout without tables; any other one on a small run, made for it. A ```yaml, ```python or ```sql
block whose first line is a comment with a file's name is that file.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)  # with the lines that end in a backslash
NAMED = re.compile(r"```(?:yaml|python|sql)\n(?:#|--) (\S+\.\w+)\n(.*?)```", re.DOTALL)
REAL = Path(os.environ.get("TSR_REAL_DATA", ROOT / "../shared/data"))
WIDTH = "120"  # of what is as wide as the screen, whatever screen this runs on
MARK = "\x1e"
PROGRESS = re.compile(r"^[\w :-]+: \d+/\d+ \w+[ ,].*\n", re.MULTILINE)
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_COUNT": "2"}
GIT |= {"GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "t"}
GIT |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "t@example.invalid"}


def commands(page: Path) -> list[str]:
    """Return what stands behind `$` in the console blocks of a page."""
    return [command for block in BLOCK.findall(page.read_text()) for command in COMMAND.findall(block)]


def session(typed: list[str], home: Path, start: str = ".", **env: str) -> list[tuple[int, str]]:
    """Run commands in one shell that starts in a folder of `home`; return the exit status and the output of each.

    `tsr` runs the code of the folder that the shell is in, as it does where each clone has its environment.
    """
    script = "".join(f"{command}\nprintf '{MARK}%s{MARK}' $?\n" for command in typed)
    told = subprocess.run(
        ["bash", "-c", script],
        cwd=home / start,
        env=os.environ | GIT | {"HOME": str(home), "PYTHONPATH": ".", "OMP_NUM_THREADS": "1", "COLUMNS": WIDTH} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    ).stdout
    parts = told.split(MARK)
    return [(int(status), PROGRESS.sub("", output)) for output, status in zip(parts[::2], parts[1::2], strict=False)]


def scene(home: Path, finished: Path) -> None:
    """Lay out what sharing.md starts from: ~/tsr with a finished run, its git remote ~/tsr.git."""
    for command in (["clone", "-q", str(finished), "tsr"], ["clone", "-q", "--bare", "tsr", "tsr.git"]):
        subprocess.run(["git", *command], cwd=home, env=os.environ | GIT, check=True)
    here = home / "tsr"
    subprocess.run(["git", "remote", "set-url", "origin", str(home / "tsr.git")], cwd=here, check=True)
    shutil.copytree(finished / ".dvc/cache", here / ".dvc/cache")
    subprocess.run(["dvc", "checkout", "-q"], cwd=here, check=True)


@contextmanager
def bucket(name: str) -> Iterator[dict[str, str]]:
    """An S3 bucket on 127.0.0.1; yields the variables by which every client finds it."""
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        at = f"http://{host}:{port}"
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
        boto3.client("s3", endpoint_url=at, aws_access_key_id="id", aws_secret_access_key="key").create_bucket(
            Bucket=name
        )
        yield keys | {"AWS_ENDPOINT_URL": at}
    finally:
        server.stop()


def checkout(home: Path) -> None:
    """Lay out what a page on real data starts from: ~/tsr as git would have it, without any output of DVC."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            (home / "tsr" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / "tsr" / name)
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "A checkout"]):
        subprocess.run(["git", *words], cwd=home / "tsr", env=os.environ | GIT, check=True)


def ran(page: Path, home: Path, finished: Path) -> list[tuple[int, str]]:
    """Run a page's commands in `home`; return the exit status and the output of each."""
    text = page.read_text()
    if "$TSR_REAL_DATA" in text:
        checkout(home)
        for name, content in NAMED.findall(text):
            (home / "tsr" / name).write_text(content)
        return session(commands(page), home, "tsr", TSR_REAL_DATA=str(REAL.resolve()))
    with bucket("team-tables") as env:
        scene(home, finished)
        return session(commands(page), home, **env)


def filled(page: Path, home: Path, finished: Path) -> str:
    """Return a page with the output of every command below it. Raises SystemExit for one that fails."""
    done = ran(page, home, finished)
    for command, (status, output) in zip(commands(page), done, strict=True):
        if status:
            sys.exit(f"{command}: exit status {status}\n{output}")
    outputs = iter([output.replace(str(home), "~").rstrip() for _, output in done])

    def block(match: re.Match[str]) -> str:
        shown = [part for command in COMMAND.findall(match[1]) for part in (f"$ {command}", next(outputs)) if part]
        return "```console\n" + "\n".join(shown) + "\n```"

    return BLOCK.sub(block, page.read_text())


def small_run(folder: Path) -> Path:
    """Make the small run that the tests share too; return its folder."""
    from tiny_project import Project

    made = Project(folder)
    made.run("dvc", "repro", "-q")
    made.commit()
    return folder


def main(page: Path) -> None:
    """Fill in a page, unless it needs real data and there is none; one that needs none is of a small run, made here."""
    real = "$TSR_REAL_DATA" in page.read_text()
    if real and not REAL.is_dir():
        print(f"{page}: left alone, for there is no folder of real data; TSR_REAL_DATA names one")
        return
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        finished = ROOT if real else small_run(Path(folder))
        page.write_text(filled(page, Path(home), finished))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
