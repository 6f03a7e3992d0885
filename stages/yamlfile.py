"""YAML as this project reads it: no key twice, floats as DVC writes them."""

import re
from pathlib import Path
from typing import Any

import yaml

from stages.errors import TsrError

_MERGE = "tag:yaml.org,2002:merge"
_HALF_PAIRS = re.compile("[\ud800-\udfff]")


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; plain YAML would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Return the mapping, or raise yaml.YAMLError naming the key and its line."""
        seen: set[Any] = set()
        for key, _ in node.value:
            at = f"line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a list or mapping is the key in {at}; expected a word or a number")
            # 0 and 0.0 are one key, as Python has it.
            value = key.value if key.tag == _MERGE else self.construct_object(key, deep=True)
            if value in seen:
                raise yaml.YAMLError(f"key {key.value!r} stands twice, again in {at}")
            seen.add(value)
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Return the scalar, or raise yaml.YAMLError for half a surrogate pair, which no UTF-8 can hold."""
        if isinstance(node.value, str) and _HALF_PAIRS.search(node.value):
            raise yaml.YAMLError(f"half a surrogate pair in line {node.start_mark.line + 1}; expected a character")
        return super().construct_scalar(node)


# YAML 1.2 floats, as DVC writes them: PyYAML takes 1e-05 for text.
UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path, where: str) -> Any:
    """Return what a YAML file holds. Raises TsrError, calling it `where`, for one that cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise TsrError(f"{where[:200]}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        raise TsrError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
