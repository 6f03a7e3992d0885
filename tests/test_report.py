"""The report on small made-up runs: no model runs, every table is written by the test."""

import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages import measure, pair, params, paths, plan, report, tables
from stages.candidates import Sides, read_candidates
from stages.errors import TsrError
from stages.ids import content_id, file_sha256, prompt_id
from stages.metrics import write_json
from stages.parsing import Reading, score
from stages.reporting.asides import best_round, judge_drift
from stages.reporting.charts import slim
from stages.reporting.claims import Facts, comparisons, findings
from stages.reporting.judging import judging_rows
from stages.reporting.lineage import ancestors, homes, side_of
from stages.reporting.page import settings
from stages.reporting.report_data import BENCHMARKS, read_run
from stages.reporting.side_by_side import marked
from stages.reporting.verdicts import (
    CONTRARY,
    NBSP,
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    Estimate,
    falls,
    keeps,
    minus,
    rises,
    told,
)
from stages.truth import true_scores

REPO = Path(__file__).parent.parent
HOSTILE = "<script>alert(1)</script>"


# --- verdicts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "se", "rise", "fall", "keep"),
    [
        (0.5, 0.1, SUPPORTED, CONTRARY, SUPPORTED),
        (-0.5, 0.1, CONTRARY, SUPPORTED, CONTRARY),
        (0.2, 0.1, NOT_SUPPORTED, NOT_SUPPORTED, SUPPORTED),  # exactly two standard errors do not count
        (-0.1, 0.1, NOT_SUPPORTED, NOT_SUPPORTED, SUPPORTED),
        (0.0, 0.0, NOT_SUPPORTED, NOT_SUPPORTED, SUPPORTED),
        (9.0, None, NOT_SUPPORTED, NOT_SUPPORTED, NOT_SUPPORTED),  # an unknown error is never clear
    ],
)
def test_verdicts(change, se, rise, fall, keep):
    found = Estimate(change, se)
    assert (rises(found), falls(found), keeps(found)) == (rise, fall, keep)


def test_difference_adds_errors_in_squares_and_unknown_stays_unknown():
    assert minus(Estimate(1.0, 0.3), Estimate(0.0, 0.4)) == Estimate(1.0, 0.5)
    assert minus(Estimate(1.0, None), Estimate(0.0, 0.4)).se is None


def test_told_names_the_bar_and_has_no_minus_zero():
    assert told(Estimate(-0.001, 0.1)) == "0.00\u00a0±\u00a00.10, within two standard errors"
    assert "more than two" in told(Estimate(-1.0, 0.1))
    assert "unknown" in told(Estimate(1.0, None))


def test_findings_name_what_did_not_run():
    sr = {"gap": [Estimate(2.0, 0.1), Estimate(1.0, 0.1)], "cosine": [Estimate(0.5, 0.01)]}
    found = {f.claim: f for f in findings(Facts({"sr": sr}, {"sr": ["M0", "sr-1", "sr-2"]}, {}, {}))}
    assert found["Self-Rewarding's judged gap shrinks over the rounds"].verdict == SUPPORTED
    assert found["TSR keeps the judged gap"].verdict == NOT_TESTED
    assert "one round" in found["In Self-Rewarding the cosine of chosen and rejected rises"].text
    assert "ground truth" in found["Self-Rewarding improves on M0"].text
    assert "tsr" in found["TSR beats Self-Rewarding after as many rounds"].text
    assert not [claim for claim in found if "true gap" in claim]


def test_contrary_is_said():
    lines = {"sr": ["M0", "sr-1", "sr-2"], "tsr": ["M0", "tsr-1"]}
    ahead = dict.fromkeys(comparisons(lines), Estimate(-1.0, 0.1))
    found = {f.claim: f.verdict for f in findings(Facts({}, lines, ahead, {"sr": 100, "tsr": 150}))}
    assert found["TSR after its 1 round beats Self-Rewarding after its 2 rounds"] == CONTRARY


