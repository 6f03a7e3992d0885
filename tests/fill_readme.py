"""`make docs`: run the queries of README.md and the docs on the tables under data/; write their output below them."""

import os
import re
import subprocess
from pathlib import Path

from console import WIDTH

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "exploring.md", ROOT / "docs" / "forecast.md"]
ENV = os.environ | {"COLUMNS": WIDTH}
BLOCK = re.compile(r"```console\n\$ ((?:duckdb|tsr query|tsr show|tsr sql|tsr forecast) .*)\n(?:(?!\$ ).*\n)*?```")


def main() -> None:
    """Fill in the outputs."""

    def filled(match: re.Match[str]) -> str:
        done = subprocess.run(["bash", "-c", match[1]], cwd=ROOT, check=True, capture_output=True, text=True, env=ENV)
        return f"```console\n$ {match[1]}\n{done.stdout.rstrip()}\n```"

    for page in PAGES:
        page.write_text(BLOCK.sub(filled, page.read_text()))


if __name__ == "__main__":
    main()
