"""YAML as this project reads it: no key twice, floats as DVC writes them."""

import re
from typing import Any

import yaml


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; plain YAML would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Return the mapping, or raise yaml.YAMLError naming the key and its line."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"key {key.value!r} stands twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# YAML 1.2 floats, as DVC writes them: PyYAML takes 1e-05 for text.
UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
