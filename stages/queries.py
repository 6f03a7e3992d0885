"""Named queries: `stages/sql/queries/NAME.sql`, with its parameters and their defaults in the YAML beside it."""

import re
from collections.abc import Sequence
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


@dataclass(frozen=True)
class Query:
    """A named query; `parameters` has name -> (default, what it is)."""

    name: str
    about: str
    grain: str
    parameters: dict[str, tuple[Any, str]]

    @property
    def path(self) -> Path:
        """Return where its SQL lies."""
        return QUERIES / f"{self.name}.sql"

    def usage(self) -> str:
        """Return its line in the list."""
        options = "".join(f" [--{name} {default!r}]" for name, (default, _) in self.parameters.items())
        return f"{self.name}{options}\n    {self.about}"

    def help(self) -> str:
        """Return what it shows and what its parameters are."""
        width = max(map(len, self.parameters), default=0)
        told = [f"  --{name:<{width}}  {about}; {default!r}" for name, (default, about) in self.parameters.items()]
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
    parameters = {key: (spec["default"], spec["about"]) for key, spec in told.get("parameters", {}).items()}
    return Query(name, told["description"], told["grain"], parameters)


def values_of(query: Query, words: Sequence[str]) -> dict[str, Any]:
    """Return the query's parameters from `--name value` words, defaults for the others.

    A value has the type of its default. Raises TsrError for an unknown word and for a value of another type.
    """
    values = {name: default for name, (default, _) in query.parameters.items()}
    given = iter(words)
    for word in given:
        name, equals, value = word.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not word.startswith("--") or name not in values:
            known = ", ".join(f"--{key}" for key in values) or "none"
            raise TsrError(f"query {query.name}: unknown option {word!r}; its parameters: {known}")
        text = value if equals else next(given, None)
        if text is None:
            raise TsrError(f"query {query.name}: {word} has no value; expected {query.parameters[name][1]}")
        values[name] = _like(values[name], text, f"query {query.name}: --{name}")
    return values


def _like(default: Any, text: str, where: str) -> Any:
    if isinstance(default, str):
        return text
    wanted = type(default)
    if not re.fullmatch(r"-?\d+" if wanted is int else r"-?\d+(\.\d+)?(e-?\d+)?", text):
        raise TsrError(f"{where} {text!r}: expected {'a whole number' if wanted is int else 'a number'}")
    return wanted(text)


def run(query: Query, values: dict[str, Any]) -> pl.DataFrame:
    """Return the rows of a named query on the dataset in `paths.data()`."""
    with open_views() as db:
        return interruptible(db, lambda: run_query(db, query.path, values))
