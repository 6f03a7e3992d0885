"""The commands of a docs page: `python tests/docs_console.py docs/importing.md` runs them and writes what they print.

A command is a line that begins with `$ ` in a ```console block, with the lines that end in a backslash. A ```yaml,
```python or ```sql block whose first line is a comment with a file's name is that file. All blocks of a page run in
their order, in one checkout of the project, without its data; `$TSR_REAL_DATA` is the folder of real data, and a page
that names it is left alone where there is none.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

COMMITTER = ("-c", "user.name=A", "-c", "user.email=a@localhost")
ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("TSR_REAL_DATA", ROOT / "../shared/data"))
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PROGRESS = re.compile(r"import: (read|write): ")
NAMED = re.compile(r"```(?:yaml|python|sql)\n(?:#|--) (\S+\.\w+)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)


def ran(text: str, folder: Path) -> str:
    """Return a page with what its commands print, run in `folder`."""
    if "$TSR_REAL_DATA" in text and not REAL.is_dir():
        return text

    def block(match: re.Match[str]) -> str:
        told = [f"$ {command}\n{_printed(command, folder)}" for command in COMMAND.findall(match[1])]
        return f"```console\n{''.join(told)}```"

    for name, content in NAMED.findall(text):
        (folder / name).write_text(content)
    return BLOCK.sub(block, text)


def _printed(command: str, folder: Path) -> str:
    """Return what a command prints, without the progress of its work, which holds times."""
    env = os.environ | {"PYTHONPATH": str(folder), "TSR_REAL_DATA": str(REAL.resolve())}
    script = f'tsr() {{ {sys.executable} -m stages "$@"; }}\n{{ {command}\n}} 2>&1'
    done = subprocess.run(["bash", "-c", script], check=False, cwd=folder, env=env, capture_output=True, text=True)
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not PROGRESS.match(line))


def main(page: Path) -> None:
    """Fill in a page's outputs."""
    with tempfile.TemporaryDirectory() as name:
        page.write_text(ran(page.read_text(), make_folder(Path(name))))


def make_folder(where: Path) -> Path:
    """Return a checkout to run a page in: what git has of this one, as it is now, without DVC's outputs."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    here = where / "tsr"
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, here / name)
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*COMMITTER, "commit", "-q", "-m", "A checkout"]):
        subprocess.run(["git", *words], cwd=here, check=True)
    return here


if __name__ == "__main__":
    main(Path(sys.argv[1]))
