"""`claims.md` and `claims.html`: every claim with its numbers and verdict, every seed, made from the tables.

The pages of the set `main` lie in reports/, those of another beside its tables.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from stages import paths
from stages.claims import drawing, map_page, proposals_page, settings, wording
from stages.claims.contrasts import COSTS, Results, read
from stages.claims.findings import NOT_RUN, NOT_SUPPORTED, REFUTED, RULES, SUPPORTED, VERDICTS, Finding, findings
from stages.claims.hypotheses import BESIDE, FIXED, PAPER, SECTIONS, SELF, TRUTH
from stages.claims.statistics import over_seeds
from stages.claims.summary import HOME
from stages.claims.wording import NOTHING
from stages.errors import TsrError
from stages.files import write_text
from stages.reporting import page as run_page
from stages.reporting.figures import Figure, name_of
from stages.reporting.verdicts import number

Row = dict[str, Any]
MAIN = "main"
START, END = "<!-- claims -->", "<!-- /claims -->"  # around what the README quotes
MARKS = {SUPPORTED: "✓", NOT_SUPPORTED: "○", REFUTED: "✗", NOT_RUN: NOTHING}
_TEMPLATES = Path(__file__).parent / "templates"
_JUDGES = {SELF: "each model version itself", FIXED: "M0 throughout", TRUTH: "the true score"}
_TABLES = (  # quantity, title, digits
    ("true_score", "True score of held-out responses", 2),
    ("gap", "Judged gap", 2),
    ("true_gap", "True gap", 2),
    ("upside_down", "Share of pairs that are upside down", 2),
    ("fixed_agreement", "Agreement of the model's judgment with the truth, on the fixed set", 2),
    ("updates", "Updates so far", 0),
    ("tokens", "Tokens so far", 0),
)
_IN_TEXT = ("true_score", "gap", "true_gap", "fixed_agreement")  # of these, in claims.md
_LEARNING = (
    ("cosine", "Cosine of chosen and rejected", "cosine"),
    ("cosine_centred", "The same, centred", "cosine"),
    ("feature_distance", "Distance of the features", "distance"),
    ("gradient_distance", "Distance of the gradients", "distance"),
    ("grad_norm", "DPO's gradient", "norm before clipping"),
    ("margin", "DPO's margin", "reward margin"),
)


def write(into: str) -> list[Path]:
    """Write both pages of a set of results and return their paths. Raises TsrError where it holds none to report."""
    home = HOME / paths.checked(into)
    where = paths.REPORTS if into == MAIN else home
    text, page = pages(home)
    write_text(text, where / "claims.md")
    write_text(page, where / "claims.html")
    return [where / "claims.md", where / "claims.html"]


def pages(home: Path) -> tuple[str, str]:
    """Return Markdown and HTML of a folder's results."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    results, places = read(home), map_page.read(home)
    given = context(results, findings(results)) | {"map": map_page.context(places), "beyond": _beyond(home)}
    environment = Environment(
        autoescape=select_autoescape(["html.j2"]),
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Markup that is ours: the style sheets and the drawings. All else is escaped.
    environment.filters["drawn"] = Markup
    styles = (run_page.TEMPLATES / "report.css").read_text() + (_TEMPLATES / "claims.css").read_text()
    text = environment.get_template("claims.md.j2").render(**given)
    page = environment.get_template("claims.html.j2").render(
        css=styles, figures=figures(results) | {"map": map_page.figure(places)}, **given
    )
    return text, page


def _beyond(home: Path) -> Row | None:
    """Return what became of the proposals, as the templates show it; None where they did not run."""
    beyond = proposals_page.read(home)
    if beyond is None:
        return None
    lists = {name: getattr(beyond, name) for name in ("primary", "beside", "control", "again")}
    scales = {
        key: drawing.span(list(group)) for key, group in _by_scale([one for part in lists.values() for one in part])
    }
    rows = {name: [_row(one, scales[_scale(one)]) for one in part] for name, part in lists.items()}
    return rows | {
        "proposals": proposals_page.told(beyond),
        "ran": _ran(beyond.results, [SELF]),
        "later": _listed(beyond.later) if beyond.later else "",
        "scores": [table for table in _tables(beyond.results, SELF) if table["in_text"]],
        "seeds": sorted(set(beyond.results.runs["seed"])),
    }


def quoted(text: str) -> str:
    """Return what stands between the marks of a page, the marks included. Raises TsrError where they are missing."""
    start, end = text.find(START), text.find(END)
    if start < 0 or end < start:
        raise TsrError(f"expected {START} and, after it, {END}")
    return text[start : end + len(END)]


def context(results: Results, found: Sequence[Finding]) -> Row:
    """Return what both templates are given."""
    scales = {key: drawing.span(list(group)) for key, group in _by_scale(found)}
    rows = [_row(one, scales[_scale(one)]) for one in found]
    judges = [*_JUDGES, *sorted(set(results.runs["judge"]) - set(_JUDGES))]
    return {
        "paper": PAPER,
        "rules": RULES,
        "counts": [(word, sum(one.verdict == word for one in found)) for word in VERDICTS],
        "tally": [_tally(found, beside=False), _tally(found, beside=True)],
        "ran": _ran(results, judges),
        "conditions": _conditions(results),
        "sections": [(name, [row for row in rows if row["section"] == name]) for name in SECTIONS],
        "rows": rows,
        "quoted": [row for row in rows if row["quoted"]],
        "tables": [table for judge in judges for table in _tables(results, judge)],
        "seeds": sorted(set(results.runs["seed"])),
        "marks": [(word, MARKS[word]) for word in VERDICTS if word != NOT_RUN],
        "start": START,
        "end": END,
    }


def _tally(found: Sequence[Finding], *, beside: bool) -> tuple[int, list[tuple[str, int]]]:
    """Return how many claims are the paper's, or asked beside them, and how they came out."""
    own = [one for one in found if one.claim.paper.startswith(BESIDE) == beside]
    return len(own), [(word, sum(one.verdict == word for one in own)) for word in VERDICTS]


def _scale(one: Finding) -> tuple[str, str, bool]:
    """Return which strips share a scale: those of one unit in a section, what is held against M0 or SPIN apart."""
    other = one.claim.ask.points[-1]
    return one.claim.section, wording.unit(one.claim), other.round == 0 or other.arm.startswith("spin")


def _by_scale(found: Sequence[Finding]) -> Iterator[tuple[tuple[str, str, bool], Iterator[Finding]]]:
    return groupby(sorted(found, key=_scale), key=_scale)


def _row(one: Finding, scale: tuple[float, float]) -> Row:
    """Return a finding as the templates show it."""
    claim, seeds, test = one.claim, one.numbers.seeds, one.test
    return {
        "section": claim.section,
        "quoted": claim.quoted,
        "claim": claim.text,
        "paper": claim.paper,
        "compared": wording.compared(claim),
        "bar": f"{'above' if claim.above else 'below'} {wording.worded(claim, claim.bar) if claim.bar else '0'}",
        "measured": wording.measured(one),
        "around": wording.around(one),
        "drawn": wording.between(claim, one.drawn.low, one.drawn.high) if one.drawn else NOTHING,
        "p": wording.chance(one.p),
        "p_t": wording.chance(test.p_t if test else None),
        "p_wilcoxon": wording.chance(test.p_wilcoxon if test else None),
        "ahead": f"{test.ahead} of {test.n}" if test else NOTHING,
        "n": len(seeds),
        "remarks": wording.remarks(one),
        "verdict": one.verdict,
        "mark": MARKS[one.verdict],
        "seeds": {seed: wording.worded(claim, value) for seed, value in seeds.items()},
        "strip": drawing.strip(seeds, one.around, claim.bar, scale, lambda value: wording.worded(claim, value))
        if seeds
        else "",
    }


def _ran(results: Results, judges: Sequence[str]) -> list[tuple[str, str]]:
    """Return what ran under each judge, or that nothing did."""
    told = []
    for judge in judges:
        seeds = results.seeds(judge)
        rounds = dict(results.rounds.filter(judge=judge).group_by("arm").agg(pl.col("round").max()).iter_rows())
        ran = ", ".join(f"{name_of(arm)} {rounds[arm]}" for arm in drawing.in_order(rounds))
        name = f"Judge {judge} ({_JUDGES[judge]})" if judge in _JUDGES else f"Judge {judge}"
        count = f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
        told.append((name, f"{count}: {_listed(seeds)}; rounds: {ran}" if seeds else NOT_RUN))
    return told


def _conditions(results: Results) -> list[tuple[str, str]]:
    """Return what all numbers rest on beside."""
    told = [("Profile", str(results.runs["profile"][0])), *_settings(results), *_first_judge(results)]
    codes = results.runs["code"].n_unique()
    told.append(("Code", "one version" if codes == 1 else f"{codes} versions; see `code` in claims_runs"))
    told.append(
        (
            "Elsewhere",
            "the map and the fresh seeds have code of their own; with --check seeds run anew",
        )
    )
    if results.left_out:
        told.append(("Left out", f"{results.left_out} runs of other settings in the same folder"))
    return told


def _first_judge(results: Results) -> list[tuple[str, str]]:
    """Return how well M0 judges, on which all arms rest and which differs much from seed to seed."""
    known = results.points.filter(quantity="fixed_agreement", judge=SELF, round=0).unique("seed")["value"].to_list()
    if not known:
        return []
    low, mean, high = (f"{100 * value:.0f} %" for value in (min(known), sum(known) / len(known), max(known)))
    return [("M0 as a judge", f"agrees with the truth in {mean} of the fixed responses, from {low} to {high} by seed")]


def _listed(seeds: list[int]) -> str:
    """Return seeds in words: a range where none is missing."""
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole and len(seeds) > 2 else ", ".join(map(str, seeds))


def _settings(results: Results) -> list[tuple[str, str]]:
    """Return the settings that matter, as params.yaml has them, if these runs are of them."""
    first = results.runs.row(0, named=True)
    changed = json.loads(first["changed"])
    asked = [f"{key}={json.dumps(value)}" for key, value in changed.items()]
    try:
        now = settings.read(",".join(set(results.rounds["arm"])), first["judge"], asked)
    except TsrError:  # no params.yaml here, or one without these keys or arms
        now = None
    told = [("Changed", ", ".join(asked))] if asked else []
    if now is None or now.hash != first["settings"]:
        return [*told, ("Settings", f"hash {first['settings']}; params.yaml has others now")]
    return [*told, *((name, value) for name, value in run_page.settings(now.params(0)) if name != "Judge")]


def _tables(results: Results, judge: str) -> Iterator[Row]:
    """Yield a judge's quantities by arm and round: means with intervals, and every seed."""
    for quantity, title, digits in _TABLES:
        here = results.points.filter(quantity=quantity, judge=judge)
        if quantity in COSTS:
            here = here.filter(pl.col("round") > 0)
        if here.height:
            yield {
                "title": f"{title}, judge {judge}",
                "in_text": quantity in _IN_TEXT,
                "rounds": sorted(set(here["round"])),
                "arms": list(_means(here, digits)),
                "seeds": sorted(set(here["seed"])),
                "by_seed": list(_by_seed(here, digits)),
            }


def _means(here: pl.DataFrame, digits: int) -> Iterator[tuple[str, dict[int, str]]]:
    rows = over_seeds(here, ["arm", "round"], "value")
    for arm in drawing.in_order(here["arm"]):
        cells = {}
        for row in rows.filter(arm=arm).to_dicts():
            around = "" if row["low"] is None else f" ({number(row['low'], digits)} to {number(row['high'], digits)})"
            cells[row["round"]] = f"{number(row['mean'], digits)}{around}"
        yield name_of(arm), cells


def _by_seed(here: pl.DataFrame, digits: int) -> Iterator[tuple[str, int, dict[int, str]]]:
    for arm in drawing.in_order(here["arm"]):
        for (round_,), rows in sorted(here.filter(arm=arm).group_by("round")):
            yield name_of(arm), round_, {row["seed"]: number(row["value"], digits) for row in rows.to_dicts()}


def figures(results: Results) -> dict[str, list[Figure]]:
    """Return section -> figures."""
    return {
        "score": list(_panels(results, "true_score", "true score")),
        "cost": list(_cost(results)),
        "gap": list(_gap(results)),
        "learning": list(_learning(results)),
        "judges": list(_judges(results)),
        "drift": list(_panels(results, "fixed_agreement", "exact agreement", percent=True)),
    }


def _panels(results: Results, quantity: str, unit: str, *, percent: bool = False) -> Iterator[Figure]:
    arms = [arm for arm in drawing.in_order(results.rounds["arm"]) if arm != "sft"]  # one point, which all others have
    for arm, chart in drawing.over_rounds(results.points, quantity, SELF, arms, unit, percent=percent).items():
        yield Figure(name_of(arm), "", drawing.markup(chart, f"{unit} of {name_of(arm)} by round, every seed"))


def _figure(title: str, chart: Any) -> Iterator[Figure]:
    if chart is not None:
        yield Figure(title, "", drawing.markup(chart, f"{title}, every seed"))


_RIVALS = ("sr", "tsr")


def _cost(results: Results) -> Iterator[Figure]:
    for cost in COSTS:
        name = wording.COST_NAMES[cost]
        chart = drawing.over_cost(results.points, cost, SELF, _RIVALS, name)
        yield from _figure(f"True score by {name}", chart)


def _gap(results: Results) -> Iterator[Figure]:
    for quantity, title, unit in (
        ("gap", "Judged gap", "judged gap"),
        ("true_gap", "True gap", "true gap"),
        ("upside_down", "Upside-down pairs", "share of pairs"),
        ("yield", "Yield", "share of prompts"),
    ):
        percent = unit.startswith("share")
        chart = drawing.side_by_side(results.points, quantity, SELF, _RIVALS, unit, percent=percent)
        yield from _figure(title, chart)


def _learning(results: Results) -> Iterator[Figure]:
    for quantity, title, unit in _LEARNING:
        yield from _figure(title, drawing.side_by_side(results.points, quantity, SELF, _RIVALS, unit))


def _judges(results: Results) -> Iterator[Figure]:
    for judge in (SELF, FIXED, TRUTH):
        chart = drawing.side_by_side(results.points, "true_score", judge, _RIVALS, "true score")
        yield from _figure(f"Judge {judge}: {_JUDGES[judge]}", chart)
