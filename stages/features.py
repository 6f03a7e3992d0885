"""What a policy's own numbers say of its pairs: features, gradients, DPO margins (arXiv 2508.06026, section 2).

Pairs go one by one through the model, without padding, so that no pair's numbers depend on the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = list[dict[str, str]]


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
    logits = model(input_ids=tokens.ids).logits[0, tokens.start - 1 : -1]
    logprob: torch.Tensor = logits.log_softmax(-1).gather(1, tokens.ids[0, tokens.start :, None]).sum()
    return logprob


def response_feature(model: PreTrainedModel, tokens: Tokens) -> np.ndarray:
    """Return the last-layer hidden state, averaged over the response's tokens, (hidden,)."""
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=tokens.ids).last_hidden_state[0, tokens.start :]
    feature: np.ndarray = hidden.mean(0).double().numpy()
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


def margin(beta: float, policy: PreTrainedModel, trained: PreTrainedModel, chosen: Tokens, rejected: Tokens) -> float:
    """Return beta * (log-ratio of chosen - log-ratio of rejected), trained against policy (DPO, eq. 7)."""
    with torch.no_grad():
        ratios = [response_logprob(trained, t) - response_logprob(policy, t) for t in (chosen, rejected)]
    return beta * float(ratios[0] - ratios[1])


def cosines(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `chosen` with the same row of `rejected`; 0 where one has no length."""
    lengths = np.linalg.norm(chosen, axis=1) * np.linalg.norm(rejected, axis=1)
    dots = np.einsum("ij,ij->i", chosen, rejected)
    cosine: np.ndarray = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return cosine


def pair_features(
    policy: PreTrainedModel,
    trained: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[dict[str, Any]],
    beta: float,
    gradient_pairs: int,
    advance: Callable[[], None],
) -> dict[str, list[float | None]]:
    """Return the model's measures of each pair, column by column, in the order of `pairs`."""
    features: dict[str, list[np.ndarray]] = {"chosen": [], "rejected": []}
    margins: list[float | None] = []
    gradients: list[float | None] = []
    for number, pair in enumerate(pairs):
        tokens = {side: encode(tokenizer, pair["prompt"], pair[side]) for side in features}
        for side, column in features.items():
            column.append(response_feature(policy, tokens[side]))
        margins.append(margin(beta, policy, trained, tokens["chosen"], tokens["rejected"]))
        sampled = number < gradient_pairs
        gradients.append(gradient_distance(policy, tokens["chosen"], tokens["rejected"]) if sampled else None)
        advance()
    chosen, rejected = np.stack(features["chosen"]), np.stack(features["rejected"])
    centre = np.concatenate([chosen, rejected]).mean(0)
    return {
        "cosine": cosines(chosen, rejected).tolist(),
        "cosine_centred": cosines(chosen - centre, rejected - centre).tolist(),
        "feature_distance": np.linalg.norm(chosen - rejected, axis=1).tolist(),
        "gradient_distance": gradients,
        "margin": margins,
    }
