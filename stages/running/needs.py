"""What a stage takes: slots by the settings of what computes in it, seconds as measured or assumed."""

import json
import math
from pathlib import Path

from stages.errors import TsrError
from stages.files import write_text
from stages.params import Params, Profile
from stages.yamlfile import read_yaml

TRAINERS = ("sft", "dpo", "tune")
# Seconds that a stage is thought to take where it was never run: only their order of size matters.
ASSUMED = {"sft": 60.0, "generate": 5.0, "judge": 5.0, "dpo": 5.0, "tune": 5.0, "measure": 5.0, "evaluate": 5.0}
OTHER = 1.0  # SQL


def kind(name: str) -> str:
    """Return a stage's name without its row of the plan.

    >>> kind("dpo@tsr-1")
    'dpo'
    """
    return name.partition("@")[0]


def gpus(params: Params) -> dict[str, int]:
    """Return kind of stage -> GPUs that one of it takes; kinds that are not named take none.

    `auto` and vLLM take one where `slots.gpu` says that there are any. Ray takes those of all workers, if its cluster
    is one of our own. Raises TsrError for a device that is not there, or for more GPUs than there are.
    """
    block = params.block
    there = block.slots.gpu
    asked = {role: _engine(block, getattr(block, role).backend) for role in ("generate", "judge")}
    training = block.training.device, "training.device"
    trained = (*training, _processes(block))
    wanted = {"generate": asked["generate"], "judge": asked["judge"], "measure": (*training, 1)}
    wanted |= dict.fromkeys(TRAINERS, trained)
    wanted["evaluate"] = max(asked.values(), key=lambda one: _count(one[0], one[2], there))
    found = {}
    for stage, (device, key, many) in wanted.items():
        found[stage] = _count(device, many, there)
        if found[stage] > there:
            told = f"{params.profile}.{key} asks for {found[stage]} GPUs; {params.profile}.slots.gpu is {there}"
            raise TsrError(f"params.yaml: {told}")
    return found


def cpus(params: Params) -> dict[str, int]:
    """Return kind of stage -> CPU slots that one of it takes; kinds that are not named take one.

    More are taken by trainings that several processes share on a CPU, and by the workers of a Ray cluster of our own.
    """
    block = params.block
    engines = [_workers_cpus(block, getattr(block, role).backend) for role in ("generate", "judge")]
    trained = 1 if _count(block.training.device, 1, block.slots.gpu) else _processes(block)
    return dict.fromkeys(TRAINERS, trained) | {"generate": engines[0], "judge": engines[1], "evaluate": max(engines)}


def _workers_cpus(block: Profile, name: str) -> int:
    """Return the CPU slots of an engine: one, but with Ray here those of its workers."""
    ray = block.backends[name]
    return ray.workers * ray.cpus_per_worker if name == "ray" and not ray.address else 1


def _count(device: str, many: int, there: int) -> int:
    """Return GPUs: none on a CPU, and none for a device that may be either where there are none."""
    return 0 if device == "cpu" or (device == "auto" and not there) else many


def _engine(block: Profile, name: str) -> tuple[str, str, int]:
    """Return an engine's device, the key that says so, and how many of them it takes."""
    settings = block.backends[name]
    if name == "vllm":  # whether it is the build for a GPU, it alone knows
        return "auto", "backends.vllm.tensor_parallel_size", settings.tensor_parallel_size
    if name == "ray":  # a cluster elsewhere has GPUs of its own
        many = math.ceil(round(settings.workers * settings.gpus_per_worker, 6))
        return "cpu" if settings.address else "cuda", "backends.ray.gpus_per_worker", many
    return getattr(settings, "device", "cpu"), f"backends.{name}.device", 1  # a server has no device here


def _processes(block: Profile) -> int:
    """Return how many processes train together; one where the launch file does not say it, which the stage tells."""
    path = block.training.launch
    if not path or not Path(path).is_file():
        return 1
    try:
        return max(1, int(read_yaml(Path(path), path)["num_processes"]))
    except (KeyError, TypeError, ValueError):
        return 1


class Seconds:
    """How long each stage took when it last ran here; kept in a file, for the order of the next run alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, float] = {}
        if path.is_file():
            try:
                self._known = {str(name): float(value) for name, value in json.loads(path.read_text()).items()}
            except (ValueError, AttributeError, TypeError):  # what another hand wrote is worth no more than a guess
                self._known = {}

    def of(self, name: str) -> float:
        """Return the seconds that a stage is thought to take: its own, or what is assumed of its kind."""
        return self._known.get(name, ASSUMED.get(kind(name), OTHER))

    def keep(self, name: str, seconds: float) -> None:
        """Note how long a stage took."""
        self._known[name] = round(seconds, 2)

    def write(self) -> None:
        """Write what is known."""
        write_text(json.dumps(self._known, indent=0, sort_keys=True) + "\n", self._path)
