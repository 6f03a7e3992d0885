"""dvc.lock as text: one stage's entry put in its place, to the byte as DVC writes the whole file.

DVC reads and writes all entries for each stage that ends, two seconds for 77 stages; an entry's own text takes none.
"""

import re
from collections.abc import Callable

HEAD = "schema: '2.0'\nstages:\n"


def entries(text: str) -> dict[str, str] | None:
    r"""Return stage -> the lines of its entry; None where it is not the file that this module can write.

    >>> entries(HEAD + "  a:\n    cmd: x\n  b:\n    cmd: y\n")
    {'a': '  a:\n    cmd: x\n', 'b': '  b:\n    cmd: y\n'}
    """
    if not text.startswith(HEAD):
        return None if text else {}
    blocks = [block for block in re.split(r"(?m)^(?=\S|  \S)", text.removeprefix(HEAD)) if block]
    names = [re.match(r"  ([A-Za-z0-9_.@-]+):\n", block) for block in blocks]
    found = {name[1]: block for name, block in zip(names, blocks, strict=True) if name}
    return found if len(found) == len(blocks) else None


def put(text: str, entry: str, order: Callable[[str], int]) -> str | None:
    """Return a dvc.lock with the entries of `entry`, itself a dvc.lock; None where its text is not as expected.

    What is there keeps its place, as in DVC. What is new comes after it, by `order`, whatever order it came in; `order`
    is -1 for what was there before the run.
    """
    there, new = entries(text), entries(entry)
    if there is None or not new:
        return None
    there |= new
    return HEAD + "".join(there[name] for name in sorted(there, key=order))
