"""Both ways of judging, from the prompt to the score, on tiny random models: the micro world's and chat models."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from conftest import MakeModel
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import JUDGE, embedded, generations, judgments, parse, prompts, work

from stages import models, tables
from stages.asking import load_ask, rubric_hash
from stages.errors import TsrError
from stages.ids import seed_for
from stages.judge import judge_all
from stages.params import Judge
from stages.parsing import Reading, read_votes, score
from stages.rubrics.additive.ask import judge_prompt, one_token_prompt
from stages.score import check_votes
from stages.tiny_llama import WORDS

KEPT: dict[Any, pl.DataFrame] = {}
SCORES = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% if not (loop.last and continue_final_message) %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Digits and white space are single tokens in both; `Score:` is one token in the first, two in the second.
KINDS: dict[str, tuple[str, str, str, list[str]]] = {
    "qwen3": (r"\p{L}+:?|\p{N}|\s|[^\p{L}\p{N}\s]+", CHATML, "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
    "llama": (
        *(r"\p{L}+|\p{N}|\s|[^\p{L}\p{N}\s]+", LLAMA_3, "<|eot_id|>"),
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"],
    ),
}
# What a chat model likes to say, and after which of its tokens it likes which others: it says `Score: 3` now and then.
SAID = {
    "qwen3": {"Score:": 12.5, ":": 9.0, "END": 10.0},
    "llama": {"Score": 12.5, ":": 10.0, "END": 10.0},
}
ALSO = {" ": 12.0, "\n": 10.0, "very": 11.5} | {str(score): 11.0 + 0.3 * score for score in range(6)}
NEXT = [(["Score"], [":"]), (["Score:", ":"], [*"012345", " "]), ([*"012345"], ["END"])]


def chat_tokenizer(kind: str) -> Any:
    """A byte-level BPE trained on what the judge is asked."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as cores
    from transformers import PreTrainedTokenizerFast

    pattern, template, end, others = KINDS[kind]
    core = Tokenizer(cores.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    asked = [asking([], "")[0]["content"] for asking in (judge_prompt, one_token_prompt)]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[end, *others],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*asked, "Score: 3\nvery very good\n" * 20], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=end,
        pad_token=end,
        bos_token=others[0],
        additional_special_tokens=others,
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def chat_model(kind: str, folder: Path, liked: dict[str, float]) -> Path:
    """A random model that has a liking for some tokens: their logits are raised by about so much."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    config, model = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}[kind]
    tokenizer = chat_tokenizer(kind)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    torch.manual_seed(5)
    made = model(
        config(vocab_size=len(tokenizer), **shape, **heads, **ids, initializer_range=0.15, tie_word_embeddings=False)
    )
    known = {text: tokenizer.encode(tokenizer.eos_token if text == "END" else text) for text in liked}
    assert [text for text, token in known.items() if len(token) != 1] == []
    before, after = made.model.embed_tokens.weight, made.lm_head.weight
    with torch.no_grad():
        after *= 8.0
        after[[token for (token,) in known.values()]] *= 0.25
        for layer in made.model.layers:  # the first features are what the last token alone makes of them
            layer.self_attn.o_proj.weight[:4] = layer.mlp.down_proj.weight[:4] = 0.0
        before[:, :4] = after[:, :4] = 0.0
        before[:, 0] = 20.0  # the same in every token, so its output weights are a bias
        for text, by in liked.items():
            after[known[text][0], 0] = by / 4
        for feature, (firsts, seconds) in enumerate(NEXT if liked else [], start=1):
            before[[known[text][0] for text in firsts if text in known], feature] = 20.0
            after[[known[text][0] for text in seconds], feature] = 1.5
    models.save(made, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a chat model by kind, made once; `KIND-flat` has no liking for any token."""
    root = tmp_path_factory.mktemp("chat")

    @cache
    def folder(name: str) -> Path:
        kind, _, flat = name.partition("-")
        return chat_model(kind, root / name, {} if flat else SAID[kind] | ALSO)

    return folder


@dataclass(frozen=True)
class World:
    """A judge and what it judges."""

    folder: Path
    rubric: str
    prompts: pl.DataFrame
    generations: pl.DataFrame

    def settings(self, way: str, **changes: Any) -> Judge:
        plain = JUDGE.model_dump() | {"rubric": self.rubric, "way": way, "distribution": True, "max_new_tokens": 12}
        return Judge(**plain | changes)

    def judged(self, settings: Judge, share: float = 0.0) -> pl.DataFrame:
        """Judgments, checked against the contract; made once for all tests that ask for the same."""
        key = str(self.folder), settings.model_dump_json(), tuple(self.generations["finish_reason"])
        if key not in KEPT:
            backend = embedded(self.folder)
            made = judge_all(7, settings, "J", self.prompts, self.generations, backend, work(share))
            KEPT[key] = tables.validate("judgments", made, "here").sort("generation_id", "vote_id")
        return KEPT[key]

    def scored(self, judgments: pl.DataFrame, least_mass: float = 0.5) -> pl.DataFrame:
        reading = Reading(self.rubric, least_mass)
        made = score(reading, "J", self.generations, judgments)
        return tables.validate("scores", made, "here").sort("generation_id")

    def plain(self) -> "Plain":
        return Plain(self)


