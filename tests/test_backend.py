"""The embedded backend: what a row gets depends on the row alone."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MakeModel
from rows import GENERATE, embedded, prompts, sampled, work

from stages import models
from stages.backends import Completion, Request, SamplingParams
from stages.backends.transformers import _uniforms, pick
from stages.errors import TsrError
from stages.generate import generate
from stages.ids import seed_for
from stages.tiny_llama import build_model, build_tokenizer

WARM = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=8)
WORDS = ["abc", "kitten", "zzzzzz", "longerword", "q"]


def asked(count: int = 21, how: SamplingParams = WARM) -> list[Request]:
    """Requests of several prompt lengths, several of each."""
    messages = [[{"role": "user", "content": f"next {word}"}] for word in WORDS]
    return [Request(f"r{i:02}", messages[i % len(WORDS)], seed_for(1, i), how) for i in range(count)]


def completed(folder: Path, requests: Sequence[Request], tile: int = 8) -> dict[str, Completion]:
    """Completions by request id; equality of two is bit for bit, log-probabilities too."""
    return {c.request_id: c for c in embedded(folder, tile).complete(requests)}


def test_a_row_does_not_depend_on_order_or_company(tiny: Path) -> None:
    whole = completed(tiny, asked())
    assert len(whole) == 21
    assert len({c.text for c in whole.values()}) > 15
    shuffled = asked()
    random.Random(3).shuffle(shuffled)
    assert completed(tiny, shuffled) == whole
    alone = asked()[4]
    assert completed(tiny, [alone]) == {alone.request_id: whole[alone.request_id]}
    some = asked()[3:17:2]
    assert completed(tiny, some) == {r.request_id: whole[r.request_id] for r in some}
    assert completed(tiny, asked(40)).items() >= whole.items()


def test_a_row_does_not_depend_on_the_tile(tiny: Path) -> None:
    whole = completed(tiny, asked(40))
    for tile in (16, 32, 128, 256):
        assert completed(tiny, asked(40), tile) == whole


def test_nor_does_it_in_a_wider_and_deeper_model(tmp_path: Path) -> None:
    """Kernels that give a row other bits beside other rows would be found here."""
    tokenizer = build_tokenizer()
    shape = {"hidden_size": 320, "layers": 4, "heads": 5, "context": 128}
    models.save(build_model(tokenizer, 1, **shape, init_std=0.1), tokenizer, tmp_path / "wide")
    whole = completed(tmp_path / "wide", asked(120))
    for tile in (16, 24, 64, 128):
        assert completed(tmp_path / "wide", asked(120), tile) == whole
    assert completed(tmp_path / "wide", asked(3)).items() <= whole.items()


def test_rows_that_end_early_leave_and_change_no_other(make_model: MakeModel) -> None:
    """Half of the rows gone, the tile shrinks: the others must go on as if alone."""
    folder = make_model(seed=3)
    long = replace(WARM, max_new_tokens=60)
    whole = completed(folder, asked(64, long), 64)
    assert len({c.response_tokens for c in whole.values()}) > 8
    alone = [completed(folder, [request])[request.request_id] for request in asked(64, long)[::7]]
    assert {c.request_id: c for c in alone}.items() <= whole.items()


def test_a_completion_is_what_the_model_says_without_cache_and_padding(tiny: Path) -> None:
    model, tokenizer = models.load_model(tiny), models.load_tokenizer(tiny)
    greedy = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=8)
    allowed = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids or i == tokenizer.eos_token_id]
    for request in asked(5, greedy):
        done = completed(tiny, [request])[request.request_id]
        ids = tokenizer.apply_chat_template(request.messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        prompt, total = len(ids), 0.0
        while len(ids) - prompt < 8 and ids[-1] != tokenizer.eos_token_id:
            with torch.inference_mode():
                logprobs = model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
            ids.append(max(allowed, key=lambda i: float(logprobs[i])))
            total += float(logprobs[ids[-1]])
        ended = ids[-1] == tokenizer.eos_token_id
        assert done.text == tokenizer.decode(ids[prompt:-1] if ended else ids[prompt:])
        assert done.finish_reason == ("stop" if ended else "length")
        assert (done.prompt_tokens, done.response_tokens) == (prompt, len(ids) - prompt)
        assert done.logprob_sum == pytest.approx(total, abs=1e-4)


def test_the_seed_decides_at_a_temperature_and_not_at_0(tiny: Path) -> None:
    one = asked()[0]
    others = [Request(f"s{seed}", one.messages, seed, WARM) for seed in range(8)]
    assert len({c.text for c in completed(tiny, others).values()}) > 4
    cold = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=8)
    cool = [replace(other, sampling=cold) for other in others]
    assert len({c.text for c in completed(tiny, cool).values()}) == 1


def test_temperature_0_is_argmax() -> None:
    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(pick(logits, torch.rand(50).double(), 0, 1.0), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_with_their_probabilities(temperature: float) -> None:
    probs = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    draws = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    tokens = pick(probs.log().expand(10_000, 4), draws, temperature, 1.0)
    wanted = (probs ** (1 / temperature)) / (probs ** (1 / temperature)).sum()
    assert torch.allclose(torch.bincount(tokens, minlength=4) / 10_000, wanted.float(), atol=2e-4)


@pytest.mark.parametrize(
    ("top_p", "nucleus"), [(0.3, {1}), (0.39, {1}), (0.41, {1, 3}), (0.75, {1, 3, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_token_that_crosses_it_and_no_more(top_p: float, nucleus: set[int]) -> None:
    probs = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    draws = torch.cat([torch.tensor([0.0, 1 - 2**-53]).double(), (torch.arange(1000).double() + 0.5) / 1000])
    tokens = pick(probs.log().expand(len(draws), 4), draws, 1.0, top_p)
    assert set(tokens.tolist()) == nucleus
    kept = probs * torch.tensor([i in nucleus for i in range(4)])
    assert torch.allclose(torch.bincount(tokens, minlength=4) / len(draws), (kept / kept.sum()).float(), atol=5e-3)


def test_more_samples_and_more_prompts_keep_those_there_are(tiny: Path) -> None:
    small = sampled(tiny, ["abc", "kitten"])
    assert len(small) == 6
    assert sampled(tiny, ["abc", "kitten"], samples=7).items() >= small.items()
    assert sampled(tiny, ["q", "kitten", "zzz", "abc"]).items() >= small.items()


def test_equal_weights_under_another_name_are_the_same_model(tiny: Path, make_model: MakeModel) -> None:
    assert models.model_hash(make_model(name="copy")) == models.model_hash(tiny)


def test_the_template_and_the_tokenizer_are_part_of_the_hash(make_model: MakeModel) -> None:
    folder = make_model()
    before = models.model_hash(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert models.model_hash(folder) != before


def test_sampling_parameters_are_part_of_the_id(tiny: Path) -> None:
    how = GENERATE.model_copy(update={"samples": 1})
    changes = [{}, {"temperature": 0.7}, {"top_p": 0.9}, {"max_new_tokens": 5}]
    ids = [
        generate(7, how.model_copy(update=change), "M0", prompts(["abc"]), embedded(tiny), work())["generation_id"][0]
        for change in changes
    ]
    assert len(set(ids)) == 4


def test_a_prompt_beyond_the_context_is_a_failed_request(make_model: MakeModel) -> None:
    backend = embedded(make_model(context=16))
    short, long = ([{"role": "user", "content": text}] for text in ("next a", "next kittens"))
    done = {
        c.request_id: c for c in backend.complete([Request("long", long, 1, WARM), Request("short", short, 1, WARM)])
    }
    assert done["short"].status == "ok"
    assert done["long"] == Completion(
        *("long", "", "error", 0, 0, None, None, "too_long"),
        "12 prompt tokens and 8 new ones do not fit into the context of 16",
    )


def test_a_prompt_that_the_template_refuses_is_a_failed_request(make_model: MakeModel) -> None:
    folder = make_model(name="strict")
    template = folder / "chat_template.jinja"
    refusal = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('begin with the user') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    odd = [{"role": "system", "content": "next a"}, {"role": "user", "content": "next a"}]
    asked = [Request("odd", odd, 1, WARM), Request("even", odd[1:], 1, WARM)]
    done = {c.request_id: c for c in embedded(folder).complete(asked)}
    assert done["even"].status == "ok"
    assert (done["odd"].status, done["odd"].error) == ("refused", "the chat template refuses it: begin with the user")


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TsrError, match=r"no .* in it"):
        embedded(tmp_path)
    with pytest.raises(TsrError, match="no such model folder"):
        models.load_tokenizer(tmp_path / "none")


def test_draws_come_from_the_seed_alone() -> None:
    assert np.array_equal(_uniforms(5, 8)[:4], _uniforms(5, 4))
    assert not np.array_equal(_uniforms(5, 4), _uniforms(6, 4))
    assert _uniforms(2**63 - 1, 1000).max() < 1


def test_a_response_never_holds_a_control_token(tiny: Path) -> None:
    tokenizer = models.load_tokenizer(tiny)
    hot = SamplingParams(temperature=5.0, top_p=1.0, max_new_tokens=12)
    texts = [done.text for done in completed(tiny, asked(60, hot)).values()]
    assert not [text for text in texts for token in tokenizer.all_special_tokens if token in text]
