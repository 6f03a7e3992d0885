"""`make docs`: run the queries of README.md and the docs on the tables under data/; write their output below them.

What README.md quotes of reports/claims.md is written between its marks.
"""

import os
import re
import subprocess
from pathlib import Path

from console import WIDTH

from stages.claims.page import quoted

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("exploring", "forecast", "health", "reliability", "scaling-out")),
]
ENV = os.environ | {"COLUMNS": WIDTH}
CLAIMS = ROOT / "reports" / "claims.md"
BLOCK = re.compile(r"```console\n\$ ((?:duckdb|tsr (?:query|show|sql|forecast|health))\b.*)\n(?:(?!\$ ).*\n)*?```")


def main() -> None:
    """Fill in the outputs."""

    def filled(match: re.Match[str]) -> str:
        done = subprocess.run(["bash", "-c", match[1]], cwd=ROOT, check=True, capture_output=True, text=True, env=ENV)
        return f"```console\n$ {match[1]}\n{done.stdout.rstrip()}\n```"

    for page in PAGES:
        page.write_text(BLOCK.sub(filled, page.read_text()))
    if CLAIMS.is_file():
        readme = PAGES[0].read_text()
        PAGES[0].write_text(readme.replace(quoted(readme), quoted(CLAIMS.read_text())))


if __name__ == "__main__":
    main()
