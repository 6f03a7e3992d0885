"""Training in several processes: a stage starts itself again under `accelerate launch`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages import paths, rowstore
from stages.errors import TsrError
from stages.params import Training

LAUNCHED = "TSR_LAUNCHED"  # set in the processes that train together


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
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", settings.launch, "-m", "stages"]
    ended = subprocess.run(  # noqa: S603 (this very program)
        [*command, *sys.argv[1:]], check=False, env=os.environ | {LAUNCHED: "1"}
    )
    if ended.returncode:
        raise TsrError(f"training under {settings.launch} ended with exit code {ended.returncode}; the cause is above")
    return True
