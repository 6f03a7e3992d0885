"""Files of weights looked at without a model: are they whole, by their headers, and are they numbers."""

import json
import struct
from dataclasses import dataclass
from functools import reduce
from operator import mul
from pathlib import Path

from stages import models
from stages.errors import TsrError

INDEX = "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class Weights:
    """What the files of weights hold: parameters, and bytes on disk."""

    parameters: int
    bytes: int


def weights_of(folder: Path) -> Weights:
    """Return the size of a model by the headers of its files.

    Raises TsrError for a folder without any, and for a file that is missing, cut off or something else.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        others = sorted(f.name for f in folder.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".gguf"})
        beside = f"; it has {others[0]}, which is not read" if others else ""
        raise TsrError(f"{folder}: no *.safetensors in it; expected weights as safetensors{beside}")
    if (folder / INDEX).is_file():
        listed = models.read_json(folder / INDEX).get("weight_map")
        names = set(listed.values()) if isinstance(listed, dict) else set()
        if lost := sorted(names - {file.name for file in files}):
            raise TsrError(f"{folder}: no {lost[0]} in it, which {INDEX} names; {len(lost)} are like that")
    sizes = [_file(file) for file in files]
    return Weights(sum(one.parameters for one in sizes), sum(one.bytes for one in sizes))


def _file(path: Path) -> Weights:
    """Return what a safetensors file holds: 8 bytes with the header's length, a header in JSON, the numbers."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LONGEST_HEADER + 1
        try:
            if length > _LONGEST_HEADER:
                raise ValueError
            header = json.loads(handle.read(length))
            tensors = [one for name, one in header.items() if name != "__metadata__"]
            end = max((one["data_offsets"][1] for one in tensors), default=0)
            count = sum(reduce(mul, one["shape"], 1) for one in tensors)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            told = f"is no safetensors file, or a pointer to one, of {size} bytes"
            raise TsrError(f"{path}: {told}; expected the weights themselves") from error
    if size < 8 + length + end:
        raise TsrError(f"{path}: is cut off: {size} bytes; its header says {8 + length + end}")
    return Weights(count, size)


def check_finite(folder: Path) -> None:
    """Raise TsrError for a weight that is no number or infinite. Reads all files once, a tensor at a time."""
    import torch
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118 (it is no mapping)
                tensor = held.get_tensor(name)
                if tensor.is_floating_point() and tensor.element_size() == 1:
                    tensor = tensor.to(torch.float32)  # torch cannot ask numbers of eight bits
                if not tensor.isfinite().all():
                    count = int((~tensor.isfinite()).sum())
                    told = f"{name} holds {count} of {tensor.numel()} weights that are no numbers (NaN, inf)"
                    raise TsrError(f"{file}: {told}; expected numbers")
