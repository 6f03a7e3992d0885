"""dvc.yaml against the code: each stage depends on all that can change its results, and on nothing else."""

import ast
import re
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pipeline_file import ROOT, STAGES, command, outputs, resolved, rows

from stages.backends import backends
from stages.params import Profile

# All but the report, which is cheap, reads all tables and prints whole blocks of params.
MAKERS = [name for name in STAGES if name != "report"]
# Say what is wrong, show progress, read params, name paths, ask whether the hub is there: no result depends on them.
NEUTRAL = {"errors", "progress", "params", "paths", "cli", "plan", "drops", "files", "hub", "bounds"}
# Say how a run is followed, what it may take, or what kind of base model there is to be: no stage runs again for them.
APART = {"following", "slots", "base_model"}


def kinds_of(annotation: Any) -> list[Any]:
    """The classes that a field may hold."""
    return list(get_args(annotation)) if isinstance(annotation, UnionType) else [annotation]


BLOCKS = {
    kind.__name__: name
    for name, field in Profile.model_fields.items()
    for kind in kinds_of(field.annotation)
    if name != "prepare"  # read whole, by the source that it names; its `Settings` are called as those of backends are
}


@cache
def tree(path: str) -> ast.Module:
    """The syntax tree of a file of the repository; SQL imports nothing."""
    return ast.parse((ROOT / path).read_text() if path.endswith(".py") else "")


def imported(path: str) -> set[str]:
    """Files of `stages` that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stages":
            folder = Path(*node.module.split("."))
            for alias in node.names:
                options = (folder / f"{alias.name}.py", folder / alias.name / "__init__.py")
                options += (folder.with_suffix(".py"), folder / "__init__.py")
                found.add(next(str(option) for option in options if (ROOT / option).exists()))
    return found


@cache
def closure(path: str) -> frozenset[str]:
    """The file and all it imports, neutral modules left out."""
    seen, ahead = set(), [path]
    while ahead:
        here = ahead.pop()
        if here in seen or Path(here).stem in NEUTRAL:
            continue
        seen.add(here)
        ahead += imported(here)
        if here == "stages/backends/__init__.py":  # which of them is chosen by params
            ahead += [f"stages/backends/{name}.py" for name in backends()]
    return frozenset(seen)


def path_of(node: ast.expr, known: dict[str, str]) -> str | None:
    """The path that `SQL / "a" / f"{b}.sql"` stands for, `*` for what is decided at run time."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        left, right = path_of(node.left, known), path_of(node.right, known)
        return f"{left}/{right}" if left and right else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else None


def read_beside(path: str) -> set[str]:
    """SQL files and contracts that a file names."""
    known, found = {"SQL": "stages/sql"}, set()
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known.setdefault(node.targets[0].id, path_of(node.value, known) or "")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.BinOp) and (named := path_of(node, known)) and named.endswith(".sql"):
            found.add(named)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            if isinstance(of, ast.Name) and of.id == "tables" and isinstance(node.args[0], ast.Constant):
                found.add(f"stages/contracts/{node.args[0].value}.yml")
    return found


def needed(name: str) -> set[str]:
    """Code, SQL and contracts that decide a stage's results."""
    code = closure(f"stages/{command(name)[0]}.py")
    return set(code).union(*(read_beside(path) for path in code))


def code_deps(name: str) -> dict[str, set[str]]:
    """Each dep on code with the files it stands for."""
    deps = {}
    named = [dep.replace("${item.sql}", "stages/sql/strategies/${item.strategy}.sql") for dep in STAGES[name]["deps"]]
    listed = [dep for dep in named if dep.startswith("stages/")]
    for dep in (re.sub(r"\$\{.*?\}", "*", dep) for dep in listed):
        inside = [p for p in (ROOT / dep).rglob("*") if p.suffix in (".py", ".sql", ".yml") and p.is_file()]
        deps[dep] = {str(p.relative_to(ROOT)) for p in inside} if (ROOT / dep).is_dir() else {dep}
    return deps


@pytest.mark.parametrize("name", STAGES)
def test_all_code_that_decides_a_result_is_a_dep(name: str) -> None:
    covered = set().union(*code_deps(name).values())
    assert needed(name) - covered == set()


@pytest.mark.parametrize("name", MAKERS)
def test_no_dep_on_code_is_unneeded(name: str) -> None:
    """A folder counts as a whole: a file in it that does not matter would run the stage again."""
    unneeded = {dep: files - needed(name) for dep, files in code_deps(name).items()}
    assert {dep: left for dep, left in unneeded.items() if {f for f in left if not f.endswith("__init__.py")}} == {}


def test_the_report_needs_something_of_each_dep() -> None:
    assert [dep for dep, files in code_deps("report").items() if not files & needed("report")] == []


def test_code_deps_exist() -> None:
    for name in STAGES:
        for dep in code_deps(name):
            assert list(ROOT.glob(dep)), f"{name}: {dep}"


def chains(function: ast.AST, name: str) -> set[tuple[str, ...]]:
    """Attribute chains on a name: `settings.dpo.beta` gives ("dpo", "beta"); the name alone gives ()."""
    found = set()
    inner = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    for node in ast.walk(function):
        if id(node) in inner or not isinstance(node, ast.Attribute | ast.Name):
            continue
        chain: list[str] = []
        top: ast.expr = node
        while isinstance(top, ast.Attribute):
            chain.insert(0, top.attr)
            top = top.value
        if (isinstance(top, ast.Name) and top.id == name) or (name == "load()" and ast.unparse(top) == "_params()"):
            found.add(tuple(chain))
    return found


