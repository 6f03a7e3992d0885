"""Ids and seeds: content hashes, so that equal content has an equal id on every machine.

>>> content_id("prompt", [{"role": "user", "content": "next abc"}])
'b79bc6acd09dbc9c'
"""

import hashlib
import json
from pathlib import Path
from typing import Any

ID_HEX = 16  # 64 bits: a collision among 10 million rows has a chance of about 3e-6, and writers check keys


def _digest(*parts: Any) -> bytes:
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()


def content_id(kind: str, *parts: Any) -> str:
    """Return the id (16 hex digits) of JSON-able `parts`; `kind` keeps the id spaces apart."""
    return _digest(kind, *parts).hex()[:ID_HEX]


def content_key(kind: str, *parts: Any) -> str:
    """Return a hash of 32 hex digits of JSON-able `parts`, for what is looked up and nowhere else checked."""
    return _digest(kind, *parts).hex()[:32]


def seed_for(*parts: Any) -> int:
    """Return a seed in [0, 2**63) decided by `parts` alone: never by position, clock or worker."""
    return int.from_bytes(_digest("seed", *parts)[:8], "big") >> 1


def seed32_for(*parts: Any) -> int:
    """Return a seed in [0, 2**32), for libraries that take no larger one."""
    return seed_for(*parts) & 0xFFFFFFFF


def prompt_id(messages: list[dict[str, str]]) -> str:
    """Return the id of a prompt: the hash of its messages."""
    return content_id("prompt", [{"role": m["role"], "content": m["content"]} for m in messages])


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
