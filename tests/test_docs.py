"""Every command has help, every public name a docstring, and the examples in docstrings are true."""

import ast
import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from stages import params
from stages.backends import backends, load_module
from stages.cli import app

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "stages").rglob("*.py"))
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def name(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert COMMANDS[command].help
    for parameter in COMMANDS[command].params:
        assert getattr(parameter, "help", None) or parameter.name == "help", f"{command} {parameter.name}"
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert COMMANDS[command].help.split("\n")[0][:40] in shown.output


def public(node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST]]:
    """Public functions and classes of a module, methods included."""
    for child in getattr(node, "body", []):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield f"{where}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{where}.{child.name}")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_public_name_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), name(path)
    bare = [where for where, node in public(tree, name(path)) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert bare == []


@pytest.mark.parametrize("path", [path for path in FILES if ">>>" in path.read_text()], ids=name)
def test_examples_in_docstrings_are_true(path: Path) -> None:
    outcome = doctest.testmod(importlib.import_module(name(path)))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("backend", backends())
def test_every_backend_has_its_row_and_its_settings_in_params(backend: str) -> None:
    assert f"\n| `{backend}` |" in (ROOT / "docs/engines.md").read_text()
    settings = params.load(ROOT / "params.yaml").profiles["micro"].backends
    assert type(settings[backend]) is load_module(backend).Settings


@pytest.mark.parametrize("module", ["cli", "params", "plan", "pair", "score", "candidates", "generate", "judge"])
def test_heavy_libraries_are_not_imported_before_they_are_needed(module: str) -> None:
    """`tsr --help`, `pair` and every query start in under a second."""
    heavy = "{'torch', 'transformers', 'trl', 'datasets', 'altair'}"
    code = f"import sys, stages.{module}; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout == "[]\n"
