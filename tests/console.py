"""The console blocks of a page as one session: commands in order in one shell, with their output.

`python tests/console.py docs/sharing.md` fills in the outputs, from the tables of this checkout.
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
MARK = "\x1e"
PROGRESS = re.compile(r"^[\w :-]+: \d+/\d+ \w+ in .*\n", re.MULTILINE)
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_COUNT": "2"}
GIT |= {"GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "t"}
GIT |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "t@example.invalid"}


def commands(page: Path) -> list[str]:
    """Return what stands behind `$` in the console blocks of a page."""
    return [line[2:] for block in BLOCK.findall(page.read_text()) for line in block.splitlines() if line[:2] == "$ "]


def session(typed: list[str], home: Path, **env: str) -> list[tuple[int, str]]:
    """Run commands in one shell that starts in `home`; return the exit status and the output of each.

    `tsr` runs the code of the folder that the shell is in, as it does where each clone has its environment.
    """
    script = "".join(f"{command}\nprintf '{MARK}%s{MARK}' $?\n" for command in typed)
    told = subprocess.run(
        ["bash", "-c", script],
        cwd=home,
        env=os.environ | GIT | {"HOME": str(home), "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"} | env,
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


def fill(page: Path, finished: Path) -> None:
    """Write the output of every command below it. Raises SystemExit for one that fails."""
    with tempfile.TemporaryDirectory() as folder, bucket("team-tables") as env:
        home = Path(folder)
        scene(home, finished)
        typed = commands(page)
        ran = session(typed, home, **env)
        for command, (status, output) in zip(typed, ran, strict=True):
            if status:
                sys.exit(f"{command}: exit status {status}\n{output}")
        outputs = iter([output.replace(str(home), "~").strip() for _, output in ran])

    def filled(match: re.Match[str]) -> str:
        lines = [line for line in match[1].splitlines() if line[:2] == "$ "]
        shown = [part for line in lines for part in (line, next(outputs)) if part]
        return "```console\n" + "\n".join(shown) + "\n```"

    page.write_text(BLOCK.sub(filled, page.read_text()))


if __name__ == "__main__":
    fill(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT)
