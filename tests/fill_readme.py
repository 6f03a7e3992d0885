"""`make docs`: run the `duckdb` commands of README.md on the tables under data/ and write their output below them."""

import re
import subprocess
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"```console\n\$ (duckdb .*)\n(?:.*\n)*?```")


def main() -> None:
    """Fill in the outputs."""

    def filled(match: re.Match[str]) -> str:
        done = subprocess.run(["bash", "-c", match[1]], cwd=README.parent, check=True, capture_output=True, text=True)
        return f"```console\n$ {match[1]}\n{done.stdout.rstrip()}\n```"

    README.write_text(BLOCK.sub(filled, README.read_text()))


if __name__ == "__main__":
    main()
