"""Checks of the machine: GPUs, memory, disk, and how a training is divided over processes."""

from collections.abc import Iterator

from stages import paths, plan
from stages.doctor.facts import Facts, Gpu
from stages.doctor.finding import Finding, fails, fine, gib, note
from stages.launching import Launch

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
TRAINED = 16  # bytes a parameter in training: weights, gradients and two moments, in float32
_BFLOAT16 = (8, 0)  # compute capability from which a GPU has it, and flash attention
_TEMP = 2**30  # bytes that spilled tables may take at least
_CHECKPOINTS = 3  # two are kept, and one more while it is written


def gpu(facts: Facts) -> Iterator[Finding]:
    """Is there the device that each part asks for?"""
    if set(facts.devices.values()) == {"cpu"}:
        yield fine("GPU", "nothing asks for one")
        return
    for key, device in facts.devices.items():
        if device == "cuda" and not facts.gpus:
            build = "" if facts.torch_has_cuda else "; torch is a build without CUDA"
            told = f"asks for a GPU, and torch finds none{build}"
            yield fails(facts.key(key), told, "a GPU, or another device or profile")
        elif device == "auto" and not facts.gpus:
            yield note(facts.key(key), "is auto, and torch finds no GPU: it computes on the CPU, slowly")
    if facts.gpus:
        first = facts.gpus[0]
        yield fine("GPU", f"{len(facts.gpus)} x {first.name}, {gib(first.total)}, {gib(first.free)} of it free")


def precision(facts: Facts) -> Iterator[Finding]:
    """Can the GPU compute as the profile asks?"""
    training = facts.block.training
    old = next((one for one in facts.gpus if one.capability < _BFLOAT16), None) if _on_gpu(facts) else None
    if old:
        told = f"{old.name} has compute capability {'.'.join(map(str, old.capability))}"
        for key, dtype in _dtypes(facts):
            if dtype == "bfloat16":
                yield fails(facts.key(key), f"bfloat16, but {told}; it begins at 8.0", "float32, or a newer GPU")
    if training.attention == "flash_attention_2":
        if not facts.on_gpu("training.device"):
            yield fails(facts.key("training.attention"), "flash_attention_2 needs a GPU", "sdpa")
        elif old:
            yield fails(facts.key("training.attention"), f"flash_attention_2, but {told}; it begins at 8.0", "sdpa")
        if training.dtype == "float32":
            yield fails(facts.key("training.dtype"), "flash_attention_2 knows no float32", "bfloat16, or sdpa")
    if facts.block.sft.packing and facts.launch and facts.launch.kind == "DEEPSPEED":
        yield note(facts.key("sft.packing"), "under ZeRO-3 packed examples cannot be tried for leaks, and sft refuses")
    if training.adapter == "qlora" and not facts.on_gpu("training.device"):
        yield fails(facts.key("training.adapter"), "qlora needs a GPU", "lora or none on a CPU")


def _on_gpu(facts: Facts) -> bool:
    return any(facts.on_gpu(key) for key in facts.devices if facts.devices[key] != "cpu")


