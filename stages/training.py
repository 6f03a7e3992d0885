"""What SFT and DPO share: trainer settings that repeat bit for bit, progress, and the training curve."""

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.files import write_text
from stages.progress import Advance

# TRL 1.16 defaults that a CPU cannot use are switched off; nothing is saved or sent anywhere by the trainer.
CPU_ARGUMENTS: dict[str, Any] = {
    "output_dir": tempfile.gettempdir(),  # it must be named and exist; nothing is written to it
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "full_determinism": False,
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": False,
    "optim": "adamw_torch",
    "weight_decay": 0.0,
}


class Advancing(TrainerCallback):  # type: ignore[misc]
    """Advances a progress display by one each optimizer step, and keeps the trainer's own prints away."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ARG002
        """Count one step."""
        self._advance()


def train(trainer: Any, advance: Advance) -> None:
    """Run a Hugging Face trainer with our progress display instead of its prints."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Advancing(advance))
    trainer.train()


def write_curve(log_history: list[dict[str, float]], columns: dict[str, str], path: Path) -> None:
    """Write the logged steps as CSV: `step` and `columns` (logged name -> column name). No times."""
    steps = [entry for entry in log_history if "loss" in entry]
    rows = [{"step": int(e["step"])} | {name: round(e[key], 6) for key, name in columns.items()} for e in steps]
    write_text(pl.DataFrame(rows).write_csv(), path)
