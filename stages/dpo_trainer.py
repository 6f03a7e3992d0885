"""TRL's trainer for DPO, with the lengths of what it learns from in its log."""

from typing import Any

from trl import DPOTrainer


class Trainer(DPOTrainer):  # type: ignore[misc]
    """Logs, beside TRL's own, the mean tokens of a step's responses: `lengths/chosen` and `lengths/rejected`."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch, whose first half is chosen responses and whose second half is rejected ones."""
        tokens = inputs["completion_mask"].sum(dim=1).float().chunk(2)
        for side, counts in zip(("chosen", "rejected"), tokens, strict=True):
            self._metrics["train"][f"lengths/{side}"].append(self.accelerator.gather(counts).mean().item())
        return super().compute_loss(model, inputs, *args, **kwargs)
