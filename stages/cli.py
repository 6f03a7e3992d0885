"""The `tsr` command: one command a stage, and the tools around them.

Heavy imports happen inside the commands, so that `tsr --help` is quick.
"""

import io
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from stages import stopping
from stages.errors import TsrError, keep_secrets_from_logs, printable, without_secrets

if TYPE_CHECKING:
    from stages.params import Params

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Model = Annotated[str, typer.Argument(help="Model version, e.g. M0 or sr-1.")]
JudgeName = Annotated[str, typer.Argument(metavar="JUDGE", help="Model version that judges.")]
OracleName = Annotated[str, typer.Argument(metavar="ORACLE", help="truth, or origin.")]
Split = Annotated[str, typer.Argument(help="Prompt split, e.g. r0.")]
Learner = Annotated[str, typer.Argument(metavar="NAME", help="Model version that learns, e.g. sr-1.")]
Policy = Annotated[str, typer.Option(help="Model version it starts from; also the reference.")]
JudgeOption = Annotated[str, typer.Option("--judge", help="Model version whose scores count.")]
SplitOption = Annotated[str, typer.Option("--split", help="Prompt split of the round.")]
Own = Annotated[
    str, typer.Option(help="Who answers as the current model; several with commas, or * for all that were scored.")
]
Anchor = Annotated[str, typer.Option(help="Who answers as the past; left out: the same as own.")]
Future = Annotated[str, typer.Option(help="Who answers as the future; left out: the same as own.")]
Second = Annotated[str, typer.Option(help="A judge whose scores stand beside, for strategies that ask two.")]
Format = Annotated[str | None, typer.Option("--format", help="table, csv, json (one object a line) or parquet.")]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="The published judge prompts; left out: own ones.")
]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Only the first so many questions; 0: all.")]
AnswerTokens = Annotated[int, typer.Option(min=1, help="Length of an answer.")]
JudgeTokens = Annotated[int, typer.Option(min=1, help="Length of a judge's reply.")]
Change = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", metavar="KEY=VALUE", help="As if params.yaml said so, e.g. small.base_model=FOLDER."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="File to write, instead of the screen.")]
Replace = Annotated[bool, typer.Option("--replace", help="Let --out put a file in the place of another.")]


# What works on tables that the plan does not make, as imported ones: the rest is the plan's and would mix the two.
ANYWHERE = ("sql", "query", "show", "pair", "dpo", "export", "explore", "import")


@app.callback()
def _common(
    context: typer.Context,
    data: Annotated[
        str, typer.Option("--data", metavar="FOLDER", help="Folder of the tables, e.g. data/imported/NAME.")
    ] = "",
) -> None:
    """Temporal Self-Rewarding as a data-centric pipeline."""
    from stages import paths

    if data:
        os.environ["TSR_DATA"] = data
    if paths.of_the_plan():
        return
    if context.invoked_subcommand not in ANYWHERE:
        told = f"works on the plan's own tables in data, not on those in {paths.data()}"
        raise TsrError(f"{context.invoked_subcommand}: {told} (--data, TSR_DATA); there: {', '.join(ANYWHERE)}")
    if not paths.data().is_dir():
        raise TsrError(f"{paths.data()}: no such folder; expected the tables of a dataset")


def _params() -> "Params":
    """Return params.yaml, having checked that the plan is the one that its arms give, and what DVC's stage reads.

    So a stale plan stops the first stage that runs, not the last.
    """
    from stages import intact, models, params, plan

    loaded = params.load()
    intact.check(loaded, plan.check_agrees(loaded))
    models.let_own_code_run(allowed=getattr(loaded.block.base, "trust_remote_code", False))
    return loaded


def _tell_invented(command: str, name: str) -> None:
    from stages import invented

    if count := invented.count(name):
        typer.echo(f"{command}: {count} of the pairs {name} are on prompts whose text is not known; dpo refuses them")