def test_asides_speak_only_where_there_is_something_to_say():
    assert (
        best_round("SR", ["M0", "a", "b"], [1.0, 3.0, 2.0])
        == "SR is best after round 1 (a, 3.00) and ends at 2.00 (b)."
    )
    assert best_round("SR", ["M0", "a"], [1.0, 3.0]) == ""
    assert best_round("SR", ["M0", "a"], [None, None]) == ""
    assert "within two standard errors" in judge_drift(
        "SR", [0.8, 0.7, None], [0.8, 0.79], (Estimate(-0.01, 0.02), None)
    )
    assert "higher" in judge_drift("SR", [0.8, 0.7], [0.8, 0.7], (Estimate(-0.1, 0.02), Estimate(0.2, 0.05)))
    assert judge_drift("SR", [0.8], [0.8], None) == ""


@pytest.mark.parametrize(("text", "other"), list(product(["", "abc", "abd", "xabcx", "a\nb"], repeat=2)))
def test_marks_lose_no_character(text, other):
    parts = marked(text, other)
    assert "".join(piece for piece, _ in parts) == text
    assert any(differs for _, differs in parts) <= (text != other)


def test_slim_leaves_text_alone():
    assert slim('<svg xmlns="x"><text x="1.23456">1.23456</text></svg>') == '<svg><text x="1.23">1.23456</text></svg>'


# --- a made-up run --------------------------------------------------------------------------------------------


def digit(*parts: object) -> int:
    return int(content_id("test", *parts), 16) % 6


def make_prompts(split: str, source: str) -> pl.DataFrame:
    rows = []
    for i in range(8):
        messages = [{"role": "user", "content": f"next abcde{'abcdefgh'[i]}"}]
        messages = messages if split == "r0" else [{"role": "system", "content": split}, *messages]
        row = {"prompt_id": prompt_id(messages), "split": split, "source": source, "messages": messages}
        rows.append(row | {"reference": None, "meta": "{}"})
    return tables.frame("prompts", rows)


def make_generations(model: str, prompts: pl.DataFrame) -> pl.DataFrame:
    fixed = {"model": model, "model_hash": model, "seed": 1, "backend": "test", "finish_reason": "stop", "status": "ok"}
    rows = []
    for pid, sample in product(prompts["prompt_id"], range(3)):
        right = digit("truth", model, pid, sample)
        response = "bcdefg"[:right] + "z" * (6 - right) if sample else HOSTILE
        gid = content_id("generation", model, pid, sample)
        rows.append(
            {"generation_id": gid, "prompt_id": pid, "sample_id": sample, "response": response, **fixed}
            | {"prompt_tokens": 9, "response_tokens": 7, "logprob_sum": -1.0}
        )
    return tables.frame("generations", rows)


def make_judgments(judge: str, generations: pl.DataFrame) -> pl.DataFrame:
    """Replies, and what the distribution says where their score stands: 3/4 it, 1/4 the one below; of 0, only little.

    A reply without a score has no such place.
    """
    rows = [
        {"generation_id": gid, "raw": f"a+ =={'!' if value == 1 else ''}{value}".replace("==", "=")}
        | {"digit_logprobs": {0: spread({0: 0.3}), 1: None}.get(value, spread({value: 0.75, value - 1: 0.25}))}
        for gid in generations["generation_id"]
        for value in [digit("score", judge, gid)]
    ]
    return judged(judge, "votes", rows, response_tokens=8)


def make_one_token(judge: str, generations: pl.DataFrame) -> pl.DataFrame:
    """A judge that wavers between 2 and 3, whatever it reads."""
    rows = [
        {"generation_id": gid, "raw": "2", "digit_logprobs": spread({2: 0.4, 3: 0.4})}
        for gid in generations["generation_id"]
    ]
    return judged(judge, "one_token", rows, response_tokens=1)