def keys_used(name: str) -> set[str]:
    """Params keys, `seed` or `block` or `block.key`, that reach the code of a stage."""
    function = next(
        n for n in tree("stages/cli.py").body if isinstance(n, ast.FunctionDef) and n.name == command(name)[0]
    )
    given = {c for c in chains(function, "loaded") | chains(function, "load()") if c}
    used = {".".join(c[1:] if c[0] == "block" else c) for c in given if c[0] != "block" or len(c) == 3}
    for path in closure(f"stages/{command(name)[0]}.py"):
        for node in ast.walk(tree(path)):
            for arg in node.args.args if isinstance(node, ast.FunctionDef) else []:
                kind = ast.unparse(arg.annotation) if arg.annotation else ""
                prefix = {"Profile": (), "Params": (), "Job": ()}.get(kind, (BLOCKS[kind],) if kind in BLOCKS else None)
                if prefix is None:
                    continue
                for found in chains(node, arg.arg):
                    chain = tuple(part for part in found if part != "block")
                    if kind == "Job":  # it holds the block `training` as `settings`, and `sft` or `dpo` as `schedule`
                        held = {"settings": "training", "schedule": command(name)[0]}
                        if len(found) < 2 or found[0] not in held:
                            continue
                        chain = (held[found[0]], found[1])
                    key = (*prefix, *chain)[:2]
                    if len(key) == 2 or (key and (key[0] not in BLOCKS.values() or key[0] == "backends")):
                        used.add(".".join(key))
    if "launching" in ast.unparse(function):
        used.add("training.launch")
    received = {c[1] for c in given if c[0] == "block" and len(c) > 1}
    whole = ("block",) in given or ast.unparse(function).count("_params())") > 0
    return {key for key in used if whole or "." not in key or key.split(".")[0] in received}


def params_of(name: str) -> list[str]:
    """Keys of params.yaml among a stage's params; those of other files left out."""
    return [key for key in STAGES[name].get("params", []) if isinstance(key, str)]


@pytest.mark.parametrize("name", MAKERS)
def test_params_are_those_that_the_stage_reads(name: str) -> None:
    declared = {key.replace("${profile}.", "") for key in params_of(name)}
    used = keys_used(name)
    # `prepare` is read whole, by the source that it names.
    blocks = {k: field.annotation for k, field in Profile.model_fields.items() if k not in ("backends", "prepare")}
    fields = {block: _choices(kind) for block, kind in blocks.items()}
    spread = {"model_dump", "model_copy"}  # passes the whole block on
    for key in used:
        block, _, field = key.partition(".")
        if block in APART - declared:
            continue
        assert block in declared or key in declared, f"{name}: reads {key}, which is not among its params"
    for key in declared:
        block, _, field = key.partition(".")
        read = {k.partition(".")[2] for k in used if k.partition(".")[0] == block}
        if block in APART or block == "prepare":
            continue
        if not field and block in fields and not read & spread:
            assert read == fields[block], f"{name}: {key} holds keys that it does not read"
        said = block in used if block == "backends" else read if not field else field in read
        assert said, f"{name}: {key} is not read"


def _choices(block: Any) -> set[str]:
    """The keys of a block, or of one of its kinds, that leave a choice."""
    named = [kind for kind in kinds_of(block) if hasattr(kind, "model_fields")]
    kinds = {key: field.annotation for kind in named for key, field in kind.model_fields.items()}
    return {key for key, kind in kinds.items() if get_origin(kind) is not Literal or len(get_args(kind)) > 1}


def test_a_block_runs_its_own_stages_again_and_no_others() -> None:
    """Changing dpo.beta must not make a first-round response again."""
    readers = {block: set() for block in Profile.model_fields}
    for name in MAKERS:
        for key in params_of(name):
            if key.startswith("${profile}."):
                readers[key.split(".")[1]].add(name)
    assert readers["dpo"] == {"dpo", "measure"}
    assert readers["pair"] == {"pair"}
    assert readers["generate"] == {"generate", "evaluate"}
    assert readers["prepare"] == {"prepare"}
    assert readers["sft"] == {"sft"}
    assert {"judge", "score", "evaluate"} <= readers["judge"]
    assert "${profile}.judge" not in STAGES["score"]["params"]


def test_every_row_column_exists_and_every_output_is_made_once() -> None:
    made: list[str] = []
    for name, stage in STAGES.items():
        for key, row in rows(name).items():
            assert set(re.findall(r"\$\{item\.(\w+)\}", yaml.safe_dump(stage))) <= set(row), f"{name}@{key}"
            made += [resolved(out, key, row) for out in outputs(name)]
    assert len(made) == len(set(made))


@pytest.mark.parametrize("name", STAGES)
def test_nothing_switches_the_run_cache_off(name: str) -> None:
    text = yaml.safe_dump(STAGES[name])
    assert "persist" not in text
    assert "always_changed" not in text
    outs = STAGES[name].get("outs", [])
    assert name == "report" or all(isinstance(out, str) for out in outs)
    assert "&&" not in STAGES[name]["cmd"]
    assert ";" not in STAGES[name]["cmd"]
