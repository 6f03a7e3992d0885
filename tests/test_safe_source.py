"""What the source may not hold: pickles, evaluated text, shells, YAML that makes objects. Read as a syntax tree.

And the packages that it runs on: each pinned, and the ones that are installed.
"""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("stages/**/*.py"), *ROOT.glob("reports/*.py")])
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "code"}
CALLS = {
    "eval": "evaluates text",
    "exec": "evaluates text",
    "compile": "evaluates text",
    "__import__": "imports by a name made at run time",
    "torch.load": "unpickles",
    "torch.jit.load": "runs code",
    "torch.hub.load": "downloads code",
    "np.load": "may unpickle",
    "numpy.load": "may unpickle",
    "pd.read_pickle": "unpickles",
    "os.system": "starts a shell",
    "os.popen": "starts a shell",
    "os.spawnlp": "starts a program",
    "subprocess.getoutput": "starts a shell",
    "subprocess.getstatusoutput": "starts a shell",
    "yaml.load": "may make objects",
    "yaml.load_all": "may make objects",
    "yaml.unsafe_load": "makes objects",
    "yaml.full_load": "makes objects",
    "pl.read_ipc": "reads what no contract describes",
    "shutil.unpack_archive": "unpacks what may leave its folder, or never end",
    "tarfile.open": "unpacks what may leave its folder, or never end",
    "zipfile.ZipFile": "unpacks what may leave its folder, or never end",
    **dict.fromkeys(
        [
            *("gzip.open", "gzip.decompress", "gzip.GzipFile", "zlib.decompress", "zlib.decompressobj"),
            *("bz2.open", "bz2.decompress", "bz2.BZ2File", "bz2.BZ2Decompressor"),
            *("lzma.open", "lzma.decompress", "lzma.LZMAFile", "lzma.LZMADecompressor"),
        ],
        "unpacks what may never end",
    ),
    "xml.etree.ElementTree.parse": "expands entities",
    "tempfile.mktemp": "names a file that another may make first",
}
KEYWORDS = {"shell": "starts a shell", "allow_pickle": "unpickles", "trust_remote_code": "runs code of a model's"}
IMPORTED = {"import_module": "imports by a name made at run time"}

# (file, what) -> why it may stand there. One that is not there any more is a red test too.
ALLOWED = {
    ("stages/yamlfile.py", "yaml.load"): "its loader is a SafeLoader that refuses keys given twice",
    ("stages/changes.py", "yaml.load"): "the same loader",
    ("stages/bounds.py", "gzip.GzipFile"): "piece by piece, up to a bound",
    ("stages/lockfile.py", "yaml.load"): "the SafeLoader in C, or in Python where that is not there",
    ("stages/benchmark/tasks.py", "yaml.load"): "a SafeLoader, for lm-eval's own task files",
    (
        "stages/models.py",
        "trust_remote_code",
    ): "as base.trust_remote_code says, which is false unless the user changes it",
    ("stages/given_base.py", "trust_remote_code"): "the same",
    ("stages/backends/_chat.py", "trust_remote_code"): "the same",
    ("stages/benchmark/run.py", "trust_remote_code"): "False, said aloud to lm-eval",
    ("stages/benchmark/candidate.py", "exec"): "HumanEval's programs: in the sandbox, with --allow-code alone",
    ("stages/benchmark/candidate.py", "compile"): "the same",
    ("stages/benchmark/jail.py", "exec"): "in the same sandbox: the task's own text, after the candidate's process",
    ("stages/asking.py", "import_module"): "a rubric's ask.py; the name is one of the folders in stages/rubrics",
    ("stages/backends/__init__.py", "import_module"): "an engine's module; the name is one of the files in its folder",
    ("stages/backends/vllm.py", "import_module"): "vLLM itself, where it is installed",
    (
        "stages/backends/ray.py",
        "import_module",
    ): "the engine that the driver has checked: one of the files in its folder",
    ("stages/running/pipeline.py", "import_module"): "DVC's own parts, by names that stand beside it",
}


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression; empty for another."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inside = dotted(node.value)
        return f"{inside}.{node.attr}" if inside else ""
    return ""


