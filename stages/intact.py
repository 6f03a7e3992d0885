"""Before a stage that DVC runs: are the files that it is about to read those that were made?

DVC takes a file for unchanged where size and time are, so a bit that has flipped on a disk goes unseen, and Parquet as
polars writes it has no checksums. dvc.lock has the hash of every output; here they are compared before one is used.
"""

import json
import os
from pathlib import Path
from typing import Any

from stages import lockfile
from stages.claims import graph
from stages.errors import TsrError
from stages.params import Params

CACHE = Path(".dvc/cache/files/md5")


def check(params: Params, planned: dict[str, Any]) -> None:
    """Check what the stage that DVC is running reads. Raises TsrError naming what is not as it was made.

    What is absent is left to the stage. A lock file that another run is writing at this moment says nothing, nor does a
    dvc.yaml with stages of the user's in other forms than ours.
    """
    name = os.environ.get("DVC_STAGE", "")
    if not name or os.environ.get("RANK", "0") != "0" or not lockfile.LOCK_FILE.exists():
        return
    try:
        made = {str(out.path): out for out in lockfile.outputs()}
        tasks = graph.of(planned, params.profile, params.teacher, left_out=())
    except (TsrError, KeyError, TypeError, AttributeError):
        return
    for path in tasks.reads(name):
        if path in made and Path(path).exists() and _is_hash(made[path].md5):
            _compare(made[path])


def _is_hash(md5: str) -> bool:
    return len(md5.removesuffix(".dir")) == 32


def _compare(out: lockfile.Output) -> None:
    if (actual := lockfile.actual_md5(out.path)) == out.md5:
        return
    told = f"its md5 is {actual}; {lockfile.LOCK_FILE} says {out.md5}"
    mend = f"delete {out.path}, then `dvc checkout {out.path}`, `dvc pull` or `dvc repro {out.stage}`"
    raise TsrError(f"{_file(out)}: damaged or changed since stage {out.stage} made it: {told}; {mend}")


def _file(out: lockfile.Output) -> Path:
    """Return the file of an output that is another, where DVC's cache still has the list of a folder's files."""
    listed = CACHE / out.md5[:2] / out.md5[2:]
    if not (out.md5.endswith(".dir") and listed.is_file()):
        return out.path
    known: dict[str, str] = {entry["relpath"]: entry["md5"] for entry in json.loads(listed.read_text())}
    for name, md5 in known.items():
        path: Path = out.path / name
        if not path.is_file() or lockfile.actual_md5(path) != md5:
            return path
    return out.path
