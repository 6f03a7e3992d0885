"""What SFT and DPO share: trainer settings, a training that can be stopped and resumed, and what it leaves behind."""

import importlib.util
import os
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages import checkpoints, device, models, paths
from stages.errors import TsrError
from stages.files import write_text
from stages.ids import content_id
from stages.params import Following, Schedule, Training
from stages.progress import Advance, progress


@dataclass(frozen=True)
class Job:
    """One training: what it makes (`name`), what it starts from, and how. `rows` are its examples' ids, in order."""

    name: str
    policy: Path
    seed: int
    settings: Training
    schedule: Schedule
    following: Following
    rows: list[Any]
    left_out: int  # examples beyond max_tokens

    @cached_property
    def checkpoints(self) -> Path:
        """Return where a stopped training is kept: a folder of its own for all that decides the result."""
        decides = [self.seed, self.settings.model_dump(), self.schedule.model_dump(), self.rows, torch.__version__]
        key = content_id("training", self.name, models.model_hash(self.policy), decides)
        return paths.store() / "training" / f"{self.name}-{key[:12]}"


def is_main() -> bool:
    """Return whether this process writes; of several that train together, one does."""
    return os.environ.get("RANK", "0") == "0"


def rows_a_step(job: Job) -> tuple[int, int]:
    """Return the rows that one process takes at once, and how often before a step. Raises TsrError if none fit."""
    processes, batch = int(os.environ.get("WORLD_SIZE", "1")), job.schedule.batch_size
    at_once = job.settings.rows_at_once or -(-batch // processes)
    if batch % (processes * at_once):
        raise TsrError(
            f"params.yaml: batch_size {batch} is no multiple of training.rows_at_once {at_once} x {processes} processes"
        )
    return at_once, batch // (processes * at_once)


def check(settings: Training, following: Following) -> None:
    """Raise TsrError, before any work, for what the settings ask for and this machine or installation does not have."""
    where = device.found(settings.device)
    if settings.adapter == "qlora":
        if where == "cpu":
            raise TsrError("params.yaml: training.adapter: qlora needs a GPU; expected lora or none on a CPU")
        _need(("bitsandbytes",), "training.adapter: qlora", "lora or none")
    if settings.attention == "flash_attention_2":
        if where == "cpu" or settings.dtype != "bfloat16":
            raise TsrError(
                f"params.yaml: training.attention: flash_attention_2 needs a GPU and dtype bfloat16, not {where} and "
                f"{settings.dtype}; expected sdpa or eager"
            )
        _need(("flash_attn", "kernels"), "training.attention: flash_attention_2", "sdpa or eager")
    if following.log_to != "none":
        _need((following.log_to,), f"following.log_to: {following.log_to}", "tensorboard or none")


def _need(packages: tuple[str, ...], key: str, instead: str) -> None:
    """Raise TsrError unless one of the packages is there; the first one is what to install."""
    if not any(map(importlib.util.find_spec, packages)):
        name = packages[0].replace("_", "-")
        raise TsrError(f"params.yaml: {key}: {name} is not installed; `pip install {name}`, or {instead}")


def _followed(job: Job) -> dict[str, Any]:
    """Return what the trainer is told of its log. It stays in the store, unless the user's environment says otherwise.

    A run is named as its checkpoints are: one that goes on is the same, one with other settings another.
    """
    store, run = paths.store().absolute(), job.checkpoints.name
    known = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(store / "tensorboard" / run)},
        "trackio": {"TRACKIO_DIR": str(store / "trackio")},
        "wandb": {"WANDB_DIR": str(store), "WANDB_CACHE_DIR": str(store / "wandb/cache")}
        | {"WANDB_MODE": "offline", "WANDB_PROJECT": "tsr", "WANDB_SILENT": "true"},
    }
    for name, value in known.get(job.following.log_to, {}).items():
        os.environ.setdefault(name, value)
    to = [] if job.following.log_to == "none" else [job.following.log_to]
    return {"report_to": to, "run_name": run, "project": "tsr"}


def arguments(job: Job) -> dict[str, Any]:
    """Return what SFTConfig and DPOConfig have in common.

    TRL 1.16 turns bf16 and gradient checkpointing on by default; here the settings decide.
    """
    at_once, times = rows_a_step(job)
    return _followed(job) | {
        # It must be named and exist; without checkpoints nothing is written to it.
        "output_dir": str(job.checkpoints) if job.following.checkpoint_every else tempfile.gettempdir(),
        "use_cpu": device.found(job.settings.device) == "cpu",
        "bf16": job.settings.dtype == "bfloat16",
        "gradient_checkpointing": job.settings.gradient_checkpointing,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": times,
        "learning_rate": job.schedule.learning_rate,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": job.schedule.final_share},
        "warmup_steps": job.schedule.warmup_steps,
        "max_grad_norm": job.schedule.max_grad_norm,
        "weight_decay": 0.0,
        "optim": "adamw_torch",
        "seed": job.seed,
        "max_length": None,  # nothing is cut: examples that are too long have been left out, and counted
        "save_strategy": "steps" if job.following.checkpoint_every else "no",
        "save_steps": job.following.checkpoint_every or 500,
        "save_total_limit": None,  # checkpoints.Sealing removes old ones
        "ddp_find_unused_parameters": False,
        "disable_tqdm": True,
        "full_determinism": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": device.found(job.settings.device) == "cuda",
    }


def shared(rows: list[dict[str, Any]], args: TrainingArguments, job: Job) -> Any:
    """Return the examples as a dataset that all processes of a training share.

    TRL's first process writes the reference's log-probabilities beside the dataset, where the others look for them: a
    dataset in memory has a folder of its own in each process.
    """
    from datasets import Dataset, load_from_disk

    if "WORLD_SIZE" not in os.environ:
        return Dataset.from_list(rows)
    folder = job.checkpoints / "examples"
    with args.main_process_first():
        if is_main():
            shutil.rmtree(folder, ignore_errors=True)
            Dataset.from_list(rows).save_to_disk(folder)
    return load_from_disk(folder)


