"""Settings that make a model stage repeatable; called before any heavy library computes."""

import os
import warnings


def prepare_torch() -> None:
    """Take one thread, forbid downloads and ask torch for deterministic kernels.

    One thread whatever the environment says: with two, a row's log-probabilities depend on the rows beside
    it in the last bits, and models this small only lose by a second.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # TRL 1.16 still uses the older name of a transformers option; its users can do nothing about it.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else no matrix product on a GPU is deterministic
    import torch

    torch.set_num_threads(1)
    # The same switch as use_deterministic_algorithms, 1 s less import. On a GPU some kernels have no such version.
    torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")
    # Filling fresh memory with NaN costs TRL's chunked loss two thirds of a step; no kernel here reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
