"""`tsr health`: made-up rounds that are well, and some that go wrong in one way each."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_report import make_run, outputs
from typer.testing import CliRunner

from stages import params, paths, plan, report, tables
from stages.cli import app
from stages.errors import TsrError
from stages.health import hindsight, run, signals, told
from stages.health.thresholds import read
from stages.health.verdicts import Health, judged
from stages.reporting.report_data import read_run

WELL = {"yield": 0.95, "gap": 2.0, "upside_down": 0.02, "length_delta": 0.0, "at_top": 0.1, "tied": 0.05}
WELL |= {"unscored": 0.0, "own_tokens": 100.0, "fixed_score": 2.5, "fixed_agreement": 0.8}
ROUNDS = ("sr-1", "sr-2", "sr-3", "sr-4")


def made(*changes: dict[str, Any], judge: str = "M0") -> Health:
    """The verdicts on an arm with a round for each of `changes`, which say what is not as it is where all is well."""
    rows = [
        {"run": "s", "arm": "sr", "round": number, "model": f"sr-{number}", "judge": judge} | WELL | change
        for number, change in enumerate(changes, start=1)
    ]
    return judged(signals.finished(rows), read())


def verdicts(found: Health) -> list[str]:
    return found.rounds["verdict"].to_list()


def bad(found: Health, number: int) -> dict[str, str]:
    """The signals of a round that are not fine."""
    rows = found.signals.filter(pl.col("round") == number, pl.col("verdict") != "fine")
    return dict(rows.select("signal", "verdict").iter_rows())


def test_every_signal_has_its_limits_and_its_reason():
    assert list(read()) == list(signals.SIGNALS)
    assert all(limit.about and len(limit.why) > 60 for limit in read().values())


def test_a_run_that_is_well():
    found = made({}, {"gap": 2.1}, {"gap": 1.9})
    assert verdicts(found) == ["fine"] * 3
    # The first round has nothing to be compared with; no limit is held against it in silence.
    assert bad(found, 1) == dict.fromkeys(
        ("gap", "gap_per_prompt", "fixed_score", "fixed_agreement", "tokens"), "unknown"
    )
    assert bad(found, 3) == {}


def test_the_gap_collapses():
    found = made({}, {"gap": 1.4}, {"gap": 0.8, "yield": 0.6})
    assert verdicts(found) == ["fine", "watch", "collapsing"]
    assert bad(found, 2) == {"gap": "watch", "gap_per_prompt": "watch"}
    assert bad(found, 3) == {"gap": "collapsing", "yield": "watch", "gap_per_prompt": "collapsing"}


def test_lost_prompts_count_as_no_gap():
    """The mean gap of the pairs that are left holds, and what an average prompt teaches does not."""
    found = made({}, {"yield": 0.55})
    assert bad(found, 2) == {"yield": "watch", "gap_per_prompt": "watch"}
    nothing = made({}, {"yield": 0.0, "gap": None, "upside_down": None, "length_delta": None})
    assert bad(nothing, 2) == {
        **{"gap": "unknown", "yield": "collapsing", "gap_per_prompt": "collapsing"},
        **{"upside_down": "unknown", "length_delta": "unknown"},
    }


def test_the_judge_is_saturated():
    found = made({}, {"at_top": 0.6, "tied": 0.3}, {"at_top": 0.9, "tied": 0.7})
    assert bad(found, 2) == {"at_top": "watch", "tied": "watch"}
    assert bad(found, 3) == {"at_top": "collapsing", "tied": "collapsing"}


def test_lengths_explode_or_shrink():
    found = made({"length_delta": 15.0}, {"own_tokens": 150.0, "length_delta": 60.0}, {"own_tokens": 250.0})
    assert bad(found, 1)["length_delta"] == "watch"  # a round before the responses are longer
    assert bad(found, 2) == {"tokens": "watch", "length_delta": "collapsing"}
    assert bad(found, 3) == {"tokens": "collapsing"}
    assert bad(made({}, {"own_tokens": 40.0}), 2) == {"tokens": "collapsing"}


def test_the_judge_drifts_or_forgets_how_to_judge():
    found = made({}, {"fixed_score": 3.2, "fixed_agreement": 0.7}, {"fixed_score": 1.4, "fixed_agreement": 0.5})
    assert bad(found, 2) == {"fixed_score": "watch", "fixed_agreement": "watch"}
    assert bad(found, 3) == {"fixed_score": "collapsing", "fixed_agreement": "collapsing"}
    assert bad(made({}, {"unscored": 0.05}), 2) == {"unscored": "watch"}


def test_pairs_are_upside_down():
    assert verdicts(made({"upside_down": 0.15}, {"upside_down": 0.3})) == ["watch", "collapsing"]


def test_without_truth_the_rest_still_warns():
    """As with real models: what needs the truth is unknown, and the round is not thereby fine or bad."""
    blind = {"upside_down": None, "fixed_agreement": None}
    found = made(blind, blind | {"gap": 0.5})
    assert verdicts(found) == ["fine", "collapsing"]
    assert bad(found, 2)["upside_down"] == "unknown"
    text = told.summary(found)
    assert "Unknown in every round: upside_down, fixed_agreement." in text


def test_a_round_of_which_nothing_is_known_is_unknown():
    assert verdicts(made(dict.fromkeys(WELL), dict.fromkeys(WELL))) == ["unknown", "unknown"]


def test_a_judge_of_origins_says_nothing_of_gaps():
    found = made({"gap": 1.0}, {"gap": 1.0}, judge=paths.ORIGIN)
    assert verdicts(made({"upside_down": None}, {"upside_down": None}, judge=paths.ORIGIN)) == ["unknown"] * 2
    assert {s for s, verdict in bad(found, 2).items() if verdict == "unknown"} == {
        *("gap", "gap_per_prompt", "at_top", "tied")
    }


def test_tables_fit_80_columns_and_name_what_is_bad():
    found = made(
        {}, {"gap": 1.4}, dict.fromkeys(("at_top", "tied"), 0.95) | {"gap": 0.5, "own_tokens": 12345.0}, {}, {}, {}
    )
    text, blocks = told.summary(found), told.detail(found, "sr")
    assert max(len(line) for text in (text, blocks) for line in text.splitlines()) <= 80
    because = "gap 0.250 of round 1, gap_per_prompt 0.250 of round 1, at_top 0.950, tied 0.950, tokens 123 x round 1"
    assert f"sr 3 collapsing {because} sr 4 fine" in " ".join(text.split())
    assert re.search(r"^gap of first +< 0\.75 <  0\.5  \(2\.00\)  0\.700!  0\.250X", blocks, re.MULTILINE)
    assert "round 6" in blocks.split("\n\n")[1]
    row = json.loads(told.as_lines(found).splitlines()[1])
    assert row["verdict"] == "watch"
    assert row["signals"]["gap"] == {
        **{"value": 1.4, "measured": 0.7, "verdict": "watch"},
        **{"compared": "share of the first", "bad": "low", "watch": 0.75, "collapsing": 0.5},
    }


# --- thresholds of the user's ---------------------------------------------------------------------------------


def own(folder: Path, text: str) -> Path:
    (folder / "mine.yml").write_text(text)
    return folder / "mine.yml"


def test_a_file_of_the_users_names_only_what_differs(tmp_path):
    found = read(own(tmp_path, "gap: {watch: 0.9}\ntokens: {collapsing: 3, why: long answers are wanted}\n"))
    assert (found["gap"].watch, found["gap"].collapsing) == (0.9, 0.5)
    assert (found["tokens"].collapsing, found["tokens"].why) == (3.0, "long answers are wanted")
    assert {name for name, limit in found.items() if limit != read()[name]} == {"gap", "tokens"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gpa: {watch: 1}", "gpa: no such signal; there are: gap, yield"),
        ("gap: {wach: 1}", "gap: expected some of watch, collapsing, why"),
        ("gap: 0.5", "gap: expected some of watch, collapsing, why"),
        ("- gap", "expected signals with their limits"),
        ("", "expected signals with their limits"),
        ("gap: {watch: low}", "gap.watch: Input should be a valid number, got 'low'"),
        ("gap: {watch: .nan}", "gap.watch: Input should be a finite number"),
        ("gap: {watch: 0.4}", "gap: collapsing is 0.5; expected none but below 0.4"),
        ("tied: {collapsing: 0.1}", "tied: collapsing is 0.1; expected none but above 0.2"),
        ("gap: {watch: 1}\ngap: {watch: 2}", "not valid YAML: key 'gap' stands twice"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, complaint):
    with pytest.raises(TsrError) as refused:
        read(own(tmp_path, text))
    assert str(refused.value).startswith(f"{tmp_path / 'mine.yml'}: {complaint}")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TsrError, match=r"none\.yml: cannot be read"):
        read(tmp_path / "none.yml")


# --- a made-up run --------------------------------------------------------------------------------------------


@pytest.fixture
def made_run(tmp_path, monkeypatch):
    """A run of two arms in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "arms:\n  sr: 2\n  tsr: 1\n")