def offences(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """(what, line, why) of all that needs a reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((name, node.lineno, "unpickles") for name in named if name.split(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom):
            hidden = {f"{node.module}.{alias.name}" for alias in node.names} & set(CALLS)
            yield from ((name, node.lineno, f"hides a call that {CALLS[name]}") for name in sorted(hidden))
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS:
                yield name, node.lineno, CALLS[name]
            if name.split(".")[-1] in IMPORTED and not all(isinstance(arg, ast.Constant) for arg in node.args):
                yield name.split(".")[-1], node.lineno, IMPORTED[name.split(".")[-1]]
            for keyword in node.keywords:
                if keyword.arg in KEYWORDS:
                    yield keyword.arg, node.lineno, KEYWORDS[keyword.arg]
                if keyword.arg == "weights_only" and not _is(keyword.value, True):
                    yield "weights_only", node.lineno, "unpickles"
                if keyword.arg == "use_safetensors" and not _is(keyword.value, True):
                    yield "use_safetensors", node.lineno, "may unpickle"


def _is(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


FOUND = [
    (path.relative_to(ROOT).as_posix(), what, line, why)
    for path in SOURCES
    for what, line, why in offences(ast.parse(path.read_text()))
]


def test_nothing_unsafe_stands_in_the_source_without_a_reason() -> None:
    told = [f"{path}:{line}: {what}: {why}" for path, what, line, why in FOUND if (path, what) not in ALLOWED]
    assert told == []


def test_every_reason_is_still_needed() -> None:
    assert set(ALLOWED) <= {(path, what) for path, what, _, _ in FOUND}


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from joblib import load", "import torch\ntorch.load('x')", "eval(text)", "exec(text)"),
        *(
            "from torch import load",
            "f(x, weights_only=False)",
            "f(x, use_safetensors=None)",
            "np.load(f, allow_pickle=True)",
        ),
        *("subprocess.run(text, shell=True)", "os.system(text)", "yaml.load(text)", "importlib.import_module(name)"),
        *("gzip.decompress(x)", "from gzip import decompress", "zlib.decompress(x)", "bz2.open(f)", "lzma.LZMAFile(f)"),
        *("AutoModel.from_pretrained(x, trust_remote_code=True)", "__import__(name)", "yaml.unsafe_load(x)"),
    ],
)
def test_the_search_finds_it(code: str) -> None:
    assert list(offences(ast.parse(code)))


def test_yaml_is_read_by_safe_loaders_alone() -> None:
    import yaml

    from stages.benchmark import tasks
    from stages.yamlfile import UniqueKeys

    assert issubclass(UniqueKeys, yaml.SafeLoader)
    assert "yaml.SafeLoader" in Path(tasks.__file__).read_text()
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/object/apply:os.system ['true']", Loader=UniqueKeys)


def test_programs_are_started_from_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """`subprocess` splits no text here: its first argument is a list, or a name that one was given to."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        lists = {dotted(t) for n in ast.walk(tree) if isinstance(n, ast.Assign) and _list(n.value) for t in n.targets}
        lists |= {arg.arg for n in ast.walk(tree) if isinstance(n, ast.arguments) for arg in n.args if _typed(arg)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and dotted(node.func) in ("subprocess.run", "subprocess.Popen"):
                first = node.args[0]
                assert _list(first) or dotted(first) in lists, f"{path}:{node.lineno}"


def _list(node: ast.AST) -> bool:
    return isinstance(node, ast.List | ast.ListComp) or (
        isinstance(node, ast.BinOp) and (_list(node.left) or _list(node.right))
    )


def _typed(arg: ast.arg) -> bool:
    return arg.annotation is not None and ast.unparse(arg.annotation).startswith("list[")


def test_commands_of_dvc_are_plain() -> None:
    """A `cmd` is words, options and `${...}`; what the plan puts there is seen to in test_names.py."""
    text = re.sub(r">-\n +", "", (ROOT / "dvc.yaml").read_text())
    commands = re.findall(r"cmd: (.+)", text)
    assert len(commands) > 10
    for command in commands:
        assert re.fullmatch(r"python -m stages [\w ${}.-]+", command), command


# --- what is installed ---------------------------------------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    """Package -> version in a file of constraints."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", "--"))]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;,*]+)", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-vllm.txt"])
def test_every_package_is_pinned_once(name: str) -> None:
    known = [re.sub(r"[-_.]+", "-", package).lower() for package in pins(name)]
    assert len(known) == len(set(known)) > 100


def test_what_is_installed_is_what_is_pinned() -> None:
    """Packages that are not here, as those of an extra that was left out, are no difference."""
    wrong = {}
    for package, wanted in pins("constraints.txt").items():
        try:
            here = version(package)
        except PackageNotFoundError:
            continue
        if here.split("+")[0] != wanted.split("+")[0]:  # torch's build for the CPU
            wrong[package] = (here, wanted)
    assert wrong == {}