@app.command()
def plan(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if plan.yaml is out of date.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what no row of the plan makes, trial pairs too.")
    ] = False,
) -> None:
    """Write stages/plan.yaml from arms, judge and rubrics in params.yaml."""
    from stages import params, plan
    from stages.leftovers import leftovers

    loaded = params.load()
    if check:
        plan.check_agrees(loaded)
        return
    built = plan.of(loaded)
    plan.check_judges(built)
    plan.write(built)
    counts = f"{len(built.answers())} answers, {len(built.judges())} judgments, {len(built.learns)} trainings"
    typer.echo(f"{plan.PLAN_FILE}: {counts}")
    stale = leftovers(built.as_dict())
    for path in stale:
        if prune:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        typer.echo(f"{'deleted' if prune else 'in no row of the plan:'} {path}")
    if stale and not prune:
        typer.echo(f"`tsr plan --prune` deletes these {len(stale)}, pairs made by hand among them")


@app.command()
def prepare() -> None:
    """Stage: make prompts and supervised examples."""
    from stages import prepare
    from stages.doctor import early

    loaded = _params()
    early.check_context(loaded)
    prepare.run(loaded.seed, loaded.block.prepare)


@app.command()
def eft(judge: JudgeOption) -> None:
    """Stage: keep the judgments of rated responses whose order agrees with people's, to learn judging from."""
    from stages import eft as stage

    loaded = _params()
    stage.run(loaded.seed, loaded.block.eft, loaded.block.judge.rubric, judge)


@app.command()
def base() -> None:
    """Stage: make the base model and its tokenizer."""
    from stages import base

    loaded = _params()
    base.run(loaded.seed, loaded.block)


@app.command()
def sft() -> None:
    """Stage: train M0 on answers and judgments."""
    from stages import launching, sft

    loaded = _params()
    with launching.alone("M0"):
        if not launching.elsewhere(loaded.block.training):
            sft.run(loaded.seed, loaded.block)


@app.command()
def generate(model: Model, split: Split) -> None:
    """Stage: sample a model version's responses to a prompt split."""
    from stages import generate

    loaded = _params()
    generate.run(loaded.seed, loaded.block, model, split)


@app.command()
def judge(judge: JudgeName, model: Model, split: Split) -> None:
    """Stage: let one model version judge another's responses."""
    from stages import judge as stage

    loaded = _params()
    stage.run(loaded.seed, loaded.block, judge, model, split)


@app.command()
def score(judge: JudgeName, model: Model, split: Split) -> None:
    """Stage: parse judgments into scores."""
    from stages import score as stage

    stage.run(_params().block, judge, model, split)


@app.command()
def refer(split: Split) -> None:
    """Stage: let the reference answers of a prompt split be responses among others."""
    from stages import refer as stage

    _params()
    stage.run(split)


@app.command()
def oracle(judge: OracleName, model: Model, split: Split) -> None:
    """Stage: score responses by a judge that knows: the truth, or the origin of a response."""
    from stages import oracle as stage

    stage.run(_params().block, judge, model, split)


@app.command()
def pair(
    name: Learner,
    strategy: Annotated[
        str, typer.Option(help="A name in stages/sql/strategies, or a file of your own that ends in .sql.")
    ],
    judge: JudgeOption,
    split: SplitOption,
    own: Own,
    anchor: Anchor = "",
    future: Future = "",
    second: Second = "",
) -> None:
    """Stage: make preference pairs of the candidates."""
    from stages import pair as stage
    from stages import plan
    from stages.candidates import Sides

    sides = Sides(judge, split, own, anchor or own, future or own, second)
    plan.check_free(name)
    stage.run(_params().block.pair, name, strategy, sides)
    _tell_invented("pair", name)


@app.command()
def dpo(
    name: Learner,
    policy: Policy,
    steps: Annotated[int, typer.Option(min=0, help="Stop after so many steps, for a trial; 0: all epochs.")] = 0,
    replay: Annotated[
        int, typer.Option(min=-1, help="Judging examples beside the pairs of a step; -1: as params.yaml says.")
    ] = -1,
) -> None:
    """Stage: train a model version on its pairs."""
    from stages import dpo as stage
    from stages import invented, launching, paths, plan

    loaded = _params()
    paths.model(policy)  # refused before anything is written: a lock already is
    if not paths.of_the_plan():
        plan.check_no_model(name)
        invented.refuse(name)
    with launching.alone(name):
        if not launching.elsewhere(loaded.block.training):
            stage.run(loaded.seed, loaded.block, name, policy, steps, None if replay == plan.AS_SET else replay)


