"""Checkpoints of a training: sealed once they are whole, and removed where they are not what was sealed.

The trainer reads whatever is there: weights with a flipped bit, or a step count that was never reached.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.files import write_text
from stages.ids import file_sha256

SEAL = "sealed.json"  # file -> SHA-256
STATE = "trainer_state.json"  # how far the training was: the last file that the trainer writes
KEPT = 2


class Sealing(TrainerCallback):  # type: ignore[misc]
    """Seals each checkpoint once all processes have written their part of it, and then removes old ones.

    The trainer removes those of the oldest date, before it says that one is saved: a clock that was set back would make
    that the new one.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ARG002
        """Seal what the trainer has just saved."""
        self._accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir)
            seal(folder / f"checkpoint-{state.global_step}")
            for old in _in(folder)[KEPT:]:
                shutil.rmtree(old)


def seal(checkpoint: Path) -> None:
    """Write down the hash of each file of a checkpoint, in the checkpoint."""
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL]
    hashes = {path.relative_to(checkpoint).as_posix(): file_sha256(path) for path in files}
    write_text(json.dumps(hashes, indent=0, sort_keys=True) + "\n", checkpoint / SEAL)


def newest(folder: Path, args: TrainingArguments) -> Path | None:
    """Return the newest checkpoint that is what was sealed, the same one in all processes of a training.

    Newer ones are removed, with a line for each: a kill has left them half, or their files were damaged since.
    """
    with args.main_process_first(local=False):
        if args.process_index == 0:
            for checkpoint in _in(folder):
                fault = _fault(checkpoint)
                if not fault:
                    break
                print(f"tsr: {checkpoint}: {fault}; it is removed", file=sys.stderr, flush=True)
                shutil.rmtree(checkpoint)
        return next(iter(_in(folder)), None)


def _in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda found: -int(found.name.removeprefix("checkpoint-")))


def _fault(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint, or nothing."""
    try:
        sealed = dict(json.loads((checkpoint / SEAL).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return "was not finished"
    except (OSError, ValueError, TypeError):
        return f"{SEAL} is damaged"
    if STATE not in sealed:
        return f"{SEAL} names no {STATE}"
    for name, digest in sorted(sealed.items()):
        try:
            if file_sha256(checkpoint / name) != digest:
                return f"{name} is not what was saved"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return ""
