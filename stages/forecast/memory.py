"""Peak memory of one GPU by kind of stage, in bytes, for the longest texts that the settings allow.

What is held is counted: weights, gradients, Adam's two moments, activations that the backward pass needs, keys and
values. Fragments that the allocator cannot use, and short-lived buffers within an operation, are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stages.errors import TsrError
from stages.forecast.assumed import Assumed
from stages.forecast.lengths import longest_prompt, rubric_tokens
from stages.forecast.shape import KNOWN, Shape
from stages.params import Profile, Schedule
from stages.yamlfile import read_yaml

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 2**30
# 4 bits, and 8-bit scales of 64 weights whose own scales are shared by 256 (arXiv 2305.14314, section 3).
_NF4 = 0.5 + 0.127 / 8


@dataclass(frozen=True)
class Gpu:
    """A GPU's published figures: memory, peak of bfloat16 with dense matrices, memory bandwidth."""

    name: str
    gib: float
    tflops: float
    gb_s: float
    source: str


def known_gpus() -> dict[str, Gpu]:
    """Return the GPUs whose figures are known, by name, the smallest memory first."""
    found = [Gpu(name, **figures) for name, figures in read_yaml(KNOWN, str(KNOWN))["gpus"].items()]
    return {gpu.name: gpu for gpu in sorted(found, key=lambda gpu: gpu.gib)}


def find_gpu(name: str) -> Gpu:
    """Return a GPU by name. Raises TsrError for one whose figures are not known."""
    known = known_gpus()
    if name not in known:
        raise TsrError(f"--gpu {name}: its figures are not known; there are: {', '.join(known)}")
    return known[name]


@dataclass(frozen=True)
class Launch:
    """How a training is divided: processes, and whether weights lie in parts over them."""

    processes: int = 1
    sharded: bool = False


def launch_of(profile: Profile) -> Launch:
    """Return how `training.launch` divides a training. Raises TsrError for a file that is none of accelerate's."""
    if not profile.training.launch:
        return Launch()
    path = Path(profile.training.launch)
    said = read_yaml(path, f"params.yaml: training.launch: {path}")
    if not isinstance(said, dict) or not isinstance(said.get("num_processes"), int):
        raise TsrError(f"{path}: num_processes: expected a whole number, in a configuration of accelerate")
    in_parts = said.get("distributed_type") == "FSDP" or (said.get("deepspeed_config") or {}).get("zero_stage") == 3
    return Launch(said["num_processes"], in_parts)