def judged(judge: str, way: str, rows: list[dict[str, Any]], response_tokens: int) -> pl.DataFrame:
    fixed = {"judge": judge, "judge_hash": judge, "rubric_hash": "r", "vote_id": 0, "seed": 1, "status": "ok"}
    fixed |= {"way": way, "backend": "test", "finish_reason": "stop"}
    fixed |= {"prompt_tokens": 20, "response_tokens": response_tokens}
    return tables.frame("judgments", [row | fixed for row in rows])


def spread(shares: dict[int, float]) -> list[dict[str, float]]:
    return [{"score": float(score), "logprob": math.log(share)} for score, share in shares.items()]


def make_run(root: Path, arms: str, source: str = "micro_world", who: str = "self") -> None:
    """Write every table that the report reads, in `root`, which must be the current folder."""
    text = re.sub(r"arms:\n(?:  .*\n)+", arms, (REPO / "params.yaml").read_text())
    (root / "params.yaml").write_text(text.replace("\njudge: self", f"\njudge: {who}"))
    settings = params.load()
    built = plan.of(settings)
    (root / "stages").mkdir()
    plan.PLAN_FILE.write_text(plan.dumps(built))
    splits = {row.split for row in built.learns.values()}
    prompts = {split: make_prompts(split, source) for split in sorted({*splits, "eval", "fixed"})}
    for split, rows in prompts.items():
        tables.write("prompts", rows, paths.prompts(split))
    for model, split in [*built.answers(), *((m, "eval") for m in built.models), (paths.WORLD, "fixed")]:
        tables.write("generations", make_generations(model, prompts[split]), paths.generations(model, split))
    reading = Reading("micro", 0.5)
    for judge, model, split in [*built.judges()[1:], *((m, paths.WORLD, "fixed") for m in built.models)]:
        generations = tables.read("generations", paths.generations(model, split))
        judgments = make_judgments(judge, generations)
        both = pl.concat([judgments, *([make_one_token(judge, generations)] if split == "fixed" else [])])
        tables.write("judgments", both, paths.judgments(judge, model, split))
        tables.write("scores", score(reading, judge, generations, judgments), paths.scores(judge, model, split))
    for name, row in built.learns.items():
        make_round(settings.block, name, row, prompts[row.split])
    for model in built.models:
        known = source == "micro_world"
        numbers = {"true_score": 2.0 if known else None, "true_score_se": 0.1 if known else None, "finished": 0.9}
        write_json(numbers, paths.evaluation_json(model))


def make_round(settings: params.Profile, name: str, row: plan.Learn, prompts: pl.DataFrame) -> None:
    sides = Sides(row.judge, row.split, row.own, row.anchor, row.future)
    candidates = read_candidates(sides)
    pairs, dropped = pair.make_pairs(settings.pair, name, row.strategy, prompts, candidates)
    assert pairs.height
    truth = true_scores(prompts, candidates)
    known = dict(truth.iter_rows())
    measures = tables.frame(
        "measures",
        [
            {"pair_id": pid, "model": name, "chosen_truth": known[chosen], "rejected_truth": known[rejected]}
            | {"cosine": 0.9, "cosine_centred": 0.8, "feature_distance": 1.0, "gradient_distance": None, "margin": 0.5}
            for pid, chosen, rejected in pairs.select("pair_id", "chosen_id", "rejected_id").iter_rows()
        ],
    )
    tables.write("pairs", pairs, paths.pairs(name))
    tables.write("dropped", dropped, paths.dropped(name))
    tables.write("measures", measures, paths.measures(name))
    numbers = measure.summary(pairs, dropped, measures, candidates, truth)
    write_json(
        numbers | {"tokens_generated": 9, "tokens_judged": 9, "tokens_trained": 100, "grad_norm": 1.0},
        paths.measures_json(name),
    )


def outputs() -> dict[str, bytes]:
    """Return what the report wrote; not what it read."""
    found = [Path("reports/index.html"), *sorted(Path("reports").glob("*/*.*"))]
    return {str(path): path.read_bytes() for path in found}