@app.command()
def tune(name: Learner, policy: Policy) -> None:
    """Stage: train a model version on its chosen responses alone."""
    from stages import launching
    from stages import tune as stage

    loaded = _params()
    with launching.alone(name):
        if not launching.elsewhere(loaded.block.training):
            stage.run(loaded.seed, loaded.block, name, policy)


@app.command()
def measure(
    name: Learner, policy: Policy, judge: JudgeOption, split: SplitOption, own: Own, anchor: Anchor, future: Future
) -> None:
    """Stage: measure one round's pairs and what was learned from them."""
    from stages import measure as stage
    from stages.candidates import Sides

    stage.run(_params().block, name, policy, Sides(judge, split, own, anchor, future))


@app.command()
def evaluate(model: Model, judge: JudgeOption) -> None:
    """Stage: evaluate a model version on held-out prompts, and its judge on the fixed responses."""
    from stages import evaluate as stage

    loaded = _params()
    stage.run(loaded.seed, loaded.block, model, judge)


@app.command()
def report() -> None:
    """Stage: write reports/index.html from the tables of the plan's rows."""
    from stages import report as stage

    stage.run(_params())


@app.command()
def run(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET...", help="Stages, with all they rest on; left out: all.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, help="Stages side by side; left out: slots.cpu of params.yaml."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the stages that changed.")] = False,
    pull: Annotated[
        bool, typer.Option("--pull", help="Fetch from the DVC remote what others made, and what is needed of it.")
    ] = False,
) -> None:
    """Run what changed, as `dvc repro` does, but stages that are ready side by side."""
    from stages.running import run as tool

    raise typer.Exit(tool.run(_params(), targets or [], jobs or 0, dry=dry_run, pull=pull))


@app.command()
def verify(
    partial: Annotated[bool, typer.Option("--partial", help="Outputs may be absent, as after a partial pull.")] = False,
) -> None:
    """Rehash all outputs against dvc.lock and check the tables against each other."""
    from stages import verify as tool

    tool.run(_params(), partial=partial)


@app.command()
def doctor(
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="A block of params.yaml; left out: the one in force.")
    ] = "",
    change: Change = None,
    form: Annotated[str, typer.Option("--format", help="text, or json: one object a line.")] = "text",
) -> None:
    """Say what would fail in this environment before anything is spent; exit code 2 if anything would."""
    from stages.doctor import run as tool

    raise typer.Exit(tool.run(profile, form, change or []))


@app.command()
def health(
    arms: Annotated[
        list[str] | None, typer.Argument(metavar="ARM...", help="Show all signals of these arms; left out: verdicts.")
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option("--fail-on", metavar="LEVEL", help="Exit with 1 if a round is at watch, or collapsing, or worse."),
    ] = "",
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", metavar="FILE", help="Your limits, where they differ.")
    ] = None,
    claims: Annotated[
        str, typer.Option("--claims", metavar="NAME", help="How warnings fared over the seeds in reports/claims/NAME.")
    ] = "",
    form: Annotated[str, typer.Option("--format", help="text, or json: one object a line.")] = "text",
) -> None:
    """Say round by round whether the learning signal is collapsing: gap, yield, judge, length, each with its limits."""
    from stages.health import run as tool

    raise typer.Exit(tool.run(_params(), tool.Asked(tuple(arms or ()), thresholds, claims, fail_on, form)))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A query; left out, with no --file: a prompt for queries.")] = "",
    file: Annotated[str, typer.Option("--file", "-f", help="A file that holds the query.")] = "",
    form: Format = None,
    out: Out = None,
    replace: Replace = False,
    read: Annotated[
        list[Path] | None, typer.Option("--read", metavar="FOLDER", help="A folder whose files queries may read too.")
    ] = None,
) -> None:
    """Query the tables in SQL, read-only.

    Views: prompts, generations, judgments, scores, candidates, pairs, dropped, measures, models, rounds.
    """
    from stages import output, shell, sqlrun, views

    if query and file:
        raise TsrError("sql: expected a query or --file, not both")
    with views.open_views(read or []) as db:
        if not query and not file and sys.stdin.isatty():
            shell.shell(db)
            return
        piped = "" if file or query else sys.stdin.buffer.read().decode(errors="surrogateescape")
        text = sqlrun.read_text(Path(file)) if file else query or piped
        rows = views.ask(db, text, file or "query")
    if rows is not None:
        output.put(rows, form, out, replace=replace)


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def query(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A named query; left out: the list of them.")] = "",
    form: Format = None,
    out: Out = None,
    replace: Replace = False,
    asked: Annotated[bool, typer.Option("--help", help="Show this message, or a query's parameters.")] = False,
) -> None:
    """Run a named query; its parameters are options, as `tsr query` and `tsr query NAME --help` list them."""
    from stages import output, queries

    if not name:
        typer.echo(context.get_help() if asked else "\n".join(known.usage() for known in queries.all_queries()))
        return
    wanted = queries.find(name)
    if asked:
        typer.echo(wanted.help())
        return
    output.put(queries.run(wanted, queries.values_of(wanted, context.args)), form, out, replace=replace)


