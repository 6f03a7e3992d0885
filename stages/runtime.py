"""Settings that make a model stage repeatable; called before any heavy library computes."""

import os
import warnings


def prepare_torch(threads: int | None = None) -> None:
    """Fix the number of threads, forbid downloads and ask torch for deterministic kernels.

    One thread unless OMP_NUM_THREADS says otherwise: models this small lose with two (DESIGN section 8).
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # TRL 1.16 still uses the older name of a transformers option; its users can do nothing about it.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    import torch

    torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_deterministic_debug_mode("error")  # the same switch as use_deterministic_algorithms, 1 s less import
    # Filling fresh memory with NaN costs TRL's chunked loss two thirds of a step; no kernel here reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
