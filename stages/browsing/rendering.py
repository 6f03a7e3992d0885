"""The browser's templates: all that they are given is escaped."""

from functools import cache
from pathlib import Path
from typing import Any


@cache
def template(name: str) -> Any:
    """Return a template of this package."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ours"] = Markup  # markup made here: figures, and marimo's own elements
    return environment.get_template(name)
