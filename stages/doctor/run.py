"""All checks, and how their findings are shown."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from stages import changes
from stages.doctor import checks_around, checks_checkout, checks_machine, checks_model
from stages.doctor.facts import Facts
from stages.doctor.finding import LEVELS, Finding, fails, fine
from stages.errors import TsrError

Check = Callable[[Facts], Iterable[Finding]]
# In the order in which their findings are shown, within a level.
CHECKS: tuple[Check, ...] = (
    checks_checkout.the_plan,
    checks_checkout.dvc,
    checks_checkout.git,
    checks_checkout.curves,
    checks_checkout.packages,
    checks_checkout.bytecode,
    checks_checkout.threads,
    checks_model.base_model,
    checks_model.template,
    checks_model.parser,
    checks_model.control_tokens,
    checks_model.score_tokens,
    checks_model.context,
    checks_model.judges,
    checks_around.sources,
    checks_around.servers,
    checks_around.annotators,
    checks_machine.gpu,
    checks_machine.precision,
    checks_machine.gpu_memory,
    checks_machine.memory,
    checks_machine.disk,
    checks_machine.launch,
    checks_machine.batches,
)
FORMATS = ("text", "json")


def run(profile: str = "", form: str = "text", change: Sequence[str] = ()) -> int:
    """Check, print a line for each finding, problems first; return the exit code: 2 if anything would fail, else 0."""
    if form not in FORMATS:
        raise TsrError(f"doctor: --format {form!r}: expected {' or '.join(FORMATS)}")
    found = sorted(dict.fromkeys(findings(profile, change)), key=lambda one: LEVELS.index(one.level))
    for one in found:
        print(one.line() if form == "text" else json.dumps(one.row(), ensure_ascii=False))
    counts = {level: sum(one.level == level for one in found) for level in LEVELS}
    if form == "text":
        told = f"{counts['would fail']} would fail, {counts['note']} to note, {counts['ok']} ok"
        print(f"doctor: {told}")
    return 2 if counts["would fail"] else 0


def findings(profile: str = "", change: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what all checks say of a profile, the one in force if none is named, with `KEY=VALUE` changes."""
    try:
        loaded = changes.load(list(change), "doctor: --set", profile)
    except TsrError as error:
        where, _, told = str(error).partition(": ")
        yield fails(where, told, "that to be mended first: without settings, nothing else can be checked")
        return
    yield fine("params.yaml", f"is valid; profile {loaded.profile}")
    facts = Facts(loaded)
    for check in CHECKS:
        yield from judged(check, facts)


def judged(check: Check, facts: Facts) -> Iterator[Finding]:
    """Yield what a check says; one that breaks is a problem too, in one line."""
    try:
        yield from check(facts)
    except TsrError as error:
        where, _, told = str(error).partition(": ")
        yield fails(where, told) if told else fails(check.__name__, where)
    except Exception as error:  # a check must not hide the others
        told = f"{type(error).__name__}: {error}"[:300]
        yield fails(f"doctor: {check.__name__}", f"this check itself broke: {told}", "a note of it to the project")
