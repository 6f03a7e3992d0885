"""dvc.lock read as data: which output has which hash.

Files are rehashed from their bytes, never from what DVC remembers of them.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.errors import TsrError

LOCK_FILE = Path("dvc.lock")
IMPORTED = Path("data/imported")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a large run has ten thousand lines


@dataclass(frozen=True)
class Output:
    """One output as dvc.lock records it; `md5` ends in `.dir` for a folder."""

    stage: str
    path: Path
    md5: str


@dataclass(frozen=True)
class Ran:
    """One stage as dvc.lock records its last run: params as DVC names them, md5 of what it read, what it wrote."""

    stage: str
    params: dict[str, Any]
    deps: dict[Path, str]
    outs: list[Output]


def ran(path: Path = LOCK_FILE) -> dict[str, Ran]:
    """Return every stage in dvc.lock by its name."""
    if not path.exists():
        raise TsrError(f"{path}: no such file; run `dvc repro` first")
    try:
        said = yaml.load(path.read_text(), _LOADER)["stages"]  # noqa: S506 (a safe one)
        return {name: _ran(name, entry) for name, entry in said.items()}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise TsrError(f"{path}: not a lock file of DVC: {' '.join(str(error).split())}") from error


def _ran(name: str, entry: dict[str, Any]) -> Ran:
    params = {key: value for values in entry.get("params", {}).values() for key, value in values.items()}
    deps = {Path(dep["path"]): dep["md5"] for dep in entry.get("deps", [])}
    return Ran(
        name,
        params,
        deps,
        [Output(name, _inside(o["path"], f"{LOCK_FILE}: stage {name}"), o["md5"]) for o in entry.get("outs", [])],
    )


def _inside(path: str, where: str) -> Path:
    """Return an output's path. Raises TsrError for one outside its folder: its copy would lie outside too."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise TsrError(f"{where}: output {path!r} lies outside the project; expected a path inside it")
    return Path(path)


def outputs(path: Path = LOCK_FILE) -> Iterator[Output]:
    """Yield every output in dvc.lock."""
    for stage in ran(path).values():
        yield from stage.outs


def added(folder: Path = IMPORTED) -> Iterator[Output]:
    """Yield what `dvc add` and `dvc import` put under version in a folder, from its `.dvc` files.

    An output whose hash is no md5, as of a bucket with versions of its own, is left to DVC.
    """
    for path in sorted(folder.glob("*.dvc")):
        try:
            outs = yaml.safe_load(path.read_text())["outs"]
            found = [
                Output(str(path), folder / _inside(out["path"], str(path)), out["md5"]) for out in outs if "md5" in out
            ]
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise TsrError(f"{path}: not a file of DVC: {' '.join(str(error).split())}") from error
        yield from found


def actual_md5(path: Path) -> str:
    """Return the hash of a file or folder as DVC writes it.

    A folder's hash is that of the JSON list of its files' hashes, sorted by relative path.
    """
    if path.is_file():
        return _file_md5(path)
    files = sorted((f.relative_to(path).as_posix(), f) for f in path.rglob("*") if f.is_file() and not is_beside(f))
    listed = [{"md5": _file_md5(f), "relpath": name} for name, f in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def is_beside(path: Path) -> bool:
    """Return whether a file is one that a crash left beside its place; DVC ignores these too (.dvcignore)."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _file_md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
