"""Stage tune: the next model version = SFT(policy, chosen responses), which is rejection sampling."""

import polars as pl

from stages import models, paths, tables
from stages.drops import funnel
from stages.errors import TsrError
from stages.ids import seed32_for
from stages.lengths import within
from stages.params import Profile
from stages.runtime import prepare_torch


def run(seed: int, settings: Profile, name: str, policy: str) -> None:
    """Write `data/models/<name>` and its training curve."""
    pairs = tables.read("pairs", paths.pairs(name))
    if not pairs.height:
        dropped = tables.read("dropped", paths.dropped(name))
        raise TsrError(f"{paths.pairs(name)}: no pairs left to train {name} on{funnel(dropped)}")
    prepare_torch()
    log = fit(seed, settings, name, policy, pairs)
    from stages.training import write_curve

    write_curve(log, {"loss": "loss", "grad_norm": "grad_norm"}, paths.training_csv(name))


def fit(seed: int, settings: Profile, name: str, policy: str, pairs: pl.DataFrame) -> list[dict[str, float]]:
    """Train a copy of `policy` on the tokens of the chosen responses, save it as `name`; return the trainer's log.

    The seed comes from the run's seed, the policy's weights and the responses, as in stage dpo.
    """
    from trl import SFTConfig, SFTTrainer

    from stages.training import Job, adapter, arguments, check, load_policy, shared, train

    check(settings.training, settings.following)
    start = paths.model(policy)
    tokenizer = models.load_tokenizer(start)
    ordered, left_out = within(pairs.sort("prompt_id"), tokenizer, ("chosen",), settings.tune.max_tokens)
    ids = ordered["chosen_id"].to_list()
    drawn = seed32_for(seed, "tune", models.model_hash(start), ids)
    job = Job(name, start, drawn, settings.training, settings.tune, settings.following, ids, left_out)
    args = SFTConfig(
        num_train_epochs=settings.tune.epochs, completion_only_loss=True, logging_steps=1, **arguments(job)
    )
    trainer = SFTTrainer(
        model=load_policy(job),
        processing_class=tokenizer,
        peft_config=adapter(settings.training),
        train_dataset=shared(ordered.select("prompt", completion="chosen").to_dicts(), args, job),
        args=args,
    )
    return train(trainer, job, "tune", settings.tune.epochs * -(-ordered.height // settings.tune.batch_size))