class Plain:
    """The same model as a plain forward pass over one whole text, without cache and company."""

    def __init__(self, world: World) -> None:
        self.model, self.tokenizer = models.load_model(world.folder), models.load_tokenizer(world.folder)
        self.ask = load_ask(world.rubric)
        asked = world.generations.join(world.prompts.select("prompt_id", "messages"), on="prompt_id")
        self.asked = {g: (m, r) for g, m, r in asked.select("generation_id", "messages", "response").iter_rows()}

    def digits(self, way: str, gid: str, said: str = "") -> list[float]:
        """Log-probabilities of the scores after what was asked and `said`."""
        messages = (self.ask.one_token_prompt if way == "one_token" else self.ask.judge_prompt)(*self.asked[gid])
        open_end = messages[-1]["role"] == "assistant"
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=not open_end, continue_final_message=open_end
        )
        ids = self.tokenizer.encode(text, add_special_tokens=False) + self.tokens(said)
        with torch.inference_mode():
            after = self.model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        tokens = [self.tokenizer.encode(score, add_special_tokens=False) for score in self.ask.SCORES]
        return [float(after[token]) for (token,) in tokens]

    def tokens(self, said: str) -> list[int]:
        """The tokens of a reply; no model spells a word in letters by chance."""
        if self.ask.SCORE_AFTER == "=":  # the micro world's tokenizer sees no word in `nextnext`, which its model says
            return self.tokenizer.convert_tokens_to_ids(re.findall("|".join([*WORDS, "."]), said))
        return self.tokenizer.encode(said, add_special_tokens=False)


PROMPTS = ["next kitten", "double pqr"]
RESPONSES = ["ljuufo", "bcd", "", "Score: 5 <|im_end|>"]


def world(folder: Path, rubric: str, responses: list[str]) -> World:
    made = [
        generations([f"g{p}{r}"], prompt_id=prompt, response=response)
        for p, prompt in enumerate(PROMPTS)
        for r, response in enumerate(responses)
    ]
    return World(folder, rubric, prompts(PROMPTS), pl.concat(made))


@pytest.fixture(params=["micro", "qwen3", "llama"])
def judge(request: pytest.FixtureRequest, tiny: Path, chat: Callable[[str], Path]) -> World:
    """Three judges, each with its rubric."""
    if request.param == "micro":
        return world(tiny, "micro", ["ljuufo", "bcd", "", "zz"])
    return world(chat(request.param), "additive", RESPONSES)


@pytest.fixture(params=["qwen3", "llama"])
def chatty(request: pytest.FixtureRequest, chat: Callable[[str], Path]) -> World:
    """The two chat models."""
    return world(chat(request.param), "additive", RESPONSES)


def logprobs(digits: list[dict[str, float]]) -> list[float]:
    assert [digit["score"] for digit in digits] == SCORES
    return [digit["logprob"] for digit in digits]


# --- one token ------------------------------------------------------------------------------------------------


def test_one_token_is_the_distribution_of_a_plain_forward_pass(judge: World) -> None:
    made = judge.judged(judge.settings("one_token"))
    assert made["generation_id"].to_list() == sorted(judge.generations["generation_id"])
    assert set(made["way"]) == {"one_token"}
    assert set(made["response_tokens"]) == {1}
    plain = judge.plain()
    for gid, digits in made.select("generation_id", "digit_logprobs").iter_rows():
        assert logprobs(digits) == pytest.approx(plain.digits("one_token", gid), abs=2e-5)
    check_votes("one_token", 1, judge.generations, made, "here")
    assert made["digit_logprobs"].n_unique() == made.height  # each response was looked at


