"""Stage dpo: the next model version = DPO(policy, pairs), with the policy itself as reference."""

from pathlib import Path

import polars as pl

from stages import models, paths, tables
from stages.drops import funnel
from stages.errors import TsrError
from stages.ids import seed32_for
from stages.params import Dpo
from stages.progress import progress
from stages.runtime import prepare_torch

CURVE = {
    "loss": "loss",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
    "grad_norm": "grad_norm",
}


def run(seed: int, settings: Dpo, name: str, policy: str, steps: int = 0) -> None:
    """Write `data/models/<name>` and its training curve; `steps` above 0 stops after so many, for a trial."""
    pairs = tables.read("pairs", paths.pairs(name))
    if not pairs.height:
        dropped = tables.read("dropped", paths.dropped(name))
        raise TsrError(f"{paths.pairs(name)}: no pairs left to train {name} on{funnel(dropped)}")
    prepare_torch()
    log = fit(seed, settings, name, paths.model(policy), pairs, steps)
    from stages.training import write_curve

    write_curve(log, CURVE, paths.training_csv(name))


def fit(
    seed: int, settings: Dpo, name: str, policy: Path, pairs: pl.DataFrame, steps: int = 0
) -> list[dict[str, float]]:
    """Train a copy of `policy` on `pairs`, save it as `name`, and return the trainer's log.

    The seed comes from the run's seed, the policy's weights and the pairs, so equal work gives equal weights.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from stages.training import CPU_ARGUMENTS, train

    ordered = pairs.sort("prompt_id")
    total = steps or settings.epochs * -(-pairs.height // settings.batch_size)
    trainer = DPOTrainer(
        model=models.load_model(policy).train(),
        ref_model=models.load_model(policy),
        processing_class=models.load_tokenizer(policy),
        train_dataset=Dataset.from_list(ordered.select("prompt", "chosen", "rejected").to_dicts()),
        args=DPOConfig(
            beta=settings.beta,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=settings.warmup_steps,
            num_train_epochs=settings.epochs,
            max_steps=steps or -1,
            per_device_train_batch_size=settings.batch_size,
            max_grad_norm=settings.max_grad_norm,
            max_length=None,
            logging_steps=1,
            seed=seed32_for(seed, "dpo", models.model_hash(policy), ordered.select("chosen_id", "rejected_id").rows()),
            **CPU_ARGUMENTS,
        ),
    )
    with progress(f"dpo {name}", total, "steps") as advance:
        train(trainer, advance)
    models.save(trainer.model, models.load_tokenizer(policy), paths.model(name))
    return list(trainer.state.log_history)
