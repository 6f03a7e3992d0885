"""The commands of a docs page: `python tests/docs_console.py docs/importing.md` runs them and writes what they print.

A command is a line that begins with `$ ` in a ```console block, with the lines that end in a backslash; `tsr` is this
checkout's. A ```yaml block whose first line is a comment with a file's name is that file. All blocks of a page run in
one folder, in their order, with the real data beside it as `../shared/data`.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("TSR_REAL_DATA", ROOT / "../shared/data"))
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PROGRESS = re.compile(r"import: (read|write): ")
NAMED = re.compile(r"```yaml\n# (\S+)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)


def ran(text: str, folder: Path) -> str:
    """Return a page with what its commands print, run in `folder`; a block with real data stays where there is none."""

    def block(match: re.Match[str]) -> str:
        if "../shared/data" in match[1] and not REAL.is_dir():
            return match[0]
        told = [f"$ {command}\n{_printed(command, folder)}" for command in COMMAND.findall(match[1])]
        return f"```console\n{''.join(told)}```"

    for name, content in NAMED.findall(text):
        (folder / name).write_text(content)
    return BLOCK.sub(block, text)


def _printed(command: str, folder: Path) -> str:
    """Return what a command prints, without the progress of its work, which holds times."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    script = f'tsr() {{ {sys.executable} -m stages "$@"; }}\n{{ {command}\n}} 2>&1'
    done = subprocess.run(["bash", "-c", script], check=False, cwd=folder, env=env, capture_output=True, text=True)
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not PROGRESS.match(line))


def main(page: Path) -> None:
    """Fill in a page's outputs."""
    with tempfile.TemporaryDirectory() as name:
        page.write_text(ran(page.read_text(), make_folder(Path(name))))


def make_folder(where: Path) -> Path:
    """Return a folder to run a page in."""
    (where / "shared").mkdir()
    (where / "shared/data").symlink_to(REAL.resolve())
    (where / "here").mkdir()
    return where / "here"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