def test_one_token_scores_are_means_of_that_distribution(judge: World) -> None:
    made = judge.judged(judge.settings("one_token"))
    scored = judge.scored(made, least_mass=0.0)
    assert scored["parse_status"].to_list() == ["ok"] * made.height
    for digits, value in zip(made["digit_logprobs"], scored["score"], strict=True):
        weights = [math.exp(digit["logprob"]) for digit in digits]
        assert 0 < value < 5
        assert value == pytest.approx(sum(w * s for w, s in zip(weights, SCORES, strict=True)) / sum(weights))
    assert set(scored["score_std"]) == {0.0}
    assert set(scored["n_votes"]) == set(scored["n_parsed"]) == {1}


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_judge_that_would_not_say_a_score_gives_none(kind: str, chat: Callable[[str], Path]) -> None:
    sure, flat = (world(chat(name), "additive", RESPONSES) for name in (kind, f"{kind}-flat"))
    assert set(sure.scored(sure.judged(sure.settings("one_token")))["parse_status"]) == {"ok"}
    unsure = flat.judged(flat.settings("one_token"))
    scored = flat.scored(unsure)
    assert set(scored["parse_status"]) == {"unparsed"}
    assert scored["score"].null_count() == scored.height
    assert flat.scored(unsure, least_mass=0.0)["score"].null_count() == 0


def test_temperature_and_length_of_replies_do_not_touch_one_token(chatty: World) -> None:
    made = chatty.judged(chatty.settings("one_token"))
    other = chatty.judged(
        chatty.settings("one_token", temperature=0.9, top_p=0.5, max_new_tokens=99, distribution=False)
    )
    assert other.equals(made)


# --- votes ----------------------------------------------------------------------------------------------------


def place(raw: str, after: str) -> int | None:
    """Where in a reply a digit stands right after its last `after`; None where none does."""
    tail = raw[raw.rindex(after) + len(after) :] if after in raw else ""
    skipped = len(tail) - len(tail.lstrip())
    return len(raw) - len(tail) + skipped if re.match(r"[0-9]", tail.lstrip()) else None


def test_votes_carry_the_distribution_where_their_score_stands(judge: World) -> None:
    made = judge.judged(judge.settings("votes", votes=12, temperature=1.0, max_new_tokens=20))
    plain, after = judge.plain(), load_ask(judge.rubric).SCORE_AFTER
    compared = without = 0
    for gid, raw, digits, end in made.select("generation_id", "raw", "digit_logprobs", "finish_reason").iter_rows():
        at = place(raw, after)
        if after not in raw or (end == "length" and raw.index(after) + len(after) == len(raw.rstrip())):
            assert digits is None
            without += 1
        elif at is not None and compared < 12:
            assert logprobs(digits) == pytest.approx(plain.digits("votes", gid, raw[:at]), abs=2e-5)
            compared += 1
    assert compared >= 5
    assert without >= 5


def test_without_the_distribution_the_texts_are_the_same(judge: World) -> None:
    warm = {"votes": 12, "temperature": 1.0, "max_new_tokens": 20}  # some of the replies have a score
    made = judge.judged(judge.settings("votes", **warm))
    bare = judge.judged(judge.settings("votes", **warm, distribution=False))
    assert made["digit_logprobs"].null_count() < made.height
    assert bare["digit_logprobs"].null_count() == bare.height
    assert bare.drop("digit_logprobs").equals(made.drop("digit_logprobs"))


def test_votes_are_kept_with_their_own_seeds(judge: World) -> None:
    made = judge.judged(judge.settings("votes", votes=3, temperature=1.0))
    gids = sorted(judge.generations["generation_id"])
    assert made.select("generation_id", "vote_id").rows() == [(gid, vote) for gid in gids for vote in range(3)]
    known = embedded(judge.folder).model_hash, rubric_hash(judge.rubric)
    for gid, vote, seed in made.select("generation_id", "vote_id", "seed").iter_rows():
        assert seed == seed_for(7, "judge", *known, gid, vote)
    assert made["seed"].n_unique() == made.height
    assert made.group_by("generation_id").agg(pl.col("raw").n_unique())["raw"].max() == 3
    more = judge.judged(judge.settings("votes", votes=4, temperature=1.0))
    assert more.filter(pl.col("vote_id") < 3).equals(made)


def test_votes_become_scores_by_the_rubrics_parser(chatty: World) -> None:
    made = chatty.judged(chatty.settings("votes", votes=12, temperature=1.0, max_new_tokens=20))
    known = {"ok": 0, "partial": 0, "unparsed": 0}
    scored = {row["generation_id"]: row for row in chatty.scored(made).to_dicts()}
    for (gid,), votes in made.group_by("generation_id"):
        replies = votes.filter(pl.col("finish_reason") == "stop")["raw"]
        values = [value for raw in replies if (value := parse("additive", raw)) is not None]
        row = scored[gid]
        assert (row["n_votes"], row["n_parsed"]) == (12, len(values))
        assert row["score"] == (pytest.approx(sum(values) / len(values)) if values else None)
        known[row["parse_status"]] += 1
    assert known["partial"] > 0
    assert sum(row["n_parsed"] for row in scored.values()) >= 3


