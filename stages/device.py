"""Where training and measuring compute."""

from stages.errors import TsrError
from stages.params import Training


def on_device(settings: Training) -> str:
    """Return `cpu` or `cuda`. Raises TsrError where the settings ask for a GPU that is not there."""
    import torch

    there = torch.cuda.is_available()
    if not there and settings.device == "cuda":
        raise TsrError("params.yaml: training.device: cuda, but torch finds no GPU; expected one, or cpu, or auto")
    return "cuda" if there and settings.device != "cpu" else "cpu"
