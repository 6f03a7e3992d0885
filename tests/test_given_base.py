"""Base models from elsewhere: Llama 3, Qwen 2.5 and 3, Mistral, and a base model without a template."""

import json
import shutil
from pathlib import Path
from typing import Any

import families
import pytest
from families import FAMILIES

from stages import models
from stages.backends._chat import Chat
from stages.errors import TsrError
from stages.given_base import take_in
from stages.params import GivenBase

SETTINGS = GivenBase(trust_remote_code=False, chat_template="", template_values={})
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each family, as published."""
    folder = tmp_path_factory.mktemp("published")
    for family in FAMILIES:
        families.make(family, folder / family)
    return folder


def settings(family: str) -> GivenBase:
    return SETTINGS.model_copy(update={"template_values": FAMILIES[family][-1]})


@pytest.fixture(params=FAMILIES)
def taken(request: Any, published: Path, tmp_path: Path) -> tuple[str, Path]:
    """A family and its model, taken in."""
    take_in(str(published / request.param), settings(request.param), tmp_path / "base")
    return request.param, tmp_path / "base"


def test_bos_stands_exactly_once_and_pads_are_no_end(taken: tuple[str, Path]) -> None:
    family, folder = taken
    tokenizer = models.load_tokenizer(folder)
    ids = Chat(folder).encode(CONVERSATION)
    if FAMILIES[family][2] is None:
        assert tokenizer.bos_token_id is None
    else:
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.pad_token_id is not None
    assert (tokenizer.pad_token_id == tokenizer.eos_token_id) == (family == "base")
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == tokenizer.pad_token_id


def test_what_is_trained_follows_the_prompt_that_is_asked(taken: tuple[str, Path]) -> None:
    _, folder = taken
    tokenizer = models.load_tokenizer(folder)
    for answer in ("Four.", "\n\nFour.\n", " 4", "", "<|im_end|>"):
        asked = Chat(folder).encode(CONVERSATION)
        said = [*CONVERSATION, {"role": "assistant", "content": answer}]
        whole = tokenizer.apply_chat_template(said, return_dict=True)["input_ids"]
        assert whole[: len(asked)] == asked
        assert tokenizer.eos_token_id in whole[len(asked) :]
        assert answer.strip() in tokenizer.decode(whole[len(asked) :])


def test_weights_that_are_cut_off_are_not_taken_in(tmp_path: Path) -> None:
    folder = families.make("qwen", tmp_path / "given")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(TsrError, match="is cut off"):
        take_in(str(folder), SETTINGS, tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_every_turn_and_the_system_message_are_read(taken: tuple[str, Path]) -> None:
    text = Chat(taken[1]).text(Chat(taken[1]).encode(CONVERSATION))
    places = [text.index(message["content"]) for message in CONVERSATION]
    assert places == sorted(places)


def test_no_template_reads_the_clock(published: Path, tmp_path: Path) -> None:
    with pytest.raises(TsrError, match=r'template_values: .*reads the clock.*expected a date_string, e\.g\. "26 Jul'):
        take_in(str(published / "llama"), SETTINGS, tmp_path / "base")
    take_in(str(published / "llama"), settings("llama"), tmp_path / "base")
    chat = Chat(tmp_path / "base")
    assert "Today Date: 26 Jul 2024" in chat.text(chat.encode(CONVERSATION))


TEMPLATES = {
    "another prompt": (
        "{% for m in messages %}{{ m.role + ':' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}",
        "the chat template's prompt is not how its conversation starts",
    ),
    "two": (
        "{{ bos_token + bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "gives 2 BOS tokens; expected",
    ),
    "broken": ("{% for m in messages %}", "its chat template refuses a conversation: "),
    "silent": ("{{ bos_token }}{{ messages[0].content }}", "leaves out what the assistant says"),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_template_that_cannot_be_trained_on_is_refused(case: str, published: Path, tmp_path: Path) -> None:
    text, told = TEMPLATES[case]
    (tmp_path / "own.jinja").write_text(text)
    own = SETTINGS.model_copy(update={"chat_template": str(tmp_path / "own.jinja")})
    with pytest.raises(TsrError, match=told) as refused:
        take_in(str(published / "base"), own, tmp_path / "made" / "base")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("made/*"))


def test_a_template_that_is_no_text_is_refused(published: Path, tmp_path: Path) -> None:
    own = SETTINGS.model_copy(update={"chat_template": str(published / "base" / "model.safetensors")})
    with pytest.raises(TsrError, match=r"base\.chat_template: .*model\.safetensors is no text in UTF-8"):
        take_in(str(published / "base"), own, tmp_path / "made" / "base")


def test_a_template_without_bos_is_given_one(published: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(
        "{% for m in messages %}{{ m.role + ':\\n' + m.content + eos_token }}{% endfor %}"
    )
    own = SETTINGS.model_copy(update={"chat_template": str(tmp_path / "own.jinja")})
    take_in(str(published / "base"), own, tmp_path / "base")
    ids = Chat(tmp_path / "base").encode(CONVERSATION[1:2])
    assert ids.count(models.load_tokenizer(tmp_path / "base").bos_token_id) == 1


def spoil(folder: Path, how: str) -> None:
    """Make a model folder into one that cannot be used."""
    if how == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    if how == "code":
        config = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModelForCausalLM": "own.Own"}}
        (folder / "config.json").write_text(json.dumps(config))
    if how == "no config":
        (folder / "config.json").unlink()
    if how == "half a config":
        (folder / "config.json").write_text("{")
    if how == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    if how == "another tokenizer":
        (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "None"}}')
    if how == "no number":
        config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": "many"}
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "told"),
    {
        "pickle": r"expected weights as safetensors; it has pytorch_model\.bin, which is not read",
        "code": r"config\.json: the model wants code of its own; .* or base\.trust_remote_code: true",
        "no config": r"config\.json: no such file",
        "half a config": r"config\.json: not valid JSON",
        "no tokenizer": r"no tokenizer in it; expected a tokenizer\.json",
        "another tokenizer": r"the tokenizer cannot be read: KeyError: 'added_tokens'",
        "no number": r"cannot be read: .*'max_position_embeddings' expected int, got str \(value: 'many'\)",
    }.items(),
)
def test_what_cannot_be_used_is_one_line(how: str, told: str, published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "qwen", tmp_path / "given")
    spoil(tmp_path / "given", how)
    with pytest.raises(TsrError, match=told) as refused:
        take_in(str(tmp_path / "given"), SETTINGS, tmp_path / "made" / "base")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("made/*"))


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "no/such/folder", "Qwen/Qwen2.5-0.5B@main", ""])
def test_a_hub_id_needs_its_commit(name: str, tmp_path: Path) -> None:
    with pytest.raises(TsrError, match=r"base_model: .* is no folder, and no hub id with its commit; expected organis"):
        take_in(name, SETTINGS, tmp_path / "base")


def test_an_unreachable_hub_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "Qwen/Qwen2.5-0.5B@" + 40 * "0"
    with pytest.raises(TsrError, match=rf"base_model: {name} cannot be had from the hub: ") as refused:
        take_in(name, SETTINGS, tmp_path / "base")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_models_own_code_is_fetched_where_it_may_run(
    allowed: bool, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Path(shutil.copytree(published / "qwen", tmp_path / "given"))
    (given / "own.py").write_text("")
    patterns: list[str] = []

    def fetched(*_: Any, allow_patterns: list[str], **__: Any) -> str:
        patterns.extend(allow_patterns)
        return str(given)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    monkeypatch.setattr("stages.hub.out_of_reach", lambda: "")
    own = SETTINGS.model_copy(update={"trust_remote_code": allowed})
    take_in("org/model@" + 40 * "0", own, tmp_path / "base")
    assert "*.safetensors" in patterns
    assert ("*.py" in patterns) == (tmp_path / "base" / "own.py").is_file() == allowed


def test_a_models_own_code_is_part_of_its_hash(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published / "qwen", tmp_path / "given"))
    hashes = [models.model_hash(folder)]
    for code in ("a = 1\n", "a = 2\n"):
        (folder / "own.py").write_text(code)
        hashes.append(models.model_hash(folder))
    assert len(set(hashes)) == 3
    (folder / "own.py").unlink()
    assert models.model_hash(folder) == hashes[0]