@app.command()
def show(
    pair_id: Annotated[str, typer.Argument(help="Id of a pair, or its first letters.")],
    form: Annotated[str, typer.Option("--format", help="text, or json: one object.")] = "text",
) -> None:
    """Tell one pair's story: prompt, both responses, every vote, weights and seeds."""
    from stages import show as tool

    tool.show(pair_id, form)


@app.command()
def targets(
    arm: Annotated[str, typer.Argument(help="Only what this arm rests on, e.g. tsr.")] = "",
    models: Annotated[bool, typer.Option("--models", help="The weights too.")] = False,
) -> None:
    """Print what to name to `dvc push` or `dvc pull`: the tables without the weights, of all arms or of one."""
    from stages import plan
    from stages import targets as tool

    typer.echo(" ".join(tool.targets(plan.read(), arm, models=models)))


@app.command()
def export(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Pairs files, e.g. tsr-2; or a model version.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder.")],
    form: Annotated[str, typer.Option("--format", help="hf: Hugging Face dataset; alpaca_eval: model outputs.")] = "hf",
    extra: Annotated[str, typer.Option("--with", help="hf: also prompts,generations,judgments,scores,dropped.")] = "",
    licence: Annotated[
        str, typer.Option("--license", help="hf: licence of the rows, as the Hub names it; left out: unknown.")
    ] = "",
    split: Annotated[str, typer.Option("--split", help="alpaca_eval: prompt split, e.g. eval.")] = "",
    sample: Annotated[
        int | None, typer.Option("--sample", min=0, help="alpaca_eval: which sample of each prompt; left out: 0.")
    ] = None,
    best: Annotated[str, typer.Option("--best", metavar="JUDGE", help="alpaca_eval: the best by this judge.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of an earlier export.")] = False,
) -> None:
    """Write pairs as a Hugging Face dataset folder, or responses as AlpacaEval's model_outputs.json."""
    from stages.exporting import alpaca_eval, card, hugging_face

    if form == "hf":
        if split or best or sample is not None:
            raise TsrError("export: --split, --sample and --best go with --format alpaca_eval")
        listed = [table.strip() for table in extra.split(",") if table.strip()]
        hugging_face.export(names, to, extra=listed, licence=licence or card.UNKNOWN, replace=replace)
        for name in names:
            _tell_invented("export", name)
    elif form == "alpaca_eval":
        if len(names) != 1 or not split or extra or licence:
            raise TsrError("export: --format alpaca_eval takes one model version and --split, no --with or --license")
        if best and sample is not None:
            raise TsrError("export: --sample or --best, expected one of them")
        alpaca_eval.export(names[0], split, to, sample=sample or 0, best=best, replace=replace)
    else:
        raise TsrError(f"export: --format {form!r}: expected hf or alpaca_eval")