def told_by(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["health", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_signals_are_those_of_the_report_and_need_no_training(made_run):
    found = read_run(params.load())
    rows = {(row["arm"], row["round"]): row for row in _signals().iter_rows(named=True)}
    for (arm, number), row in rows.items():
        name = found.plan["lines"][arm][number]
        assert row["yield"] == found.rounds[name]["yield"]
        for signal in ("gap", "upside_down"):
            assert row[signal] == pytest.approx(found.pairs[name][signal])
        assert row["fixed_agreement"] == found.fixed[row["judge"]]["agreement"]
        top = [
            s["share"]
            for s in found.scores
            if (s["arm"], s["round"], s["side"], s["score"]) == (arm, number, "own", "5")
        ]
        scored = 1 - row["unscored"]
        assert row["at_top"] * scored == pytest.approx(sum(top))
    before = told_by()
    for name in found.plan["learns"]:
        for made_later in (paths.measures(name), paths.measures_json(name), paths.evaluation_json(name)):
            made_later.unlink(missing_ok=True)
    assert told_by() == before


def _signals() -> pl.DataFrame:
    loaded = params.load()
    return signals.of_plan(plan.read(), loaded.block.judge.rubric, run._fixed(loaded, plan.read()))


def test_a_run_that_is_under_way_is_judged_as_far_as_it_is(made_run):
    paths.pairs("sr-2").unlink()
    paths.judgments("M0", paths.WORLD, "fixed").unlink()
    paths.scores("M0", "M0", "r0").unlink()
    rows = {(row["arm"], row["round"]): row for row in _signals().iter_rows(named=True)}
    assert list(rows) == [("sr", 1), ("tsr", 1)]
    for row in rows.values():
        assert row["gap"] is not None
        assert {name for name in signals.SIGNALS if row[name] is None} == {
            *("at_top", "tied", "unscored", "fixed_score", "fixed_agreement", "tokens", "length_delta")
        }
    paths.prompts("r0").unlink()
    paths.dropped("sr-1").unlink()
    rows = {(row["arm"], row["round"]): row for row in _signals().iter_rows(named=True)}
    assert rows["tsr", 1]["upside_down"] is None
    assert rows["tsr", 1]["gap"] is not None
    assert all(rows["sr", 1][name] is None for name in signals.SIGNALS)
    for name in ("sr-1", "tsr-1"):
        paths.pairs(name).unlink()
    with pytest.raises(TsrError, match="data/pairs: no round has pairs yet"):
        told_by()


def test_the_command_exits_with_1_only_where_it_is_told_to(made_run, tmp_path):
    lenient = {"low": -1e9, "high": 1e9}
    calm = own(
        tmp_path,
        "".join(f"{s}: {{watch: {v}, collapsing: {v}}}\n" for s, t in read().items() for v in [lenient[t.bad]]),
    )
    uneasy = "yield: {watch: 1.1, collapsing: -1}\n"
    watchful = tmp_path / "watchful.yml"
    watchful.write_text(
        "".join(line for line in calm.read_text().splitlines(True) if not line.startswith("yield")) + uneasy
    )

    assert told_by("--thresholds", str(calm), "--fail-on", "watch")[0] == 0
    code, text = told_by("--thresholds", str(watchful), "--fail-on", "watch")
    assert code == 1
    assert text.count("watch") == 3
    assert told_by("--thresholds", str(watchful), "--fail-on", "collapsing")[0] == 0
    assert told_by("--thresholds", str(watchful))[0] == 0

    rows = [json.loads(line) for line in told_by("tsr", "--format", "json")[1].splitlines()]
    assert [(row["arm"], row["round"], row["model"]) for row in rows] == [("tsr", 1, "tsr-1")]
    assert told_by("tsr", "sr")[1].index("tsr  ") < told_by("tsr", "sr")[1].index("\nsr  ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("spin",), "health: arm 'spin': has no pairs yet; sr, tsr have"),
        (("--fail-on", "fine"), "expected watch or collapsing"),
        (("--format", "xml"), "expected text or json"),
        (("--claims", "main", "sr"), "expected neither ARM nor --fail-on"),
        (("--claims", "main"), "reports/claims/main: no runs there; `tsr claims --into main`"),
    ],
)
def test_the_command_refuses_in_one_line(made_run, words, complaint):
    with pytest.raises(TsrError) as refused:
        told_by(*words)
    assert complaint in str(refused.value)


def test_the_page_shows_the_verdicts_and_the_limits(made_run):
    report.run(params.load())
    page = outputs()["reports/index.html"].decode()
    section = page[page.index('id="health"') : page.index('id="gap"')]
    shown = re.findall(
        r'<tr><td>(\w+)</td><td class="num">(\d)</td><td><code>([\w-]+)</code></td>.*?badge (\w+)', section
    )
    rows = judged(_signals(), read()).rounds.select("arm", "round", "model", "verdict").rows()
    assert [(arm.lower(), int(number), *rest) for arm, number, *rest in shown] == rows
    assert all(limit.why.split(".")[0] in section.replace("&#39;", "'") for limit in read().values())
    assert "not known.</p>" in section


def test_the_page_leaves_out_what_nobody_knows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "arms:\n  sr: 1\n", source="elsewhere")
    report.run(params.load())
    page = outputs()["reports/index.html"].decode()
    section = page[page.index('id="health"') : page.index('id="gap"')]
    assert "not known; nor are, in all rounds, upside_down, fixed_agreement." in section
    assert "True score" not in section


