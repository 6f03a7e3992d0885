"""Settings that make a model stage repeatable; called before any heavy library computes."""

import os


def prepare_torch(threads: int | None = None) -> None:
    """Fix the number of threads, forbid downloads and ask torch for deterministic kernels.

    One thread unless OMP_NUM_THREADS says otherwise: models this small lose with two (DESIGN section 8).
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch

    torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory with NaN costs TRL's chunked loss two thirds of a step; no kernel here reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