@app.command()
def tournament(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help="Model versions; none: all that have responses.")
    ] = None,
    judge: Annotated[str, typer.Option("--judge", help="Who judges; left out: the run's judge, or M0 for self.")] = "",
    rubric: Annotated[
        str, typer.Option(help="pairwise, or one that scores; left out: pairwise, but the run's own for micro.")
    ] = "",
    split: Annotated[str, typer.Option("--split", help="Prompt split.")] = "eval",
    samples: Annotated[int, typer.Option(min=1, help="Samples of each prompt that play.")] = 1,
    resamples: Annotated[int, typer.Option(min=100, help="Draws of the prompts, for the intervals.")] = 1000,
) -> None:
    """Let model versions play against each other on held-out prompts, and rank them."""
    from stages.tournament import run as tool

    tool.run(_params(), models or [], judge=judge, rubric=rubric, split=split, samples=samples, resamples=resamples)


@app.command()
def benchmark(
    model: Model,
    tasks: Annotated[str, typer.Option("--tasks", help="With commas, e.g. gsm8k,arc_challenge,truthfulqa_mc2.")] = "",
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Local files of the data; left out: the hub.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Only the first so many items; 0: all.")] = 0,
    chat: Annotated[bool, typer.Option("--chat/--no-chat", help="Ask through the chat template.")] = True,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="HumanEval: run code that the model writes.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests that run side by side.")] = 8,
    code_seconds: Annotated[float, typer.Option(min=1, help="HumanEval: time of one program.")] = 10.0,
) -> None:
    """Evaluate a model version on GSM8K, ARC-Challenge, TruthfulQA or HumanEval, with lm-eval."""
    from stages.benchmark import run as tool

    how = tool.How(source, limit, chat, allow_code, batch_size, code_seconds)
    tool.run(_params().block.backends["transformers"], model, tasks, how)


@app.command("arena-hard")
def arena_hard(
    model: Model,
    judge: Annotated[str, typer.Option("--judge", help="Who judges: a folder in data/models.")],
    questions: Annotated[Path, typer.Option("--questions", metavar="FILE", help="The published question.jsonl.")],
    baseline: Annotated[
        str, typer.Option("--baseline", help="A published file of answers, .jsonl; or a model version.")
    ],
    prompts: Prompts = None,
    limit: Limit = 0,
    answer_tokens: AnswerTokens = 4096,
    judge_tokens: JudgeTokens = 4096,
) -> None:
    """Grade a model version on Arena-Hard: its answers against a baseline's, by a judge."""
    from stages.chat_bench import arena_hard as tool

    sizes = {"limit": limit, "answer_tokens": answer_tokens, "judge_tokens": judge_tokens}
    tool.run(_params(), model, judge=judge, questions=questions, baseline=baseline, prompts=prompts, **sizes)


@app.command("mt-bench")
def mt_bench(
    model: Model,
    judge: Annotated[str, typer.Option("--judge", help="Who judges: a folder in data/models.")],
    questions: Annotated[Path, typer.Option("--questions", metavar="FILE", help="The published question.jsonl.")],
    references: Annotated[
        Path | None, typer.Option("--references", metavar="FILE", help="The published reference answers.")
    ] = None,
    prompts: Prompts = None,
    limit: Limit = 0,
    answer_tokens: AnswerTokens = 1024,
    judge_tokens: JudgeTokens = 2048,
) -> None:
    """Grade a model version on MT-Bench: answers to two turns, from 1 to 10 by a judge."""
    from stages.chat_bench import mt_bench as tool

    sizes = {"limit": limit, "answer_tokens": answer_tokens, "judge_tokens": judge_tokens}
    tool.run(_params(), model, judge=judge, questions=questions, references=references, prompts=prompts, **sizes)


