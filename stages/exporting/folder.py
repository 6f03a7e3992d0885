"""The folder of an export: never half written, never in the place of something that is not an export."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stages import paths
from stages.errors import TsrError
from stages.files import replacing_folder, write_text

PROVENANCE = "provenance.json"


@contextmanager
def new_folder(target: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `target`. Raises TsrError where something is in the way.

    With `replace`, an earlier export makes way; anything else never does.
    """
    for root in (Path("data"), paths.data()):
        if target.resolve().is_relative_to(root.resolve()):
            raise TsrError(f"--to {target}: lies in {root}, whose tables are read-only; expected a folder elsewhere")
    if target.exists() and not target.is_dir():
        raise TsrError(f"{target}: is a file; expected a new folder")
    if target.is_dir() and any(target.iterdir()):
        if not replace:
            raise TsrError(f"{target}: is there already; name another folder, or replace it with --replace")
        if not (target / PROVENANCE).is_file():
            raise TsrError(f"{target}: no {PROVENANCE} in it, so it is no export; --replace leaves it as it is")
    with replacing_folder(target, replace=replace) as beside:
        yield beside


def write_provenance(told: dict[str, Any], folder: Path) -> None:
    """Write where the rows come from as JSON, keys sorted: the same input gives the same bytes."""
    write_text(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n", folder / PROVENANCE)


def made_by() -> str:
    """Return this program's name and version."""
    try:
        return f"tsr {version('tsr')}"
    except PackageNotFoundError:
        return "tsr, run from a checkout"
