"""A key-value cache that is told how long it will get, so that a step writes one position and copies none.

The library's own cache is copied whole at each step: a sixth of the time of a model this small.
"""

import copy
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class _Roomy(DynamicLayer):  # type: ignore[misc]
    """A layer with room for the tokens to come; `keys` and `values` are views of its filled part."""

    def __init__(self, layer: DynamicLayer, rows: torch.Tensor, new_tokens: int) -> None:
        super().__init__()
        assert layer.keys is not None
        assert layer.values is not None
        self.dtype, self.device = layer.keys.dtype, layer.keys.device
        self._keys, self._values = (_with_room(part, rows, new_tokens) for part in (layer.keys, layer.values))
        self.is_initialized = True
        self._show(layer.keys.shape[-2])

    def _show(self, length: int) -> None:
        self.keys, self.values = self._keys[:, :, :length], self._values[:, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new positions behind those that are there, and return all."""
        assert self.keys is not None
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self._show(end)
        assert self.values is not None
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows only."""
        assert self.keys is not None
        length = self.keys.shape[-2]
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._show(length)


def _with_room(part: torch.Tensor, rows: torch.Tensor, new_tokens: int) -> torch.Tensor:
    heads, length, size = part.shape[1:]
    roomy = part.new_empty(len(rows), heads, length + new_tokens, size)
    roomy[:, :, :length] = part[rows]
    return roomy


def selected(cache: Any, rows: torch.Tensor, new_tokens: int) -> Any:
    """Return a cache of these rows of `cache` with room for `new_tokens`; kinds of layers without room are copied."""
    if all(type(layer) is DynamicLayer for layer in cache.layers):
        return Cache(layers=[_Roomy(layer, rows, new_tokens) for layer in cache.layers])
    mine = copy.deepcopy(cache)
    mine.batch_select_indices(rows)
    return mine