@app.command("alpaca-eval")
def alpaca_eval(
    model: Model,
    split: Annotated[str, typer.Option("--split", help="Prompt split that it has answered.")],
    reference: Annotated[
        str, typer.Option("--reference", help="A published file of outputs, .json; or a model version.")
    ],
    annotator: Annotated[
        str, typer.Option("--annotator", help="One of alpaca-eval's, or a .yaml file of its form.")
    ] = "weighted_alpaca_eval_gpt4_turbo",
    judge: Annotated[
        str, typer.Option("--judge", help="A folder with endpoint.json, asked in place of the annotator's model.")
    ] = "",
    gamed: Annotated[
        Path | None, typer.Option("--gamed", metavar="FILE", help="The published df_gamed.csv; left out: the hub.")
    ] = None,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Which sample of each prompt.")] = 0,
    limit: Limit = 0,
) -> None:
    """Compare a model version's responses with a reference's by AlpacaEval 2.0: win rate, length-controlled too."""
    from stages.chat_bench import alpaca_eval as tool

    how = {"annotator": annotator, "judge": judge, "gamed": gamed, "sample": sample, "limit": limit}
    tool.run(_params(), model, split=split, reference=reference, **how)  # type: ignore[arg-type]


@app.command()
def forecast(
    profile: Annotated[str, typer.Option("--profile", help="A block of params.yaml; left out: the one in force.")] = "",
    gpu: Annotated[str, typer.Option("--gpu", metavar="NAME", help="E.g. rtx-4090, a100-80, h100-80.")] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The base model's config.json, where it is not here."),
    ] = None,
    timings: Annotated[
        Path | None, typer.Option("--timings", metavar="FILE", help="Of finished stages: TSR_TIMINGS=FILE wrote them.")
    ] = None,
    rate: Annotated[
        list[str] | None, typer.Option("--rate", metavar="STAGE=NUMBER", help="Tokens a second of a kind of stage.")
    ] = None,
    assume: Annotated[
        list[str] | None, typer.Option("--assume", metavar="NAME=NUMBER", help="In place of what is taken for granted.")
    ] = None,
    change: Change = None,
    form: Annotated[str, typer.Option("--format", help="text, or json: one object.")] = "text",
) -> None:
    """Tell what a run will take before it starts: tokens, hours, memory, disk; and what is there already."""
    from stages import changes
    from stages.forecast import told
    from stages.forecast.forecast import How
    from stages.forecast.forecast import forecast as tool

    if form not in ("text", "json"):
        raise TsrError(f"forecast: --format {form!r}: expected text or json")
    how = How(profile, gpu, config, timings, tuple(assume or ()), tuple(rate or ()), changed=bool(change))
    told.put(tool(changes.load(change, "forecast: --set") if change else _params(), how), form)


@app.command()
def claims(
    seeds: Annotated[int, typer.Option(min=0, help="How many; 0: 10, or as the map and the proposals say.")] = 0,
    first: Annotated[
        int, typer.Option("--from", min=0, help="The first; the next ones follow. 0: 1, or the same.")
    ] = 0,
    arms: Annotated[
        str, typer.Option(help="With commas, e.g. sr,tsr=3: NAME or NAME=ROUNDS; left out: all, your own too.")
    ] = "",
    judge: Annotated[str, typer.Option("--judge", help="self, M0, truth; left out: as params.yaml says.")] = "",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", "-S", metavar="KEY=VALUE", help="Change a setting, e.g. micro.dpo.learning_rate=2e-4."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Seeds that run side by side.")] = 2,
    into: Annotated[str, typer.Option(metavar="NAME", help="Folder of the tables, in reports/claims.")] = "main",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what later calls with more arms could use: 30 MB a seed.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Run seeds that are there anew, and hold them against their tables.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Run nothing: write the pages of the tables there.")] = False,
    whole_map: Annotated[
        bool, typer.Option("--map", help="Run the settings of stages/claims/map.yaml, into reports/claims/map.")
    ] = False,
    beyond: Annotated[
        bool, typer.Option("--beyond", help="Run those of stages/claims/proposals.yaml, into reports/claims/beyond.")
    ] = False,
) -> None:
    """Run chosen arms over many seeds, without DVC; goes on where it was stopped."""
    from stages.claims import map_points, proposals
    from stages.claims import run as tool

    if (whole_map or beyond) and (
        arms or judge or change or report or into != "main" or whole_map is beyond or (whole_map and check)
    ):
        file = "map.yaml" if whole_map else "proposals.yaml"
        told = "expected no --arms, --judge, -S, --report or --into beside it, and with --map no --check or --beyond"
        raise TsrError(f"claims: stages/claims/{file} says what runs; {told}")
    if report:
        tool.report(into)
    elif whole_map:
        points = map_points.read()
        tool.run_map(points, tool.Asked(first or 1, seeds or points.seeds, workers, map_points.NAME, keep, check))
    elif beyond:
        wanted = proposals.read()
        from_, count = first or wanted.first, seeds or wanted.seeds
        tool.run_proposals(wanted, tool.Asked(from_, count, workers, proposals.NAME, keep, check))
    else:
        tool.run(arms, judge, change or [], tool.Asked(first or 1, seeds or 10, workers, into, keep, check))


