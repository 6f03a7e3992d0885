"""Stage dpo: the next model version = DPO(policy, pairs), with the policy itself as reference."""

from pathlib import Path

import polars as pl

from stages import models, paths, tables
from stages.drops import funnel
from stages.errors import TsrError
from stages.ids import seed32_for
from stages.lengths import within
from stages.params import Profile
from stages.runtime import prepare_torch

CURVE = {
    "loss": "loss",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
    "grad_norm": "grad_norm",
}
REPLAY_CURVE = {"replay/loss": "replay_loss", "replay/tokens": "replay_tokens"}


def run(seed: int, settings: Profile, name: str, policy: str, steps: int = 0, replay: int | None = None) -> None:
    """Write `data/models/<name>` and its training curve; `steps` above 0 stops after so many, for a trial.

    `replay` judging examples a step stand beside the pairs; None takes what the settings say.
    """
    pairs = tables.read("pairs", paths.pairs(name))
    if not pairs.height:
        dropped = tables.read("dropped", paths.dropped(name))
        raise TsrError(f"{paths.pairs(name)}: no pairs left to train {name} on{funnel(dropped)}")
    prepare_torch()
    log = fit(seed, settings, name, paths.model(policy), pairs, steps, replay)
    from stages.training import write_curve

    write_curve(log, CURVE | (REPLAY_CURVE if REPLAY_CURVE.keys() <= log[0].keys() else {}), paths.training_csv(name))


def fit(
    seed: int,
    settings: Profile,
    name: str,
    policy: Path,
    pairs: pl.DataFrame,
    steps: int = 0,
    replay: int | None = None,
) -> list[dict[str, float]]:
    """Train a copy of `policy` on `pairs`, save it as `name`, and return the trainer's log.

    The seed comes from the run's seed, the policy's weights and the pairs, so equal work gives equal weights. The
    reference is the policy before its first step: its log-probabilities are computed once, and no second model is kept.
    """
    from trl import DPOConfig

    from stages import replay as judging
    from stages.dpo_trainer import Trainer
    from stages.training import Job, adapter, arguments, check, load_policy, reference, shared, train

    check(settings.training, settings.following)
    tokenizer = models.load_tokenizer(policy)
    schedule = settings.dpo if replay is None else settings.dpo.model_copy(update={"replay": replay})
    ordered, left_out = within(pairs.sort("prompt_id"), tokenizer, ("chosen", "rejected"), schedule.max_tokens)
    ids = ordered.select("chosen_id", "rejected_id").rows()
    drawn = seed32_for(seed, "dpo", models.model_hash(policy), ids)
    job = Job(name, policy, drawn, settings.training, schedule, settings.following, ids, left_out)
    args = DPOConfig(
        beta=schedule.beta,
        precompute_ref_log_probs=True,
        num_train_epochs=schedule.epochs,
        max_steps=steps or -1,
        logging_steps=1,
        **arguments(job),
    )
    trainer = Trainer(
        model=load_policy(job),
        ref_model=reference(job, args),
        processing_class=tokenizer,
        peft_config=adapter(settings.training),
        train_dataset=shared(ordered.select("prompt", "chosen", "rejected").to_dicts(), args, job),
        args=args,
    )
    trainer.ref_model = None  # its log-probabilities are all that is needed from here
    total = steps or schedule.epochs * -(-ordered.height // schedule.batch_size)
    if not schedule.replay:
        return train(trainer, job, "dpo", total)
    trainer.replay = judging.of(job, tokenizer, total)
    return train(trainer, job, "dpo", total, {"replay_left_out": trainer.replay.left_out})
