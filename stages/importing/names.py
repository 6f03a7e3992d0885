"""Names from elsewhere, made safe as folder names."""

import re
from collections.abc import Iterable

from stages.errors import TsrError
from stages.ids import content_id
from stages.importing.dirt import Dirt
from stages.paths import LONGEST


def safe_name(name: str) -> str:
    """Return `name` as a folder's name: `/` becomes `--`, other strange characters `-`, leading marks go.

    >>> safe_name("OpenAssistant/pythia-12b sft"), safe_name("../x..y")
    ('OpenAssistant--pythia-12b-sft', 'x.y')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name.strip().replace("/", "--"))
    return re.sub(r"\.{2,}", ".", plain).lstrip("._-")


def safe_names(names: Iterable[str], what: str, dirt: Dirt) -> dict[str, str]:
    """Return name -> safe name; one that has none, or is too long, is `what` with its hash, and counted.

    Raises TsrError for names that fall together. Those that differ by case alone do, as on some file systems.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in sorted(set(names)):
        safe = safe_name(name)
        if not safe or len(safe) > LONGEST:
            safe = f"{what}-{content_id('name', name)}"
            dirt.add("named_by_hash", f"{what}s")
        if (other := taken.setdefault(safe.casefold(), name)) != name:
            told = f"{what} {name!r} and {other!r} both give the folder name {safe!r}"
            raise TsrError(f"{told}; name one in its cell, as in values: {{{name!r}: {safe}-2}}")
        found[name] = safe
    return found
