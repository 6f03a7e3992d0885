"""Stage sft: M0 = SFT(base, IFT + EFT). Instruction data teaches it to answer, evaluation data to judge."""

from pathlib import Path

import polars as pl

from stages import models, paths, tables
from stages.errors import TsrError
from stages.ids import seed32_for, seed_for
from stages.params import Sft
from stages.progress import progress
from stages.runtime import prepare_torch


def run(seed: int, settings: Sft) -> None:
    """Write `data/models/M0` and its training curve."""
    prepare_torch()
    ift = tables.read("prompts", paths.prompts("ift"))
    eft = tables.read("prompts", paths.prompts("eft"))
    check_examples(ift, paths.prompts("ift"))
    check_examples(eft, paths.prompts("eft"))
    log = fit(seed, settings, mix(seed, ift, eft, settings))
    from stages.training import write_curve

    write_curve(
        log, {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm"}, paths.training_csv("M0")
    )


def check_examples(examples: pl.DataFrame, where: Path) -> None:
    """Raise TsrError if there is no example, or one without an answer to learn from."""
    if not examples.height:
        raise TsrError(f"{where}: no rows; expected examples to learn from")
    if lost := examples.filter(pl.col("reference").is_null())["prompt_id"].to_list():
        raise TsrError(f"{where}: column 'reference' is null in {len(lost)} rows, first prompt_id={min(lost)}")


def mix(seed: int, ift: pl.DataFrame, eft: pl.DataFrame, settings: Sft) -> pl.DataFrame:
    """Return the examples of the whole training: steps x batch_size rows, `ift_share` of them IFT.

    Each kind is shuffled and, where it is too short, repeated; the trainer shuffles the whole once more.
    """
    total = settings.steps * settings.batch_size
    n_ift = round(total * settings.ift_share)
    parts = [_take(ift, n_ift, seed_for(seed, "sft", "ift")), _take(eft, total - n_ift, seed_for(seed, "sft", "eft"))]
    return pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=seed_for(seed, "sft", "mix"))


def _take(rows: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    repeats = -(-count // max(rows.height, 1))
    rounds = [rows.sample(fraction=1.0, shuffle=True, seed=seed + i) for i in range(repeats)]
    return pl.concat([rows.clear(), *rounds]).head(count)


def fit(seed: int, settings: Sft, examples: pl.DataFrame) -> list[dict[str, float]]:
    """Train base on `examples`, save M0, and return the trainer's log."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from stages.training import CPU_ARGUMENTS, train

    base = paths.model("base")
    tokenizer = models.load_tokenizer(base)
    trainer = SFTTrainer(
        model=models.load_model(base).train(),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [
                {"prompt": m, "completion": [{"role": "assistant", "content": r}]}
                for m, r in examples.select("messages", "reference").iter_rows()
            ]
        ),
        args=SFTConfig(
            max_steps=settings.steps,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=settings.warmup_steps,
            max_grad_norm=settings.max_grad_norm,
            logging_steps=10,
            seed=seed32_for(seed, "sft"),
            max_length=None,
            **CPU_ARGUMENTS,
        ),
    )
    with progress("sft M0", settings.steps, "steps") as advance:
        train(trainer, advance)
    models.save(
        trainer.model, models.load_tokenizer(base), paths.model("M0")
    )  # the tokenizer as it was: TRL alters its own
    return list(trainer.state.log_history)