# --- hindsight ------------------------------------------------------------------------------------------------


def write_claims(gains: dict[str, float], changes: dict[str, dict[str, Any]]) -> None:
    """Write the tables of one seed whose arm `sr` has a round for each of `gains`."""
    home = hindsight.HOME / "made"
    names, score, answers = list(gains), 2.0, []
    for place, (name, gain) in enumerate({"M0": 0.0, **gains}.items()):
        score += gain
        answers += [{"model": name, "prompt_id": f"p{i}", "truth": score + 0.1 * i * place} for i in (0, 1)]
    rounds = [
        {"model": name, "judge": (["M0", *names])[place], "gap": 2.0, "yield": 0.95, "upside_down": 0.0, "at_top": 0.1}
        | {"tied": 0.0, "own_tokens": 10.0, "length_delta": 0.0}
        | changes.get(name, {})
        for place, name in enumerate(names)
    ]
    found = {
        "claims_runs": [{"seed": 1, "settings": "s", "judge": "self"}],
        "claims_lines": [{"arm": "sr", "round": place, "model": name} for place, name in enumerate(["M0", *names])],
        "claims_rounds": rounds,
        "claims_models": [{"model": name, "fixed_agreement": 0.8, "fixed_bias": 0.0} for name in ("M0", *names)],
        "claims_answers": answers,
    }
    for table, rows in found.items():
        tables.write(
            table, tables.frame(table, [blank(table) | {"run": "r"} | row for row in rows]), home / f"{table}.parquet"
        )


