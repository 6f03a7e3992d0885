"""The base model looked at without loading it: its folder, its weights' headers, its tokenizer, its context."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import given_base, models
from stages.doctor import hub
from stages.errors import TsrError
from stages.params import GivenBase, MadeBase, Profile
from stages.weights import Weights, weights_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Base:
    """A base model. What is not known, for what `problems` say, is None.

    `answer` is what the hub said, where it was asked.
    """

    folder: Path | None = None
    weights: Weights | None = None
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: "PreTrainedTokenizerBase | None" = None
    had_template: bool = True
    had_pad: bool = True
    problems: tuple[str, ...] = ()
    answer: hub.Answer | None = None

    @property
    def context(self) -> int:
        """Return the positions that the model has; 0 where that is not known."""
        return context_of(self.config)


def context_of(config: dict[str, Any]) -> int:
    """Return the positions of a model by its configuration; 0 where it does not say."""
    inner = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    return int(config.get("max_position_embeddings") or (inner or {}).get("max_position_embeddings") or 0)


def look_at(block: Profile) -> Base:
    """Return what is known of a profile's base model."""
    if isinstance(block.base, MadeBase):
        from stages.tiny_llama import build_tokenizer

        return Base(tokenizer=build_tokenizer(), config={"max_position_embeddings": block.base.context})
    found = _found(block.base_model, block.base)
    if found.folder is None:
        return found
    return _read(found.folder, block.base, found.answer)


def _found(base_model: str, settings: GivenBase) -> Base:
    """Return where the model lies: in the folder that is named, or in the hub's cache."""
    if given_base.is_folder(base_model):
        return Base(folder=Path(base_model))
    try:
        name, commit = given_base.on_hub(base_model)
    except TsrError as error:
        return Base(problems=(str(error),))
    try:
        cached = given_base.downloaded(base_model, settings, local_only=True)
        if list(cached.glob("*.safetensors")):
            return Base(folder=cached)
    except TsrError:
        pass
    answer = hub.ask("model", name, commit)
    return Base(answer=answer, weights=Weights(answer.parameters, answer.bytes) if answer.bytes else None)


def _read(folder: Path, settings: GivenBase, answer: hub.Answer | None) -> Base:
    problems, weights, tokenizer = [], None, None
    config: dict[str, Any] = {}
    try:
        given_base.check_folder(folder, settings)
        config = models.read_json(folder / "config.json")
        weights = weights_of(folder)
    except TsrError as error:
        problems.append(str(error))
    had_template, had_pad = True, True
    if not problems or config:
        try:
            had_template, had_pad = _had(folder)
            tokenizer = given_base.fitted(folder, settings, str(folder))
            if not problems:
                given_base.check_weights(folder, settings)
        except TsrError as error:
            problems.append(str(error))
    return Base(folder, weights, config, tokenizer, had_template, had_pad, tuple(problems), answer)


def _had(folder: Path) -> tuple[bool, bool]:
    """Return whether a model came with a chat template and with a pad token."""
    beside, inside = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    said = models.read_json(inside) if inside.is_file() else {}
    older = folder / "special_tokens_map.json"
    pads = said.get("pad_token") or (models.read_json(older).get("pad_token") if older.is_file() else None)
    return beside.is_file() or bool(said.get("chat_template")), bool(pads)
