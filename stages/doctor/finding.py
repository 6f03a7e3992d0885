"""What a check says."""

from dataclasses import dataclass
from typing import Literal

from stages.errors import printable, without_secrets

Level = Literal["would fail", "note", "ok"]
LEVELS: tuple[Level, ...] = ("would fail", "note", "ok")  # in the order in which they are shown


@dataclass(frozen=True)
class Finding:
    """One line: where (a key of params.yaml, a file, a variable), what is so there, and what was expected or helps."""

    level: Level
    where: str
    what: str
    expected: str = ""

    def line(self) -> str:
        r"""Return the finding in one line, without secrets.

        >>> Finding("note", "git", "3 files\nare not committed").line()
        'note        git: 3 files are not committed'
        """
        told = f"{self.where}: {self.what}" + (f"; expected {self.expected}" if self.expected else "")
        return printable(without_secrets(f"{self.level:<10}  {' '.join(told.split())}"))

    def row(self) -> dict[str, str]:
        """Return the finding as an object, without secrets."""
        return {name: without_secrets(" ".join(value.split())) for name, value in vars(self).items()}


def fails(where: str, what: str, expected: str = "") -> Finding:
    """Return what would stop the run."""
    return Finding("would fail", where, what, expected)


def note(where: str, what: str, expected: str = "") -> Finding:
    """Return what stops nothing, and is good to know."""
    return Finding("note", where, what, expected)


def fine(where: str, what: str) -> Finding:
    """Return what is as it should be."""
    return Finding("ok", where, what)


def gib(count: float) -> str:
    """Return bytes in words.

    >>> gib(3 * 2**29), gib(2**20)
    ('1.5 GiB', '1 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.0f} MiB"
