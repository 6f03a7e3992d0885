"""What DVC's cache knows of a folder: the list of its files with their hashes, kept under the list's own hash.

DVC itself is not imported: that takes longer than most of what a stage asks here.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.errors import TsrError

OWN = Path(".dvc")


def listed(md5: str) -> dict[str, str] | None:
    """Return the files of a folder, by the hash that dvc.lock has of it, with their md5; None where no list is here.

    Raises TsrError for a list that is damaged: it must have the hash that it is kept under.
    """
    path = folder() / "files" / "md5" / md5[:2] / md5[2:]
    if not path.is_file():
        return None
    try:
        data = path.read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir"):
            return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(data)}
    except OSError as error:
        raise TsrError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError):
        pass
    told = f"DVC's list of a folder's files is damaged: expected one whose md5 is {md5.removesuffix('.dir')}"
    raise TsrError(
        f"{path}: {told}; delete it, then `dvc pull`, or without a remote go on: the folder is compared whole"
    )


def folder() -> Path:
    """Return the folder of DVC's cache: `cache.dir` in its configuration, the last file that has it, or its own.

    Raises TsrError for a file that is no configuration of DVC's.
    """
    found = OWN / "cache"
    for file in _configurations():
        if said := _read(file).get("cache", {}).get("dir"):
            found = file.parent / Path(str(said)).expanduser()
    return found


def _read(file: Path) -> dict[str, Any]:
    from configobj import ConfigObj, ConfigObjError  # which DVC reads them with

    if not file.is_file():
        return {}
    try:
        told: dict[str, Any] = ConfigObj(str(file)).dict()
    except (ConfigObjError, UnicodeDecodeError, OSError) as error:
        raise TsrError(f"{file}: not a configuration of DVC: {' '.join(str(error).split())}") from error
    return {name.lower(): _lowered(section) for name, section in told.items() if isinstance(section, dict)}


def _lowered(section: dict[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in section.items()}


def _configurations() -> Iterator[Path]:
    """Yield the places of DVC's configuration: the machine's, the user's, the project's, this checkout's."""
    import platformdirs  # as DVC does

    machine = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative")
    own = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative")
    yield from (Path(machine) / "config", Path(own) / "config", OWN / "config", OWN / "config.local")
