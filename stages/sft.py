"""Stage sft: M0 = SFT(base, IFT + EFT). Instruction data teaches it to answer, evaluation data to judge."""

from pathlib import Path

import polars as pl

from stages import models, paths, tables
from stages.errors import TsrError
from stages.ids import seed32_for, seed_for
from stages.lengths import answer, within
from stages.params import Profile, Sft
from stages.runtime import prepare_torch


def run(seed: int, settings: Profile) -> None:
    """Write `data/models/M0` and its training curve."""
    prepare_torch()
    ift = tables.read("prompts", paths.prompts("ift"))
    eft = tables.read("prompts", paths.eft())
    check_examples(ift, paths.prompts("ift"))
    if eft.height or settings.sft.steps:  # none is there where none was asked for: a chat model may judge as it is
        check_examples(eft, paths.eft())
    log = fit(seed, settings, mix(seed, ift, eft, settings.sft))
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

    Each kind is shuffled and, where it is too short, repeated; the trainer shuffles the whole once more. Where
    `epochs` are asked for instead, every example stands there once.
    """
    if settings.epochs:
        return pl.concat([ift, eft]).sort("prompt_id")
    total = settings.steps * settings.batch_size
    n_ift = round(total * settings.ift_share)
    parts = [_take(ift, n_ift, seed_for(seed, "sft", "ift")), _take(eft, total - n_ift, seed_for(seed, "sft", "eft"))]
    return pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=seed_for(seed, "sft", "mix"))


def _take(rows: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    repeats = -(-count // max(rows.height, 1))
    rounds = [rows.sample(fraction=1.0, shuffle=True, seed=seed + i) for i in range(repeats)]
    return pl.concat([rows.clear(), *rounds]).head(count)


def fit(seed: int, settings: Profile, examples: pl.DataFrame) -> list[dict[str, float]]:
    """Train base on `examples`, on the tokens of their answers alone; save M0, and return the trainer's log."""
    from trl import SFTConfig, SFTTrainer

    from stages import packing
    from stages.training import Job, adapter, arguments, check, load_policy, logged_every, shared, train

    check(settings.training, settings.following)
    base = paths.model("base")
    tokenizer = models.load_tokenizer(base)
    answered = examples.select("prompt_id", prompt="messages", completion=answer(pl.col("reference")))
    kept, left_out = within(answered, tokenizer, ("completion",), settings.sft.max_tokens)
    ids = kept["prompt_id"].to_list()
    job = Job("M0", base, seed32_for(seed, "sft"), settings.training, settings.sft, settings.following, ids, left_out)
    args = SFTConfig(
        max_steps=settings.sft.steps or -1,
        num_train_epochs=settings.sft.epochs,
        packing=settings.sft.packing,
        completion_only_loss=True,
        **arguments(job) | ({"max_length": settings.sft.max_tokens} if settings.sft.packing else {}),
    )
    policy = load_policy(job)
    if settings.sft.packing:
        packing.check(policy, base)
    trainer = SFTTrainer(
        model=policy,
        processing_class=tokenizer,
        peft_config=adapter(settings.training),
        train_dataset=shared(kept.select("prompt", "completion").to_dicts(), args, job),
        args=args,
    )
    passes = settings.sft.epochs * -(-len(trainer.train_dataset) // settings.sft.batch_size)  # packed, they are fewer
    steps = settings.sft.steps or passes
    trainer.args.logging_steps = logged_every(steps)
    return train(trainer, job, "sft", steps)
