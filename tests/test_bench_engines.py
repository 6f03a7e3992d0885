"""The measuring script runs, so that it does not rot; the numbers of a handful of requests say nothing."""

from pathlib import Path

import bench_engines

from stages.backends._chat import Chat


def test_embedded_against_generate(tiny: Path) -> None:
    prompts = bench_engines.prompts_of(["swap abc", "next kitten", "half a"])
    asked = list(bench_engines.answering(bench_engines.embedded(tiny), prompts, bench_engines.ANSWER, 2))
    told = bench_engines.against_generate(tiny, asked, samples=2, repeats=1)
    assert told["requests"] == 6
    assert told["times_the_throughput_of_generate"] > 0
    assert told["best_of_generate"] in told["median_seconds"]


def test_what_is_asked_of_generate_is_the_same(tiny: Path) -> None:
    """Greedy, both must give the same texts, whatever the padding, where neither may draw control tokens."""
    greedy = bench_engines.SamplingParams(0.0, 1.0, 8)
    prompts = bench_engines.prompts_of(["swap abc", "next kitten", "half a"])
    backend = bench_engines.embedded(tiny)
    asked = list(bench_engines.answering(backend, prompts, greedy, 1))
    plain = bench_engines.Plain(tiny)
    plain.model.generation_config.suppress_tokens = Chat(tiny).never(plain.model.config.vocab_size)
    texts = plain.run([request.messages for request in asked], greedy, batch=2)
    ours = {done.request_id: done.text for done in backend.complete(asked)}
    assert texts == [ours[request.request_id] for request in asked]