@app.command()
def explore(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8718,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser window.")] = True,
) -> None:
    """Show the pairs in a browser: filters, both responses side by side, every vote."""
    from stages.browsing import server

    server.serve(port, browser=browser)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
) -> None:
    """Free finished rows that no stage of the plan and no tool uses, and checkpoints that no training goes on from."""
    from stages import gc as tool
    from stages import params, plan

    loaded = params.load()
    tool.run(plan.check_agrees(loaded), dry_run=dry_run)


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="Name of the dataset: a folder in data/imported.")] = "",
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="Source files, or PART=FILE to say what each is.")
    ] = None,
    mapping: Annotated[str, typer.Option(help="A ready-made mapping, or a .yaml file of your own.")] = "",
    split: Annotated[str, typer.Option(help="Put all prompts into this split, whatever the mapping says.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of a dataset of that name.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Only show the ready-made mappings.")] = False,
) -> None:
    """Turn generations and judgments from elsewhere into tables, in data/imported/NAME."""
    from stages.importing import mapping as mappings
    from stages.importing import run as tool

    if show:
        made = mappings.ready_made()
        typer.echo("\n".join(f"{one:<{max(map(len, made))}}  {about}" for one, about in made.items()))
        return
    if not (name and files and mapping):
        raise TsrError("import: expected NAME FILE... --mapping MAPPING; `tsr import --list` shows the ready-made ones")
    tool.run(name, files, mapping, split, replace=replace)


def main() -> None:
    """Run the command line; a TsrError becomes one line and exit code 2."""
    if timings := os.environ.get("TSR_TIMINGS"):
        from stages.timing import record_at_exit

        record_at_exit(Path(timings))
    _settle_output()
    keep_secrets_from_logs()
    stopping.in_order()
    if starter := os.environ.get("TSR_LAUNCHED"):  # one of the processes that train together
        stopping.with_starter(int(starter))
    try:
        for word in sys.argv:
            if any("\ud800" <= letter <= "\udfff" for letter in word):
                raise TsrError(f"argument {word!r}: is no UTF-8 text")
        try:
            app()
        finally:
            sys.stdout.flush()
    except TsrError as error:
        print(f"tsr: {printable(without_secrets(str(error)))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is not None:  # of a file or folder that may not be read or written, or a name too long
            print(f"tsr: {printable(without_secrets(str(error.filename)))[:200]}: {error.strerror}", file=sys.stderr)
            sys.exit(2)
        if error.errno is None:  # no system call's: a library's own, such as a connection's
            _tell_fault()
        print(f"tsr: output: {error.strerror}", file=sys.stderr)
        os._exit(2)  # the output is full, and what is left of it cannot go anywhere
    except Exception as error:  # a full disk as a library tells it, or a fault of ours
        from stages.files import unwritten

        if not (why := unwritten(error)):
            _tell_fault()
        print(f"tsr: {' '.join(sys.argv[1:])[:200]}: a file cannot be written: {why}", file=sys.stderr)
        sys.exit(2)


def _tell_fault() -> NoReturn:
    """Print the traceback at hand, without secrets, and end: what a library says may repeat a URL or a key."""
    print(without_secrets(traceback.format_exc()), end="", file=sys.stderr)
    sys.exit(1)


def _settle_output() -> None:
    """Let no encoding and no closed stream of the caller's make a result fail."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