def _dtypes(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "training.dtype", facts.block.training.dtype
    for name, settings in facts.engines.items():
        if hasattr(settings, "dtype"):
            yield f"backends.{name}.dtype", settings.dtype


def gpu_memory(facts: Facts) -> Iterator[Finding]:
    """Do the weights fit, each stage alone? Activations and key-value caches come on top."""
    if not facts.parameters or not _on_gpu(facts):
        return
    least: Gpu = min(facts.gpus, key=lambda one: one.free)
    worst = 0.0
    for key, need in _on_gpu_needs(facts):
        worst = max(worst, need)
        if need > least.free:
            told = f"the weights alone take {gib(need)} on a GPU; {gib(least.free)} of {gib(least.total)} are free"
            yield fails(facts.key(key), f"{told} on {least.name}", "a smaller model or larger GPU")
    if worst <= least.free:
        yield fine("GPU memory", f"weights take up to {gib(worst)} of {gib(least.free)} that are free")


def _on_gpu_needs(facts: Facts) -> Iterator[tuple[str, float]]:
    """Yield key -> bytes that its weights take on one GPU, at least."""
    if facts.on_gpu("training.device"):
        yield "training", trained_bytes(facts)
    for name, settings in facts.engines.items():
        if name == "transformers" and facts.on_gpu("backends.transformers.device"):
            yield "backends.transformers", facts.parameters * BYTES[settings.dtype]
        if name == "vllm" and facts.on_gpu("backends.vllm"):
            held = facts.parameters * BYTES[settings.dtype] / settings.tensor_parallel_size
            yield "backends.vllm", held / settings.gpu_memory_utilization


def trained_bytes(facts: Facts) -> float:
    """Return the bytes that weights, gradients and optimizer take in one process, at least."""
    training = facts.block.training
    if training.adapter == "qlora":
        return facts.parameters / 2
    if training.adapter == "lora":
        return facts.parameters * BYTES[training.dtype]
    parts = facts.launch.processes if facts.launch and facts.launch.divides else 1
    return facts.parameters * TRAINED / parts


def memory(facts: Facts) -> Iterator[Finding]:
    """Do the weights fit into the machine's memory? They pass through it on their way to a GPU too."""
    need = _in_memory(facts)
    if need > facts.memory:
        yield fails("memory", f"the weights alone take {gib(need)}; {gib(facts.memory)} are free", "a smaller model")
    elif need:
        yield fine("memory", f"weights take up to {gib(need)} of {gib(facts.memory)} that are free")
    else:
        yield fine("memory", f"{gib(facts.memory)} are free")


def _in_memory(facts: Facts) -> float:
    training = facts.block.training
    whole = facts.parameters * (4 if training.adapter == "none" else BYTES[training.dtype])
    needs = [float(whole * _copies(facts))]
    if not facts.on_gpu("training.device"):
        needs.append(trained_bytes(facts) * (facts.launch.processes if facts.launch else 1))
    needs += [float(facts.parameters * BYTES[s.dtype]) for s in facts.engines.values() if hasattr(s, "dtype")]
    return max(needs)


def _copies(facts: Facts) -> int:
    """Return how many processes of a training read the whole weights at a time; with FSDP one reads for all."""
    return 1 if facts.launch is None or facts.launch.kind == "FSDP" else facts.launch.processes


def disk(facts: Facts) -> Iterator[Finding]:
    """Is there room for all model versions, for checkpoints and for what is spilled, and may it be written to?"""
    need = needed(facts)
    for name, place in facts.places.items():
        if not place.writable:
            yield fails(str(place.path), "cannot be written to", "a folder that can")
        beside = [other for other in facts.places if facts.places[other].disk == place.disk]
        total = sum(need[other] for other in beside)
        if name == beside[0]:
            where = ", ".join(str(facts.places[other].path) for other in beside)
            unknown = "" if facts.made or facts.parameters else ", weights not counted: their size is not known here"
            told = f"the run takes {gib(total)} at least{unknown}; {gib(place.free)} are free"
            short = total > place.free
            yield fails(where, told, "room, or fewer model versions in `arms`") if short else fine(where, told)


def needed(facts: Facts) -> dict[str, float]:
    """Return place -> bytes that the run writes there, at least: the model versions that are not there yet."""
    each = float(facts.parameters * BYTES[facts.block.training.save_dtype])
    names = ["base", *plan.of(facts.params).models]
    new = each * sum(not _is_there(name, each) for name in names)
    keeps = facts.block.following.checkpoint_every and facts.block.training.adapter == "none"
    return {
        "data": 0.0 if facts.dvc.links else new,
        "cache": new,
        "store": each and _CHECKPOINTS * facts.parameters * 12.0 if keeps else 0.0,
        "temp": float(_TEMP),
    }


def _is_there(name: str, size: float) -> bool:
    """Return whether a model version of about this size is there: one of another profile would make way."""
    held = sum(file.stat().st_size for file in paths.model(name).glob("*.safetensors"))
    return size / 2 <= held <= 2 * size


def launch(facts: Facts) -> Iterator[Finding]:
    """Can a training be divided as `training.launch` asks?"""
    asked, training = facts.launch, facts.block.training
    if asked is None:
        return
    where = facts.key("training.launch")
    if asked.problem:
        yield fails(where, f"{training.launch}: {asked.problem}", "a configuration as in stages/accelerate")
        return
    if _wants_gpus(facts, asked) and asked.processes > max(len(facts.gpus), 1):
        told = f"{training.launch} starts {asked.processes} processes, and there are {len(facts.gpus)} GPUs"
        yield fails(where, told, "num_processes in that file to be the number of GPUs")
    else:
        yield fine(where, f"{training.launch}: {asked.processes} processes, {asked.kind}")
    yield from _batches(facts, asked.processes)


def _wants_gpus(facts: Facts, asked: Launch) -> bool:
    """Return whether each process of a training needs a GPU: with `auto` and none here, plain copies take the CPU."""
    device = facts.block.training.device
    return device == "cuda" or (device == "auto" and (bool(facts.gpus) or asked.divides))


def batches(facts: Facts) -> Iterator[Finding]:
    """Can a batch be gathered from what one process holds at once?"""
    if facts.launch is None:
        yield from _batches(facts, 1)


def _batches(facts: Facts, processes: int) -> Iterator[Finding]:
    block = facts.block
    sizes = {"sft": block.sft.batch_size, "dpo": block.dpo.batch_size}
    if facts.params.arms.rejection_sampling:  # alone learns so
        sizes["tune"] = block.tune.batch_size
    for stage, size in sizes.items():
        at_once = block.training.rows_at_once or -(-size // processes)
        if size % (processes * at_once):
            told = f"{size} is no multiple of training.rows_at_once {at_once} x {processes} processes"
            yield fails(facts.key(f"{stage}.batch_size"), told, "one")
        elif stage == "dpo":
            yield from _replays(facts, size // at_once)


def _replays(facts: Facts, parts: int) -> Iterator[Finding]:
    """Do judging examples divide into the batches that a step is held in?"""
    arms = {f"params.yaml: arms.{name}.replay": arm.replay for name, arm in facts.params.arms.own.items()}
    for where, replay in {facts.key("dpo.replay"): facts.block.dpo.replay, **arms}.items():
        if replay and replay % parts:
            yield fails(where, f"{replay} is no multiple of the {parts} batches that a step is held in", "one, or 0")
