"""Tool forecast: what a profile's run will take, and what of it is there already."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages import paths, plan
from stages.errors import TsrError
from stages.forecast import assumed as assumptions
from stages.forecast import disk, done, lengths, memory, shape, speed, work
from stages.params import MADE, Params, Profile

BENCHMARKS = Path("reports/benchmarks.json")


@dataclass(frozen=True)
class How:
    """What the user gave: a profile, a GPU, a config.json, a file of timings, assumptions, rates.

    `changed`: settings too, for this forecast alone; what was made with those of params.yaml is then not done.
    """

    profile: str = ""
    gpu: str = ""
    config: Path | None = None
    timings: Path | None = None
    assume: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    changed: bool = False


@dataclass(frozen=True)
class Forecast:
    """All that is told. `seconds` are of whole tasks, None where they cannot be known."""

    profile: str
    changed: bool
    shape: shape.Shape
    gpu: memory.Gpu | None
    chosen: bool  # the GPU was named, not assumed
    machine: speed.Machine
    rates: speed.Rates
    tasks: list[work.Task]
    seconds: list[float | None]
    peaks: list[memory.Peak]
    rooms: list[disk.Room]
    lengths: lengths.Lengths
    assumed: assumptions.Assumed


def forecast(params: Params, how: How) -> Forecast:
    """Return the forecast. Raises TsrError for a profile, GPU, model or value that is not known."""
    name = how.profile or params.profile
    profile = _profile(params, name)
    given = assumptions.numbers(list(how.assume), "--assume", list(assumptions.DEFAULTS))
    rates_given = assumptions.numbers(list(how.rates), "--rate", speed.kinds())
    assumed = assumptions.Assumed(given)
    in_force = name == params.profile
    recorded = done.recorded(name) if in_force else {}
    of_model = _shape(profile, how.config, name, recorded)
    launch = memory.launch_of(profile)
    planned = plan.of(params)
    judges = _judges(planned)
    gpu = _gpu(how.gpu, of_model, profile, launch, assumed, judges)
    measured = lengths.of(profile, recorded, assumed)
    tasks = work.tasks(profile, planned.as_dict(), measured, assumed)
    if in_force and not how.changed:
        tasks = _marked(params.seed, profile, tasks)
    machine = speed.Machine(of_model, profile, gpu, launch.processes, assumed, measured, judges)
    finished = [task for task in tasks if task.done]
    rates = _rates(how.timings, finished, rates_given, cpu=gpu is None)
    return Forecast(
        profile=name,
        changed=how.changed,
        shape=of_model,
        gpu=gpu,
        chosen=bool(how.gpu),
        machine=machine,
        rates=rates,
        tasks=tasks,
        seconds=[machine.seconds(task, rates) for task in tasks],
        peaks=memory.peaks(of_model, profile, launch, gpu, assumed, judges),
        rooms=disk.rooms(profile, of_model, tasks, assumed, of_this=bool(recorded) and not how.changed),
        lengths=measured,
        assumed=assumed,
    )


def _profile(params: Params, name: str) -> Profile:
    if name not in params.profiles:
        raise TsrError(f"--profile {name}: no block {name!r} in params.yaml; there are: {', '.join(params.profiles)}")
    profile = params.profiles[name]
    for arm, rounds in params.arms.rounds.items():
        if rounds > profile.prepare.splits:
            raise TsrError(
                f"params.yaml: arms.{arm}: {rounds} rounds need the prompt splits r0 .. r{rounds - 1}; "
                f"{name}.prepare.splits is {profile.prepare.splits}"
            )
    return profile


def _shape(profile: Profile, config: Path | None, name: str, recorded: dict[str, Any]) -> shape.Shape:
    """Return the model's shape: of a file that is named, of the base model that is there, of its folder, or known."""
    if config:
        return shape.of_file(config)
    taken = recorded["base"].params.get(f"{name}.base_model") if "base" in recorded else None
    if taken == profile.base_model and (paths.model("base") / "config.json").is_file():
        return replace(shape.of_file(paths.model("base")), name=profile.base_model.partition("@")[0])
    if profile.base_model == MADE:
        return shape.made(profile.base)
    folder = Path(profile.base_model)
    return shape.of_file(folder) if folder.is_dir() else shape.of_hub(profile.base_model)


def _marked(seed: int, profile: Profile, tasks: list[work.Task]) -> list[work.Task]:
    """Return the tasks of the profile in force with what is there already."""
    there = done.of_dvc()

    def marked(task: work.Task) -> work.Task:
        if task.name in there.finished:
            return replace(work.as_it_was(task, profile), done=True)
        if task.name in there.ready and task.asked:
            return replace(task, kept=done.kept_rows(seed, profile, task.kind, task.row))
        return task

    return [marked(task) for task in tasks]


def _judges(planned: plan.Plan) -> dict[str, shape.Shape]:
    """Return the judges and teachers that are folders of the user's with weights, by name, with their shapes."""
    names = {judge for judge, _, _ in planned.judges()} - {plan.BASE, *planned.models}
    folders = {name: paths.model(name) for name in sorted(names)}
    return {name: shape.of_file(folder) for name, folder in folders.items() if (folder / "config.json").is_file()}


def _gpu(
    name: str,
    of_model: shape.Shape,
    profile: Profile,
    launch: memory.Launch,
    assumed: Any,
    judges: dict[str, shape.Shape],
) -> memory.Gpu | None:
    """Return the GPU that is named; else none for a profile of the CPU, else the smallest that every stage fits."""
    if name:
        return memory.find_gpu(name)
    engines = {profile.backends[profile.engine_name(role.backend)] for role in (profile.generate, profile.judge)}
    if profile.training.device == "cpu" and all(getattr(one, "device", "cpu") == "cpu" for one in engines):
        return None
    known = list(memory.known_gpus().values())
    for gpu in known:
        if all(fits(peak, gpu) for peak in memory.peaks(of_model, profile, launch, gpu, assumed, judges)):
            return gpu
    return known[-1]


def fits(peak: memory.Peak, gpu: memory.Gpu) -> bool:
    """Return whether a stage's peak is within a GPU's memory, and an engine within its share of it."""
    return peak.total <= gpu.gib * memory.GIB and not peak.starved


def _rates(timings: Path | None, finished: list[work.Task], given: dict[str, float], *, cpu: bool) -> speed.Rates:
    """Return the rates: given ones before measured ones; `make bench` measured on a CPU."""
    found = speed.of_timings(timings, finished) if timings else None
    if found is None and cpu:
        found = speed.of_benchmarks(BENCHMARKS, finished)
    found = found or speed.Rates()
    return replace(found, tokens=found.tokens | given)
