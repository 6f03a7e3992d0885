"""Settings changed for one command, `-S KEY=VALUE`: params.yaml on disk stays as it is."""

from typing import Any

import yaml

from stages import params
from stages.errors import TsrError
from stages.yamlfile import UniqueKeys

Raw = dict[str, Any]
_FREE = ("parameters", "template_values")  # blocks of the user's own names


def parsed(changes: list[str], command: str) -> Raw:
    """Return `KEY=VALUE` words as a mapping; `command` names the option in errors. Raises TsrError for another form."""
    return dict(_parsed(change, command) for change in changes)


def put(raw: Raw, changed: Raw, command: str) -> None:
    """Change what params.yaml says, by dotted keys. Raises TsrError for a key that is not there."""
    for key, value in changed.items():
        _put(raw, key, value, command)


def load(changes: list[str], command: str, profile: str = "") -> params.Params:
    """Return checked params with changes; `profile` takes the place of the one in force."""
    raw = params.read_raw()
    put(raw, parsed(changes, command), command)
    return params.parse(raw | {"profile": profile} if profile else raw, params.PARAMS_FILE)


def _parsed(change: str, command: str) -> tuple[str, Any]:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise TsrError(f"{command} {change!r}: expected KEY=VALUE, e.g. micro.dpo.learning_rate=2e-4")
    try:
        return key, yaml.load(text, Loader=UniqueKeys)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise TsrError(f"{command} {change!r}: not a value in YAML") from error


def _put(raw: Raw, key: str, value: Any, command: str) -> None:
    """Change one setting. Raises TsrError for a key that is not there; a number becomes a float where one stood."""
    *path, last = key.split(".")
    block: Any = raw
    for part in path:
        if not isinstance(block, dict) or part not in block:
            raise TsrError(f"{command} {key}: no such key in {params.PARAMS_FILE}")
        block = block[part]
    free = path == ["arms"] or path[-1:] in [[name] for name in _FREE]
    if not isinstance(block, dict) or (last not in block and not free):
        raise TsrError(f"{command} {key}: no such key in {params.PARAMS_FILE}")
    if isinstance(block.get(last), float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    block[last] = value
