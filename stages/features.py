"""What a policy's own numbers say of its pairs: features, gradients, DPO margins (arXiv 2508.06026, section 2).

Pairs go one by one through the model, without padding, so that no pair's numbers depend on the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = list[dict[str, str]]
Sides = dict[str, "Tokens"]  # `chosen` and `rejected` of a pair


@dataclass(frozen=True)
class Tokens:
    """A conversation as token ids, (1, T), and the position where the response starts."""

    ids: torch.Tensor
    start: int


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Messages, response: Messages) -> Tokens:
    """Return prompt and response through the chat template."""
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template(prompt + response, return_dict=True)["input_ids"]
    return Tokens(torch.tensor([whole]), len(asked))


def response_logprob(model: PreTrainedModel, tokens: Tokens) -> torch.Tensor:
    """Return log p(response | prompt), a scalar, in nats, the end token included."""
    ids = tokens.ids.to(model.device)
    logits = model(input_ids=ids).logits[0, tokens.start - 1 : -1].float()
    logprob: torch.Tensor = logits.log_softmax(-1).gather(1, ids[0, tokens.start :, None]).sum()
    return logprob


def response_feature(model: PreTrainedModel, tokens: Tokens) -> np.ndarray:
    """Return the last-layer hidden state, averaged over the response's tokens, (hidden,)."""
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=tokens.ids.to(model.device)).last_hidden_state[0, tokens.start :]
    feature: np.ndarray = hidden.float().mean(0).double().cpu().numpy()
    return feature


def gradient_distance(model: PreTrainedModel, chosen: Tokens, rejected: Tokens) -> float:
    """Return the norm over all weights of grad log p(chosen) - grad log p(rejected).

    The paper bounds it by C times the distance of the two features: similar responses teach little.
    """
    model.zero_grad(set_to_none=True)
    (response_logprob(model, chosen) - response_logprob(model, rejected)).backward()  # type: ignore[no-untyped-call]
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return float(torch.stack(squares).sum().sqrt())


def cosines(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `chosen` with the same row of `rejected`; 0 where one has no length."""
    lengths = np.linalg.norm(chosen, axis=1) * np.linalg.norm(rejected, axis=1)
    dots = np.einsum("ij,ij->i", chosen, rejected)
    cosine: np.ndarray = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return cosine


def policy_measures(
    policy: PreTrainedModel, pairs: list[Sides], gradient_pairs: int, advance: Callable[[], None]
) -> tuple[dict[str, list[float | None]], list[torch.Tensor]]:
    """Return what the policy says of each pair, column by column, and its log-ratios (`log_ratio`), in their order."""
    features: dict[str, list[np.ndarray]] = {"chosen": [], "rejected": []}
    gradients: list[float | None] = []
    ratios = []
    for number, pair in enumerate(pairs):
        for side, column in features.items():
            column.append(response_feature(policy, pair[side]))
        ratios.append(log_ratio(policy, pair))
        sampled = number < gradient_pairs
        gradients.append(gradient_distance(policy, pair["chosen"], pair["rejected"]) if sampled else None)
        advance()
    chosen, rejected = np.stack(features["chosen"]), np.stack(features["rejected"])
    centre = np.concatenate([chosen, rejected]).mean(0)
    columns = {
        "cosine": cosines(chosen, rejected).tolist(),
        "cosine_centred": cosines(chosen - centre, rejected - centre).tolist(),
        "feature_distance": np.linalg.norm(chosen - rejected, axis=1).tolist(),
        "gradient_distance": gradients,
    }
    return columns, ratios


def log_ratio(model: PreTrainedModel, pair: Sides) -> torch.Tensor:
    """Return log p(chosen) - log p(rejected), a scalar, in nats.

    beta times its growth from the policy to the trained model is DPO's margin (arXiv 2305.18290, eq. 7).
    """
    with torch.no_grad():
        return response_logprob(model, pair["chosen"]) - response_logprob(model, pair["rejected"])