def load_policy(job: Job) -> Any:
    """Return the model to train: whole weights in float32, or frozen ones in `dtype` beneath an adapter."""
    options = {}
    if job.settings.adapter == "qlora":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, job.settings.dtype),
        )
    dtype = "float32" if job.settings.adapter == "none" else job.settings.dtype
    return models.load_model(job.policy, dtype, attn_implementation=job.settings.attention, **options).train()


def reference(job: Job, args: TrainingArguments) -> Any:
    """Return the model whose log-probabilities are the reference, where it cannot be the policy itself; else None.

    Under DeepSpeed TRL 1.16 would wrap the policy for them, and once more to train it; the two wrappings disagree.
    """
    if getattr(args, "deepspeed_plugin", None) is None:
        return None
    dtype = "float32" if job.settings.adapter == "none" else job.settings.dtype  # as the policy
    return models.load_model(job.policy, dtype, attn_implementation=job.settings.attention)


def adapter(settings: Training) -> Any:
    """Return the configuration of LoRA (arXiv 2106.09685) on all linear layers, or None for whole weights."""
    if settings.adapter == "none":
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


class _Advancing(TrainerCallback):  # type: ignore[misc]
    """Advances a progress display by one each optimizer step."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ARG002
        """Count one step."""
        self._advance()


def train(trainer: Any, job: Job, stage: str, steps: int, told: dict[str, Any] | None = None) -> list[dict[str, float]]:
    """Train to the end, from the last checkpoint where there is one, and save `job.name`; return the log.

    `told` goes beside the rest into made_by.json.
    """
    from transformers.trainer_callback import PrinterCallback

    last = checkpoints.newest(job.checkpoints, trainer.args)
    done = int(last.name.removeprefix("checkpoint-")) if last else 0
    trainer.remove_callback(PrinterCallback)
    shown = progress(f"{stage} {job.name}", steps, "steps", reused=done) if is_main() else nullcontext(_no_progress)
    with shown as advance:
        trainer.add_callback(_Advancing(advance))
        trainer.add_callback(checkpoints.Sealing(trainer.accelerator))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    _save(trainer, job, steps, told or {})
    if is_main():
        shutil.rmtree(job.checkpoints, ignore_errors=True)
    return list(trainer.state.log_history)


def _no_progress(done: int = 1, failed: int = 0) -> None:
    """Stand for the display where another process shows it."""


def _save(trainer: Any, job: Job, steps: int, told: dict[str, Any]) -> None:
    """Write the new model version as whole weights, an adapter merged into them."""
    whole = trainer.deepspeed if trainer.is_deepspeed_enabled else trainer.model
    state = trainer.accelerator.get_state_dict(whole)  # all processes, where weights lie in parts
    if not is_main():
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    dtype = getattr(torch, job.settings.save_dtype)
    if job.settings.adapter != "none":
        model, state = _merged(model, state, job)
    weights = {name: tensor.to(dtype) for name, tensor in state.items()}
    _check_numbers(weights, job)
    made_by = told | {
        "policy_hash": models.model_hash(job.policy),
        "examples": len(job.rows),
        "left_out": job.left_out,
        "steps": steps,
        "seed": job.seed,
        "training": job.settings.model_dump(),
        "schedule": job.schedule.model_dump(),
    }
    # The tokenizer as it was: TRL alters its own.
    models.save(model, models.load_tokenizer(job.policy), paths.model(job.name), weights, made_by)
    if models.model_hash(paths.model(job.name)) == made_by["policy_hash"]:
        shutil.rmtree(paths.model(job.name))
        raise TsrError(
            f"{paths.model(job.name)}: training changed no weight that {job.settings.save_dtype} can hold; "
            "expected more steps, a higher learning_rate, or training.save_dtype: float32"
        )


def _check_numbers(weights: dict[str, torch.Tensor], job: Job) -> None:
    """Raise TsrError for weights that are no numbers; what led to them is not gone on from."""
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        raise TsrError(
            f"{paths.model(job.name)}: training ended in weights that are no numbers (NaN, inf), in {len(broken)} of "
            f"{len(weights)} tensors, first {min(broken)}; nothing is saved; expected a lower learning_rate, a smaller "
            "max_grad_norm or training.dtype: float32"
        )


def logged_every(steps: int) -> int:
    """Return after how many steps the loss is logged, so that a short training has a curve too.

    >>> logged_every(400), logged_every(7)
    (10, 1)
    """
    return 10 if steps >= 100 else 1


def _merged(trained: Any, state: dict[str, torch.Tensor], job: Job) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the policy with the trained adapter merged in: into its own weights, not into quantised ones."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # under ZeRO-3 a model would be divided over all processes as it is read; this is one
    whole = get_peft_model(models.load_model(job.policy, job.settings.save_dtype), adapter(job.settings))
    set_peft_model_state_dict(whole, get_peft_model_state_dict(trained, state_dict=state))
    merged = whole.merge_and_unload()
    return merged, merged.state_dict()


def write_curve(log_history: list[dict[str, float]], columns: dict[str, str], path: Path) -> None:
    """Write the logged steps as CSV: `step` and `columns` (logged name -> column name). No times."""
    if not is_main():
        return
    steps = [entry for entry in log_history if "loss" in entry]
    rows = [{"step": int(e["step"])} | {name: round(e[key], 6) for key, name in columns.items()} for e in steps]
    write_text(pl.DataFrame(rows).write_csv(), path)