def blank(table: str) -> dict[str, Any]:
    """A row with nothing in it where that is allowed, else zeros and empty texts."""
    zero = {"string": "", "int": 0, "float": 0.0}
    columns = tables.contract(table)["columns"]
    return {name: None if about.get("nullable") else zero[about["type"]] for name, about in columns.items()}


def test_warnings_are_held_against_what_came(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_claims(
        {"sr-1": 1.0, "sr-2": 0.8, "sr-3": 0.6, "sr-4": -0.9},
        {"sr-3": {"yield": 0.7}, "sr-4": {"yield": 0.3, "at_top": 0.9}},
    )
    found = hindsight.look_back("made", read())
    overall = found.trainings.filter(pl.col("signal") == "any").drop("gain").rows()
    assert overall == [("any", "fine", 2, 2, 0, 0), ("any", "watch", 1, 1, 0, 0), ("any", "collapsing", 1, 0, 0, 1)]
    assert found.trainings.filter(signal="at_top", verdict="collapsing")["gain"].to_list() == [pytest.approx(-0.85)]
    both = (hindsight.ANY, hindsight.BLIND)
    assert found.lines.rows() == [(s, w, 1, 0, 0, 0, 0, 0) for s in both for w in ("watch", "collapsing")]
    text = hindsight.told(found, "text")
    assert text.startswith("1 seed, 1 setting.")
    assert max(map(len, text.splitlines())) <= 80
    rows = [json.loads(line) for line in hindsight.told(found, "json").splitlines()]
    assert {row["table"] for row in rows} == {"trainings", "lines"}


def test_seeds_without_truth_cannot_say_who_was_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_claims({"sr-1": 1.0}, {})
    answers = hindsight.HOME / "made" / "claims_answers.parquet"
    tables.write("claims_answers", tables.frame("claims_answers", []), answers)
    with pytest.raises(TsrError, match="no true score is known"):
        hindsight.look_back("made", read())


def test_what_needs_the_truth_does_not_help_who_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_claims({"sr-1": 1.0, "sr-2": -0.9}, {"sr-2": {"upside_down": 0.4}})
    lines = hindsight.look_back("made", read()).lines.filter(warning="collapsing")
    assert lines.select("signal", "in_time", "missed").rows() == [(hindsight.ANY, 1, 0), (hindsight.BLIND, 0, 1)]