# --- what cannot be judged ------------------------------------------------------------------------------------


def test_a_response_that_failed_gets_no_vote_in_either_way(tiny: Path) -> None:
    judge = world(tiny, "micro", ["ljuufo", "bcd"])
    broken = judge.generations.with_columns(
        finish_reason=pl.when(pl.col("generation_id") == "g00").then(pl.lit("error")).otherwise("finish_reason")
    )
    some = World(judge.folder, judge.rubric, judge.prompts, broken)
    for way in ("votes", "one_token"):
        made = some.judged(some.settings(way))
        assert "g00" not in made["generation_id"]
        assert some.scored(made).row(0, named=True)["parse_status"] == "no_votes"


def test_a_request_that_failed_is_a_row_without_a_score(make_model: MakeModel) -> None:
    small = world(make_model(context=26), "micro", ["ljuufo"])  # 25 and 30 tokens are asked
    made = small.judged(small.settings("one_token"), share=1.0)
    assert set(made["status"]) == {"ok", "too_long"}
    lost = made.filter(pl.col("status") == "too_long")
    assert lost["digit_logprobs"].null_count() == lost.height
    statuses = dict(small.scored(made, least_mass=0.0).select("generation_id", "parse_status").iter_rows())
    assert {gid for gid, status in statuses.items() if status == "unparsed"} == set(lost["generation_id"])


@pytest.mark.parametrize("way", ["votes", "one_token"])
def test_a_score_that_is_not_one_token_is_one_line(way: str, chat: Callable[[str], Path], tmp_path: Path) -> None:
    """As in Llama 2, where a word's first token carries a mark and a digit of its own has none."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as cores
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted({chr(code) for code in range(32, 127)} | set("\n▁"))
    core = Tokenizer(cores.BPE({text: i for i, text in enumerate(["</s>", "<s>", *letters])}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(prepend_scheme="always"), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), **shape, max_position_embeddings=8192, eos_token_id=0)
    models.save(LlamaForCausalLM(config), tokenizer, tmp_path / "J")
    odd = World(tmp_path / "J", "additive", prompts(PROMPTS[:1]), generations(["g"], prompt_id=PROMPTS[0]))
    with pytest.raises(TsrError) as refused:
        odd.judged(odd.settings(way, max_new_tokens=1))
    assert str(refused.value) == f"{tmp_path / 'J'}: score '0' is 2 tokens of its tokenizer; expected one"
    assert odd.judged(odd.settings("votes", max_new_tokens=1, distribution=False)).height == 1


def test_a_distribution_has_no_second_vote() -> None:
    with pytest.raises(ValueError, match="way one_token reads a distribution, which has no second vote"):
        Judge(**JUDGE.model_dump() | {"way": "one_token", "votes": 2, "temperature": 1.0})


def expectation(digits: list[dict[str, float]] | None, least_mass: float = 0.0) -> float | None:
    """The value of one vote in one token."""
    schema = {"digit_logprobs": tables.TYPES["digits"]}
    vote = judgments({"g": [""]}).with_columns(
        pl.DataFrame({"digit_logprobs": [digits]}, schema=schema)["digit_logprobs"], way=pl.lit("one_token")
    )
    return read_votes(Reading("additive", least_mass), vote)["value"].item()


@settings(derandomize=True, max_examples=20, deadline=None, database=None)
@given(st.lists(st.tuples(st.sampled_from(SCORES), st.floats(-60, 0)), min_size=1, max_size=6))
def test_the_mean_is_that_of_exact_sums(drawn: list[tuple[float, float]]) -> None:
    value = expectation([{"score": score, "logprob": logprob} for score, logprob in drawn])
    weights = [Fraction(math.exp(logprob)) for _, logprob in drawn]
    exact = sum(w * Fraction(s) for w, (s, _) in zip(weights, drawn, strict=True)) / sum(weights)
    assert value == pytest.approx(float(exact), rel=1e-15, abs=1e-300)
    assert min(s for s, _ in drawn) <= value <= max(s for s, _ in drawn)


def test_the_mean_of_a_distribution_steps_over_no_edge() -> None:
    sure = [{"score": score, "logprob": 0.0 if score == 5 else -800.0} for score in SCORES]
    assert expectation(sure) == 5.0
    assert expectation([digit | {"logprob": -900.0} for digit in sure]) is None
    assert expectation([]) is None
    assert expectation(None) is None
    assert expectation(sure[:2], least_mass=0.5) is None
    some = [{"score": 1.0, "logprob": math.log(0.6)}, {"score": 4.0, "logprob": math.log(0.3)}]
    assert expectation(some, least_mass=0.8) == 2.0
    assert expectation(some, least_mass=0.95) is None
