"""Before a stage that DVC runs: are the files that it is about to read those that were made?

DVC takes a file for unchanged where size and time are, so a bit that has flipped on a disk goes unseen, and Parquet as
polars writes it has no checksums. dvc.lock has the hash of every output; here they are compared before one is used.
"""

import os
from pathlib import Path
from typing import Any

from stages import dvc_cache, lockfile
from stages.claims import graph
from stages.errors import TsrError
from stages.params import Params


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
    damaged = _in_folder(out) if out.md5.endswith(".dir") else _other(out, out.path, out.md5)
    if not damaged:
        return
    mend = f"delete {out.path}, then `dvc checkout {out.path}`, `dvc pull` or `dvc repro {out.stage}`"
    raise TsrError(f"{damaged}; {mend}")


def _other(out: lockfile.Output, path: Path, md5: str) -> str:
    """Return what is wrong with an output, or with a file of it; empty where it is as it was made."""
    if (actual := lockfile.actual_md5(path)) == md5:
        return ""
    told = f"its md5 is {actual}; {lockfile.LOCK_FILE} says {md5}"
    return f"{path}: damaged or changed since stage {out.stage} made it: {told}"


def _in_folder(out: lockfile.Output) -> str:
    """Return what is wrong with a file of a folder. Some may be absent: `dvc pull` fetches single files too.

    DVC's cache has the list of a folder's files, and a pull of single files fetches it. Where it is not, the folder
    must be what it was as a whole.
    """
    known = dvc_cache.listed(out.md5)
    if known is None:
        return _other(out, out.path, out.md5)
    here = (out.path / name for name in sorted(known))
    return next(
        filter(None, (_other(out, path, known[str(path.relative_to(out.path))]) for path in here if path.is_file())), ""
    )
