"""When a signal is bad: `thresholds.yml`, and what a file of the user's says otherwise."""

from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import ValidationError

from stages.block import Block
from stages.errors import TsrError
from stages.yamlfile import read_yaml

FILE = Path(__file__).parent / "thresholds.yml"
OWN_KEYS = ("watch", "collapsing", "why")


class Threshold(Block):
    """One signal's limits: how its value is compared, which side is bad, and why the limits are what they are."""

    about: str
    compared: Literal["as it is", "share of the first", "change from the first", "times the first"]
    bad: Literal["low", "high"]
    watch: float
    collapsing: float
    why: str


Thresholds = dict[str, Threshold]


def read(own: Path | None = None) -> Thresholds:
    """Return signal -> limits, in the file's order; `own` names those that differ, with some of watch, collapsing, why.

    Raises TsrError for an unknown signal or key, for what is no number, and for limits in the wrong order.
    """
    told = read_yaml(FILE, str(FILE))
    if own is not None:
        for signal, keys in _own(own, told).items():
            told[signal] = told[signal] | keys
    return {signal: _checked(signal, keys, own or FILE) for signal, keys in told.items()}


def _own(path: Path, known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = read_yaml(path, str(path))
    if not isinstance(found, dict):
        raise TsrError(f"{path}: expected signals with their limits, as in {FILE.name}")
    for signal, keys in found.items():
        if signal not in known:
            raise TsrError(f"{path}: {signal}: no such signal; there are: {', '.join(known)}")
        if not isinstance(keys, dict) or set(keys) - set(OWN_KEYS):
            raise TsrError(f"{path}: {signal}: expected some of {', '.join(OWN_KEYS)}")
    return found


def _checked(signal: str, keys: dict[str, Any], path: Path) -> Threshold:
    try:
        found = Threshold(**keys)
    except ValidationError as error:
        first = error.errors()[0]
        raise TsrError(f"{path}: {signal}.{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from error
    lenient, strict = sorted((found.watch, found.collapsing), reverse=found.bad == "low")
    if (found.watch, found.collapsing) != (lenient, strict):
        told = "below" if found.bad == "low" else "above"
        raise TsrError(
            f"{path}: {signal}: collapsing is {found.collapsing:g}; expected none but {told} {found.watch:g}"
        )
    return found


def frame(thresholds: Thresholds) -> pl.DataFrame:
    """Return the limits as the SQL reads them: place, signal, compared, bad, watch, collapsing."""
    rows = [
        {"place": place, "signal": signal} | one.model_dump(include={"compared", "bad", "watch", "collapsing"})
        for place, (signal, one) in enumerate(thresholds.items())
    ]
    return pl.DataFrame(rows)