def test_report_of_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "arms:\n  sr: 2\n  tsr: 1\n")
    paths.measures_json("old-1").write_text("left over from a row that the plan no longer has")
    report.run(params.load())
    first = outputs()
    page = first["reports/index.html"].decode()

    # It opens offline, and no response can act in it.
    assert not re.findall(r"https?:|//[a-z]|\bsrc=|<link|<script|@import|url\(", page)
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;") in re.sub(r"</?mark>", "", page)
    assert page.count('<article class="card"') == len(set(re.findall(r"pair <code>(\w+)</code>", page))) > 5
    assert str(tmp_path) not in page
    assert "old-1" not in page
    assert len(page) < 450 * 1024
    assert not list(Path("reports").rglob("*.tmp"))

    # Arms that did not run are said not to have run; those that ran have their rows.
    assert "It needs past_only and future_only" in page
    quality = pl.read_csv("reports/plots/quality.csv")
    assert quality.select("arm", "model").rows() == [
        *[("sr", "M0"), ("sr", "sr-1"), ("sr", "sr-2")],
        *[("tsr", "M0"), ("tsr", "tsr-1")],
    ]
    drops = pl.read_csv("reports/plots/drops.csv").group_by("model").agg(pl.col("prompts").sum())
    assert set(drops["prompts"]) == {8}

    report.run(params.load())
    assert outputs() == first


def test_report_without_ground_truth_and_with_one_round(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "arms:\n  past_only: 1\n", source="elsewhere")
    report.run(params.load())
    page = outputs()["reports/index.html"].decode()
    assert "no ground truth" in page
    assert 'id="quality"' not in page
    assert "True gap</h3>" not in page
    assert "upside down" not in page
    assert "True score" not in page and 'id="judge"' not in page

    paths.evaluation_json("M0").unlink()
    with pytest.raises(TsrError, match=r"M0\.json: no such file"):
        report.run(params.load())


