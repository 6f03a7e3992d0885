"""TRL's trainer for DPO, with the lengths of what it learns from in its log, and judging examples beside its pairs."""

from typing import Any

from trl import DPOTrainer

from stages.replay import Replay


class Trainer(DPOTrainer):  # type: ignore[misc]
    """Logs, beside TRL's own, the mean tokens of a step's responses: `lengths/chosen` and `lengths/rejected`.

    With `replay`, the loss of a step is that of DPO plus that of SFT on its judging examples; `replay/loss` is the
    latter, `replay/tokens` are theirs in the whole step.
    """

    replay: Replay | None = None

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch, whose first half is chosen responses and whose second half is rejected ones."""
        tokens = inputs["completion_mask"].sum(dim=1).float().chunk(2)
        for side, counts in zip(("chosen", "rejected"), tokens, strict=True):
            self._metrics["train"][f"lengths/{side}"].append(self.accelerator.gather(counts).mean().item())
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        return loss if self.replay is None else loss + self._replayed(model, self.replay)

    def _replayed(self, model: Any, replay: Replay) -> Any:
        """Return this part of the mean loss a token of the step's judging examples.

        The trainer takes the mean over a step's parts and over processes; so the parts are weighed by their tokens.
        """
        step, times = self.state.global_step, self.current_gradient_accumulation_steps
        batch = replay.batch(step, self.accelerator.process_index, times)
        loss = model(**{name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}).loss
        loss = loss * replay.weight(step, batch, times)
        logged = self._metrics["train"]
        logged["replay/loss"].append(self.accelerator.gather(loss.detach()).mean().item())
        logged["replay/tokens"].append(replay.tokens(step))
        return loss
