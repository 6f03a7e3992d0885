"""The shape of a model, as its configuration gives it, and what follows from it: parameters, cache, adapters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import models
from stages.errors import TsrError
from stages.yamlfile import read_yaml

KNOWN = Path(__file__).parent / "known.yaml"
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama family. `source` says where the figures come from; sizes are in numbers."""

    name: str
    source: str
    family: str
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    tied: bool  # one table for what goes in and what comes out
    attention_bias: bool
    mlp_bias: bool
    positions: int | None = None

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return self.embedding * (1 if self.tied else 2) + self.layers * self.layer + self.hidden

    @property
    def embedding(self) -> int:
        """Return the weights of one table of tokens."""
        return self.vocab * self.hidden

    @property
    def active(self) -> int:
        """Return the weights that a token is multiplied with: all but the table that is only looked up."""
        return self.parameters - (0 if self.tied else self.embedding)

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Return (in, out) of the linear maps of one layer: q, k, v, o, gate, up, down."""
        asked, kept = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = [(self.hidden, asked), (self.hidden, kept), (self.hidden, kept), (asked, self.hidden)]
        return [*attention, *([(self.hidden, self.intermediate)] * 2), (self.intermediate, self.hidden)]

    @property
    def layer(self) -> int:
        """Return the weights of one layer: linear maps, their biases, norms."""
        weights = sum(a * b for a, b in self.linears) + 2 * self.hidden
        *attention, output = [b for _, b in self.linears[:4]]
        if self.attention_bias:
            weights += sum(attention) + (0 if self.family == "qwen2" else output)
        if self.mlp_bias:
            weights += sum(b for _, b in self.linears[4:])
        return weights + (2 * self.head_dim if self.family == "qwen3" else 0)

    def adapters(self, rank: int) -> int:
        """Return the weights of LoRA adapters on all linear maps of all layers (arXiv 2106.09685, 4.1)."""
        return self.layers * rank * sum(a + b for a, b in self.linears)

    def cache_bytes(self, element: int) -> int:
        """Return the bytes of keys and values that one token leaves behind."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element


def of_config(config: dict[str, Any], name: str, source: str) -> Shape:
    """Return the shape that a `config.json` describes. Raises TsrError for another architecture, or a missing key."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise TsrError(f"{source}: model_type {family!r}; a forecast knows {', '.join(FAMILIES)}")
    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    for key in keys:
        if not isinstance(config.get(key), int):
            raise TsrError(f"{source}: {key} is {config.get(key)!r}; expected a whole number")
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    return Shape(
        name=name,
        source=source,
        family=family,
        vocab=config["vocab_size"],
        hidden=hidden,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        intermediate=config["intermediate_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias=family == "qwen2" or bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        positions=config.get("max_position_embeddings"),
    )


def of_file(path: Path) -> Shape:
    """Return the shape of a `config.json`, or of the folder that has one."""
    file = path / "config.json" if path.is_dir() else path
    return of_config(models.read_json(file), path.name if path.is_dir() else path.parent.name, str(file))


def of_hub(model: str) -> Shape:
    """Return the shape of a model of the hub that is known here. Raises TsrError for another one."""
    name = model.partition("@")[0]
    found = read_yaml(KNOWN, str(KNOWN))["models"]
    matches = [known for known in found if known.lower() == name.lower()]
    if not matches:
        raise TsrError(
            f"params.yaml: base_model: {name!r} is no folder, and its shape is not known here; "
            "expected --config FILE, its config.json"
        )
    return of_config(found[matches[0]], name, "published config")


def made(block: Any) -> Shape:
    """Return the shape of the micro world's model, as `stages.tiny_llama` makes it of the block `base`."""
    from stages.tiny_llama import CHARACTERS, WORDS

    config = {
        "model_type": "llama",
        "vocab_size": 6 + len(WORDS) + len(CHARACTERS),
        "hidden_size": block.hidden_size,
        "intermediate_size": 2 * block.hidden_size,
        "num_hidden_layers": block.layers,
        "num_attention_heads": block.heads,
        "max_position_embeddings": block.context,
        "tie_word_embeddings": True,
    }
    return of_config(config, "made", "params.yaml: base")