def test_report_of_rated_responses_with_another_judge_throughout(tmp_path, monkeypatch):
    """What a real model's run has: no verifier, but people's ratings of the fixed responses."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "arms:\n  sr: 2\n", source="elsewhere", who="api")
    fixed = make_prompts("fixed", "elsewhere").with_columns(meta=pl.lit('{"rating_range": [0, 5]}'))
    tables.write("prompts", fixed, paths.prompts("fixed"))
    responses = make_generations(paths.WORLD, fixed)
    ratings = score(Reading("micro", 0.5), "human", responses, make_judgments("human", responses))
    tables.write("scores", ratings, paths.scores(paths.HUMAN, paths.WORLD, "fixed"))
    report.run(params.load())
    page = outputs()["reports/index.html"].decode()
    assert "Agreement on the fixed responses</h3>" in page[page.index('id="judge"') : page.index('id="judging"')]
    assert "Truth: what people rated, stretched to the rubric" in page
    assert "<code>api</code> judges every round" in page and "judges the round and is" not in page
    assert "gradient distance of chosen and rejected fades.</b> Two rounds are needed; it was measured in none." in page
    assert "True score" not in page and "true scores:" not in page


def test_settings_say_how_long_sft_was(tmp_path):
    text = (REPO / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("\nprofile: micro", "\nprofile: small"))
    assert dict(settings(params.load(REPO / "params.yaml")))["SFT"] == "400 steps of 64, learning rate 0.003"
    told = dict(settings(params.load(tmp_path / "params.yaml")))["SFT"]
    assert told == "2 epochs, 16 examples a batch, learning rate 0.0001"


def counted(step: str, source: str, outcome: str, count: int, *, kept: bool = False) -> dict[str, Any]:
    return {"step": step, "source": source, "outcome": outcome, "count": count, "kept": kept}


def test_a_source_that_chooses_has_its_funnel_on_the_page(small):
    judged = [counted("judgments", "prepare", "given", 20, kept=True)]
    write_json({"steps": judged}, paths.funnel("eft"))  # the micro world's: they were made to measure
    report.run(params.load())
    assert 'id="sources"' not in outputs()["reports/index.html"].decode()

    steps = [counted("questions", "files", "kept", 3000, kept=True), counted("questions", "files", "twice", 17)]
    steps += [counted("questions", "oasst", "kept", 40, kept=True)]
    steps += [counted("splits", "files", "eval", 2960, kept=True), counted("splits", "files", "spare", 40)]
    write_json({"steps": steps}, paths.funnel("prompts"))
    report.run(params.load())
    page = outputs()["reports/index.html"].decode()
    table = page[page.index('id="sources"') : page.index('id="pairs"')].replace(NBSP, " ")
    lines = [re.sub(r"<.*?>", "|", line) for line in table.splitlines() if line.startswith("<tr>")]
    cells = [[cell for cell in line.split("|") if cell] for line in lines]
    assert cells == [
        ["questions read", "files", "3,017", "3,000", "17 stands twice"],
        ["oasst", "40", "40"],
        ["questions that found a split", "files", "3,000", "2,960", "2,960 eval", "40 not needed"],
        ["judgments of rated responses, to learn from", "prepare", "20", "20", "20 given"],
    ]
    assert "width:98.7%" in table


def test_a_ranking_of_these_responses_is_shown_and_another_is_not(small, capsys):
    hashes = {m: {"generations_sha256": file_sha256(paths.generations(m, "eval"))} for m in ("M0", "sr-1")}
    ranking = [
        {"model": model, "elo": elo, "elo_low": elo - spread, "elo_high": elo + spread}
        for model, elo, spread in (("sr-1", 312.8, 35.0), ("M0", 0.0, 0.0))
    ]
    true = {"pairs": 1, "same_order": 0}
    about = {"anchor": "M0", "judge": {"model": "J"}, "split": "eval", "samples": 1, "players": hashes}
    about |= {"verdicts": {"scores": 1500, "same_text": 36}, "fit": {"word": "good"}, "as_true_scores": true}
    write_json(about | {"ranking": ranking}, Path("reports/tournament/J.eval.json"))
    other = hashes | {"sr-1": {"generations_sha256": "0"}}
    write_json(about | {"players": other, "judge": {"model": "K"}}, Path("reports/tournament/K.eval.json"))
    with pytest.raises(TsrError, match=r"K\.eval\.json: key 'ranking' is missing"):
        report.run(params.load())
    write_json(
        about | {"players": other, "judge": {"model": "K"}, "ranking": []}, Path("reports/tournament/K.eval.json")
    )
    report.run(params.load())
    assert "K.eval.json is of other responses of sr-1" in capsys.readouterr().out
    page = Path("reports/index.html").read_text()
    assert "by the judge K" not in page
    shown = page[page.index('id="tournament"') : page.index('id="gap"')]
    assert 'aria-label="Strength of the model versions in Elo points against M0' in shown
    assert "1,536 games, of which 36 tie unasked" in shown
    assert "Of 1 pairs of models, 0 stand in the order of their true scores" in shown
    assert Path("reports", re.findall('href="(.*?)"', shown)[0]).is_file()
    assert not re.findall(r"https?:|//[a-z]", shown)


# --- ways of reading a judge ----------------------------------------------------------------------------------

READINGS = ["reply, parsed", "reply, distribution", "one token"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A made-up run of one round in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "arms:\n  sr: 1\n")


def test_ways_of_reading_a_judge_stand_side_by_side(small):
    fixed = make_generations(paths.WORLD, make_prompts("fixed", "micro_world"))
    truth = dict(true_scores(make_prompts("fixed", "micro_world"), fixed).iter_rows())
    given = {gid: digit("score", "M0", gid) for gid in truth}
    assert set(given.values()) == {0, 1, 2, 3, 4, 5}
    rows = {row["name"]: row for row in judging_rows(read_run(params.load()))}

    def told_of(name: str, key: str) -> str:
        """What the table says of M0 in one reading."""
        return rows[name][key]["first"].replace(NBSP, " ")

    # The reply: a 1 is written so that it cannot be read.
    read = {gid: value for gid, value in given.items() if value != 1}
    assert told_of("reply, parsed", "scored") == f"{100 * len(read) / 24:.1f} %"
    agreed = sum(value == truth[gid] for gid, value in read.items())
    assert told_of("reply, parsed", "agreement") == f"{100 * agreed / len(read):.1f} %"
    assert told_of("reply, parsed", "tokens") == "28.00"

    # The distribution at its place: 3/4 v + 1/4 (v - 1) = v - 1/4; a 0 has less than half of the mass. There is no
    # judgment where there is no place.
    means = {gid: value - 0.25 for gid, value in read.items() if value > 0}
    assert told_of("reply, distribution", "scored") == f"{100 * len(means) / len(read):.1f} %"
    error = sum(abs(value - truth[gid]) for gid, value in means.items()) / len(means)
    assert told_of("reply, distribution", "error") == f"{error:.2f}"
    assert told_of("reply, distribution", "tokens") == "28.00"

    # One token: 2.5 for all, so every two are tied.
    shares = [told_of("one token", key) for key in ("scored", "right_order", "tied", "wrong_order")]
    assert shares == ["100.0 %", "0.0 %", "100.0 %", "0.0 %"]
    assert told_of("one token", "error") == f"{sum(abs(2.5 - value) for value in truth.values()) / 24:.2f}"
    assert told_of("one token", "tokens") == "21.00"

    report.run(params.load())
    page = outputs()["reports/index.html"].decode()
    table = page[page.index('id="judging"') : page.index('id="scores"')]
    assert re.findall(r"<tr><td>([a-z, ]+)<small>", table) == READINGS


def test_a_reading_that_is_not_there_has_no_row(small):
    for model in ("M0", "sr-1"):
        path = paths.judgments(model, paths.WORLD, "fixed")
        kept = tables.read("judgments", path).filter(pl.col("way") == "votes")
        bare = kept.with_columns(digit_logprobs=pl.lit(None, dtype=tables.schema("judgments")["digit_logprobs"]))
        tables.write("judgments", bare, path)
    assert [row["name"] for row in judging_rows(read_run(params.load()))] == READINGS[:1]


def test_seconds_are_those_that_were_measured_or_a_dash(small):
    def seconds() -> list[str]:
        return [row["seconds"] for row in judging_rows(read_run(params.load()))]

    assert seconds() == ["\N{EN DASH}"] * 3
    write_json({"default_run": {}}, BENCHMARKS)
    assert seconds() == ["\N{EN DASH}"] * 3
    write_json({"judging_seconds_per_1000": {"one_token": 1.25}}, BENCHMARKS)
    assert seconds() == ["\N{EN DASH}", "\N{EN DASH}", "1.25"]
    write_json({"judging_seconds_per_1000": {"votes": 12.5, "one_token": 1.25}}, BENCHMARKS)
    assert seconds() == ["12.50", "12.50", "1.25"]


# --- the plan's lines -----------------------------------------------------------------------------------------


def test_what_an_arm_rests_on():
    rows = plan.build(params.Arms(sr=2, tsr=2, past_only=2)).as_dict()
    assert ancestors(rows, "past-2") == ["sr-1", "past-2"]
    assert ancestors(rows, "tsr-2") == ["sr-1", "tsr-1", "tsr-f2", "tsr-2"]
    assert homes(rows)["tsr-f2"] == ("tsr", 2)
    assert homes(rows)["sr-1"] == ("sr", 1)
    sides = [side_of(rows["learns"]["tsr-2"], model) for model in ("tsr-1", "M0", "tsr-f2")]
    assert sides == ["own", "anchor", "future"]
    assert side_of(rows["learns"]["sr-1"], "M0") == "own"
