"""Where a model computes."""

from stages.errors import TsrError


def found(device: str) -> str:
    """Return `cpu` or `cuda` for cpu, cuda or auto. Raises TsrError for a GPU that is not there."""
    if device == "cpu":
        return device
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise TsrError("params.yaml: device: cuda, but torch finds no GPU; expected one, or cpu, or auto")
    return "cuda" if there else "cpu"