@dataclass(frozen=True)
class Peak:
    """What a stage holds on one GPU at its peak, in bytes. `rest` says in words what `other` is.

    `starved`: the share of the GPU that an engine may take has no room for one row.
    """

    stage: str
    gpus: int
    weights: float
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    cache: float = 0.0
    other: float = 0.0
    rest: str = ""
    starved: bool = False

    @property
    def total(self) -> float:
        """Return all of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.cache + self.other


def layer_activations(shape: Shape, stream: int, element: int) -> float:
    """Return the bytes that one token leaves in one layer for the backward pass, attention computed in blocks.

    `stream` is the size of a number in the residual stream and its norms, `element` of one in the linear maps.
    Each norm keeps what it got and what it scaled; each linear map its input, once for those that share it; attention
    q, k, v, its result and a sum a head; the MLP gate, up, the gate's activation and the product. Derived from
    transformers' code, equal to what torch saves (tests/test_forecast_models.py). In the manner of arXiv 2205.05198.
    """
    asked, kept = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = 2 * (2 * stream + element) * shape.hidden + 2 * 4
    attention = (2 * asked + 2 * kept) * element + 4 * shape.heads
    if shape.family == "qwen3":  # q and k have norms of their own
        attention += 2 * (asked + kept) * stream + 4 * (shape.heads + shape.kv_heads)
    return norms + attention + 4 * shape.intermediate * element


def activations(shape: Shape, tokens: float, stream: int, element: int, *, checkpointing: bool) -> float:
    """Return the bytes that `tokens` leave for the backward pass; with checkpointing each layer's input, and one layer.

    The logits are not among them: TRL computes them in tiles, and again in the backward pass.
    """
    whole = layer_activations(shape, stream, element)
    kept = shape.layers * shape.hidden * stream + whole if checkpointing else shape.layers * whole
    return tokens * kept


def longest(profile: Profile, shape: Shape, schedule: Schedule) -> int:
    """Return the tokens of the longest example: `max_tokens`, else the longest prompt and response; or the context."""
    limit: int = schedule.max_tokens or longest_prompt(profile) + profile.generate.max_new_tokens
    return min(limit, shape.positions or limit)


def training(stage: str, shape: Shape, profile: Profile, schedule: Schedule, launch: Launch, sides: int) -> Peak:
    """Return the peak of `sft` (one side an example) or `dpo` (two sides a pair; the reference is not held)."""
    settings = profile.training
    element = BYTES[settings.dtype]
    trained = shape.parameters if settings.adapter == "none" else shape.adapters(settings.lora_rank)
    parts = launch.processes if launch.sharded else 1
    weights, other, rest = 4.0 * shape.parameters, 0.0, ""
    if settings.adapter == "qlora":
        linear = shape.layers * sum(a * b for a, b in shape.linears)
        weights = linear * _NF4 + (shape.parameters - linear) * element + 4 * trained
    elif settings.adapter == "lora":
        weights = element * shape.parameters + 4.0 * trained
    elif element != 4 and parts == 1:
        other, rest = float(element * shape.parameters), f"weights in {settings.dtype}"
    if parts > 1:  # of two layers and the tables, gathered for use
        tables = shape.embedding * (1 if shape.tied else 2)
        other, rest = float(element * (2 * shape.layer + 2 * tables)), "gathered layers and tables"
    elif launch.processes > 1:
        other, rest = other + 4.0 * trained, "gradients to be sent"
    at_once = settings.rows_at_once or -(-schedule.batch_size // launch.processes)
    tokens = at_once * sides * longest(profile, shape, schedule)
    held = activations(shape, tokens, 4, element, checkpointing=settings.gradient_checkpointing)
    gradients, moments = 4.0 * trained / parts, 8.0 * trained / parts
    return Peak(stage, launch.processes, weights / parts, gradients, moments, held, 0.0, other, rest)


def rows_side_by_side(shape: Shape, settings: Any, gpu: Gpu, held: float) -> int:
    """Return how many rows of `held` tokens an engine works on at a time."""
    if hasattr(settings, "tile_rows"):
        return int(settings.tile_rows)
    room = _cache_room(shape, settings, gpu)
    fit = int(room / (held * shape.cache_bytes(BYTES[settings.dtype]) / settings.tensor_parallel_size))
    return max(1, min(int(settings.max_num_seqs), fit))


def _cache_room(shape: Shape, settings: Any, gpu: Gpu) -> float:
    if settings.kv_cache_gib:
        return float(settings.kv_cache_gib * GIB)
    weights = shape.parameters * BYTES[settings.dtype] / settings.tensor_parallel_size
    return float(settings.gpu_memory_utilization * gpu.gib * GIB - weights)


def engine(stage: str, shape: Shape, profile: Profile, role: str, gpu: Gpu | None, assumed: Assumed) -> Peak | None:
    """Return the peak of asking an engine, or None for one that runs elsewhere.

    vLLM takes its share of the GPU whatever it needs: what its weights leave is cache. It does not start where a row
    of all its positions would not fit there.
    """
    asking = getattr(profile, role)
    if asking.backend == "openai":
        return None
    settings: Any = profile.backends[profile.engine_name(asking.backend)]
    element = BYTES[settings.dtype]
    held = min(_longest_row(profile, role, assumed), shape.positions or 10**9)
    if hasattr(settings, "tile_rows"):
        cache = settings.tile_rows * held * shape.cache_bytes(element)
        logits = settings.tile_rows * shape.vocab * (element + 4)
        return Peak(stage, 1, shape.parameters * element, 0.0, 0.0, 0.0, cache, logits, "logits of a step")
    size = settings.tensor_parallel_size
    weights = shape.parameters * element / size
    if gpu is None:
        return Peak(stage, size, weights, cache=settings.kv_cache_gib * GIB)
    one_row = (settings.max_model_len or shape.positions or held) * shape.cache_bytes(element) / size
    room = _cache_room(shape, settings, gpu)
    return Peak(stage, size, weights, cache=max(room, one_row), starved=room < one_row)


def _longest_row(profile: Profile, role: str, assumed: Assumed) -> int:
    """Return the tokens of the longest row of `generate` or `judge`, what is read and what is written."""
    answered = longest_prompt(profile) + profile.generate.max_new_tokens
    if role == "generate":
        return answered
    reply = 1 if profile.judge.way == "one_token" else profile.judge.max_new_tokens
    return answered + round(rubric_tokens(profile, assumed)) + reply


def measuring(shape: Shape, profile: Profile) -> Peak:
    """Return the peak of `measure`: one conversation through one model; both sides of a pair where gradients are."""
    element = BYTES[profile.training.dtype]
    tokens = longest(profile, shape, profile.dpo)
    weights = float(shape.parameters * element)
    logits = tokens * shape.vocab * (element + 2 * 4)  # as they come, in float32, and their logarithms
    if not profile.measure.gradient_pairs:
        return Peak("measure", 1, weights, other=logits, rest="logits of one response")
    held = 2 * activations(shape, tokens, 4, element, checkpointing=False)
    return Peak("measure", 1, weights, weights, 0.0, held, 0.0, 2 * logits, "logits of a pair")


def peaks(
    shape: Shape,
    profile: Profile,
    launch: Launch,
    gpu: Gpu | None,
    assumed: Assumed,
    judges: Mapping[str, Shape] = MappingProxyType({}),
) -> list[Peak]:
    """Return the peak of every kind of stage that runs a model here, what each GPU's driver takes included.

    `judges` are those that the run does not make, by name, with shapes of their own.
    """
    found = [
        training("sft", shape, profile, profile.sft, launch, 1),
        engine("generate", shape, profile, "generate", gpu, assumed),
        engine("judge", shape, profile, "judge", gpu, assumed),
        *(engine(f"judge {name}", of_it, profile, "judge", gpu, assumed) for name, of_it in judges.items()),
        training("dpo", shape, profile, profile.dpo, launch, 2),
        measuring(shape, profile),
    ]
    driver = assumed["overhead_gib"] * GIB if gpu else 0.0
    return [replace(peak, other=peak.other + driver) for peak in found if peak]
