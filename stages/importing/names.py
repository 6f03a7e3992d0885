"""Names from elsewhere, made safe as folder names."""

import re
from collections.abc import Iterable

from stages.errors import TsrError

LONGEST = 120  # characters; file systems take 255 bytes


def safe_name(name: str) -> str:
    """Return `name` as a folder's name: `/` becomes `--`, other strange characters `-`, leading marks go.

    >>> safe_name("OpenAssistant/pythia-12b sft"), safe_name("../x..y")
    ('OpenAssistant--pythia-12b-sft', 'x.y')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name.strip().replace("/", "--"))
    return re.sub(r"\.{2,}", ".", plain).lstrip("._-")


def safe_names(names: Iterable[str], what: str) -> dict[str, str]:
    """Return name -> safe name. Raises TsrError for one that has none, is too long, or falls together with another.

    Names that differ by case alone fall together, as they do on some file systems.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in sorted(set(names)):
        safe = safe_name(name)
        if not safe or len(safe) > LONGEST:
            raise TsrError(
                f"{what} {name[:80]!r}: gives no folder name of 1 to {LONGEST} characters; map it in `values`"
            )
        if (other := taken.setdefault(safe.casefold(), name)) != name:
            raise TsrError(f"{what} {name!r} and {other!r} both give the folder name {safe!r}; map one in `values`")
        found[name] = safe
    return found
