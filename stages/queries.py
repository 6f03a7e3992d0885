"""Named queries: `stages/sql/queries/NAME.sql`, with its parameters and their defaults in the YAML beside it."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from stages import paths
from stages.errors import TsrError
from stages.sqlrun import SQL, run_query
from stages.views import interruptible, open_views

QUERIES = SQL / "queries"
_LIMITS: dict[str, Callable[[float, float], bool]] = {"min": operator.ge, "max": operator.le, "above": operator.gt}
_WHOLE = 2**63  # whole numbers are less, either way
_LEARNERS = "select model from made_pairs union select model from dropped order by model"


@dataclass(frozen=True)
class Parameter:
    """What a query takes: `limits` has some of min, max and above (more than)."""

    default: Any
    about: str
    limits: dict[str, float]

    @property
    def kind(self) -> str:
        """Return what a value is, with its limits."""
        kind = {int: "a whole number", float: "a number", str: "a text"}[type(self.default)]
        return ", ".join([kind, *(f"{name} {limit}" for name, limit in self.limits.items())])


@dataclass(frozen=True)
class Query:
    """A named query and its parameters by name."""

    name: str
    about: str
    grain: str
    parameters: dict[str, Parameter]

    @property
    def path(self) -> Path:
        """Return where its SQL lies."""
        return QUERIES / f"{self.name}.sql"

    def usage(self) -> str:
        """Return its line in the list."""
        options = "".join(f" [--{name} {one.default!r}]" for name, one in self.parameters.items())
        return f"{self.name}{options}\n    {self.about}"

    def help(self) -> str:
        """Return what it shows and what its parameters are."""
        width = max(map(len, self.parameters), default=0)
        told = [f"  --{name:<{width}}  {p.about} ({p.kind}); {p.default!r}" for name, p in self.parameters.items()]
        return "\n".join([f"{self.name}: {self.about}", f"A row is {self.grain.removeprefix('one row per ')}.", *told])


def all_queries() -> list[Query]:
    """Return every named query, by name."""
    return [find(path.stem) for path in sorted(QUERIES.glob("*.sql"))]


def find(name: str) -> Query:
    """Return a named query. Raises TsrError for an unknown name, with those that there are."""
    described = QUERIES / f"{paths.checked(name)}.yml"
    if not described.is_file():
        known = ", ".join(sorted(path.stem for path in QUERIES.glob("*.sql")))
        raise TsrError(f"query {name!r}: no such query; there are: {known}")
    told = yaml.safe_load(described.read_text())
    parameters = {
        key: Parameter(spec["default"], spec["about"], {n: spec[n] for n in _LIMITS if n in spec})
        for key, spec in told.get("parameters", {}).items()
    }
    return Query(name, told["description"], told["grain"], parameters)


def values_of(query: Query, words: Sequence[str]) -> dict[str, Any]:
    """Return the query's parameters from `--name value` words, defaults for the others.

    A value has the type of its default. Raises TsrError for an unknown word and for a value of another type.
    """
    values = {name: one.default for name, one in query.parameters.items()}
    given = iter(words)
    for word in given:
        name, equals, value = word.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not word.startswith("--") or name not in values:
            known = ", ".join(f"--{key}" for key in values) or "none"
            raise TsrError(f"query {query.name}: unknown option {word!r}; its parameters: {known}")
        wanted = query.parameters[name]
        text = value if equals else next(given, None)
        if text is None:
            raise TsrError(f"query {query.name}: {word} has no value; expected {wanted.kind} ({wanted.about})")
        values[name] = _like(wanted, text, f"query {query.name}: --{name}")
    return values


def _like(wanted: Parameter, text: str, where: str) -> Any:
    kind = type(wanted.default)
    if kind is str:
        return text
    fits = re.fullmatch(r"-?\d+" if kind is int else r"-?\d+(\.\d+)?(e-?\d+)?", text)
    value = kind(text) if fits else math.nan
    within = all(_LIMITS[name](value, limit) for name, limit in wanted.limits.items())
    if not fits or not within or not (abs(value) < _WHOLE if kind is int else math.isfinite(value)):
        raise TsrError(f"{where} {text!r}: expected {wanted.kind}")
    return value


def run(query: Query, values: dict[str, Any]) -> pl.DataFrame:
    """Return the rows of a named query on the dataset in `paths.data()`.

    Raises TsrError for the name of a model version that learned from nothing.
    """
    with open_views() as db:
        learners = [name for (name,) in db.sql(_LEARNERS).fetchall()] if values.get("model") else []
        if learners and values["model"] not in learners:
            raise TsrError(f"query {query.name}: --model {values['model']!r}: has no pairs; {', '.join(learners)} have")
        return interruptible(db, lambda: run_query(db, query.path, values))
