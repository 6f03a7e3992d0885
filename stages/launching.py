"""Training in several processes: a stage starts itself again under `accelerate launch`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages import paths, rowstore
from stages.errors import TsrError
from stages.params import Training

LAUNCHED = "TSR_LAUNCHED"  # set in the processes that train together, to the id of the one that started them


@dataclass(frozen=True)
class Launch:
    """What a configuration of accelerate asks for, or why it cannot be read."""

    kind: str
    processes: int
    problem: str = ""

    @property
    def divides(self) -> bool:
        """Return whether weights, gradients and optimizer lie in parts over the processes."""
        return self.kind in {"FSDP", "DEEPSPEED"}


def asked(file: str) -> Launch:
    """Return what a configuration of accelerate asks for, read as `accelerate launch` reads it."""
    if not Path(file).is_file():
        return Launch("", 1, "no such file")
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        said = load_config_from_file(file)
        kind, count = str(getattr(said.distributed_type, "value", said.distributed_type)), int(said.num_processes)
    except AttributeError:  # a text, a list or nothing where keys should stand
        return Launch("", 1, "has no keys such as distributed_type")
    except Exception as error:  # whatever a YAML reader and accelerate's own checks raise
        return Launch("", 1, f"cannot be read by accelerate: {' '.join(str(error).split())[:200]}")
    return Launch(kind, count, "" if count > 0 else "num_processes is missing or below 1")


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Wait for another run that trains the same model version: both would write the same checkpoints."""
    if LAUNCHED in os.environ:  # the process that started these waits for them
        yield
        return
    with rowstore.locked(paths.store() / "locks" / "training" / paths.checked(name)):
        yield


def elsewhere(settings: Training) -> bool:
    """Run this very command in the processes that `training.launch` asks for; return False where it is to run here.

    Raises TsrError when one of them fails: what it said stands above.
    """
    if not settings.launch or LAUNCHED in os.environ:
        return False
    if not Path(settings.launch).is_file():
        raise TsrError(f"params.yaml: training.launch: no file {settings.launch}; expected one for accelerate")
    if problem := asked(settings.launch).problem:
        wanted = "expected a configuration of accelerate, as in stages/accelerate"
        raise TsrError(f"params.yaml: training.launch: {settings.launch}: {problem}; {wanted}")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", settings.launch, "-m", "stages"]
    ended = subprocess.run(  # noqa: S603 (this very program)
        [*command, *sys.argv[1:]], check=False, env=os.environ | {LAUNCHED: str(os.getpid())}
    )
    if ended.returncode:
        raise TsrError(f"training under {settings.launch} ended with exit code {ended.returncode}; the cause is above")
    return True
