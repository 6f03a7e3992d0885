"""The dataset card: what a reader on another machine must know before the first query."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from stages import tables
from stages.errors import printable
from stages.files import write_text

UNKNOWN = "unknown"  # a licence that the Hub knows under this name
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
_LARGER = "n>10M"
Named = tuple[str, pl.DataFrame, pl.DataFrame]


def write(
    pairs: Sequence[Named], extra: dict[str, list[str]], told: dict[str, Any], licence: str, folder: Path
) -> None:
    """Write README.md of an export: `pairs` are (name, pairs, dropped), `extra` maps a table to its files."""
    from huggingface_hub import DatasetCardData

    header = DatasetCardData(
        license=licence,
        pretty_name=f"Preference pairs {', '.join(name for name, _, _ in pairs)}",
        task_categories=["text-generation"],
        tags=["preference-pairs", "dpo", "trl", "self-rewarding"],
        size_categories=[size_category(sum(rows.height for _, rows, _ in pairs))],
        configs=configs([name for name, _, _ in pairs], extra),
    ).to_yaml()
    facts = {
        "licence": licence,
        "unknown": UNKNOWN,
        "datasets": [summary(*named) for named in pairs],
        "funnel": funnel(pairs),
        "extra": extra,
        "columns": {table: _columns(table) for table in ("pairs", *extra)},
        "told": told,
        "params": {
            name: _Verbatim(yaml.safe_dump(known["rests_on"]["params"], sort_keys=True).rstrip().replace("```", "'"))
            for name, known in told["pairs"].items()
            if known["rests_on"]
        },
    }
    write_text(f"---\n{header}\n---\n\n{_body(facts)}", folder / "README.md")


def size_category(rows: int) -> str:
    """Return the Hub's word for a number of rows.

    >>> size_category(999), size_category(1000), size_category(20_000_000)
    ('n<1K', '1K<n<10K', 'n>10M')
    """
    return next((word for limit, word in _SIZES.items() if rows < limit), _LARGER)


def configs(names: Sequence[str], extra: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return the configs of the dataset; the first pairs file is what loads where none is named."""
    files = {name: [f"pairs/{name}.parquet"] for name in names} | extra
    found = [{"config_name": c, "data_files": [{"split": "train", "path": paths}]} for c, paths in files.items()]
    return [found[0] | {"default": True}, *found[1:]]


def summary(name: str, pairs: pl.DataFrame, dropped: pl.DataFrame) -> dict[str, Any]:
    """Return one pairs file in numbers; a gap of no pairs is None."""
    gaps = pairs["gap"]
    told = {"lowest": gaps.min(), "mean": gaps.mean(), "highest": gaps.max()}
    return {
        "name": name,
        "prompts": pairs.height + dropped.height,
        "pairs": pairs.height,
        "strategies": _strategies(pairs),
    } | told


def _strategies(pairs: pl.DataFrame) -> str:
    return ", ".join(sorted(set(pairs["strategy"])))


def funnel(pairs: Sequence[Named]) -> list[dict[str, Any]]:
    """Return rows (reason, name -> prompts), `pair` first: where the prompts of each pairs file ended."""
    counts = {name: dict(dropped.group_by("reason").len().iter_rows()) for name, _, dropped in pairs}
    reasons = sorted({reason for found in counts.values() for reason in found})
    rows = [{"reason": reason} | {name: counts[name].get(reason, 0) for name in counts} for reason in reasons]
    return [{"reason": "a pair"} | {name: rows.height for name, rows, _ in pairs}, *rows]


def _columns(table: str) -> list[dict[str, str]]:
    found = []
    for name, spec in tables.contract(table)["columns"].items():
        kind = spec["type"] + (", may be null" if spec.get("nullable") else "")
        found.append({"name": name, "type": kind, "about": str(spec.get("about", ""))})
    return found


def _body(facts: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 (Markdown, no page)
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_inert,
    )
    return environment.get_template("card.md.j2").render(facts)


class _Verbatim(str):
    """A text that stands in a block of code."""

    __slots__ = ()


def _inert(value: Any) -> Any:
    r"""Return what a template writes as words in a line of Markdown: no markup, no end of a cell or a line.

    Strategies, models and reasons have the names that whoever made the tables gave them.

    >>> print(_inert("a|<b>`c`[d](e)"))
    a\|&lt;b>\`c\`\[d](e)
    """
    if not isinstance(value, str) or isinstance(value, _Verbatim):
        return value
    return re.sub(r"([\\|`*\[])", r"\\\1", printable(value).replace("&", "&amp;").replace("<", "&lt;"))
