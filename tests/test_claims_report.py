"""The pages on made-up tables: each verdict by its rule, each seed to be seen, nothing said of what did not run."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from made_claims import Row, make

from stages import cli, tables
from stages.claims import contrasts, findings, hypotheses, page, wording
from stages.claims.findings import NOT_RUN, NOT_SUPPORTED, REFUTED, SUPPORTED, Finding, verdict
from stages.claims.statistics import Paired
from stages.errors import TsrError

REPO = Path(__file__).parents[1]
ROUNDS = {"sr": 5, "tsr": 2, "past_only": 2, "future_only": 2, "sft": 0}
CLAIMS = {claim.key: claim for claim in hypotheses.CLAIMS}
SEEDS = [1, 2, 3, 4, 5, 6]


def says(judge: str, seed: int, arm: str, number: int) -> Row:
    """SR's gap and cosine fall; TSR is half a point better; nothing else moves. Seeds differ a little."""
    little = 0.01 * (seed - 3.5)
    score = 2.0 if not number else (4.0 if arm == "tsr" else 3.5) + little * (1 if arm == "tsr" else -1)
    return {
        "true_score": score,
        "fixed_agreement": 0.8,
        "gap": (2.0 / number if arm == "sr" and number else 2.0) + little,
        "true_gap": 1.0 + little,
        "cosine": 0.9 - 0.01 * number * (1 + little) if arm == "sr" else 0.9,
        "feature_distance": number + little,
        "gradient_distance": 10.0 * number + little,
        "updates": number * (20 if arm == "tsr" else 10),
        "tokens": number * (200 if arm == "tsr" else 100),
        "cpu_seconds": number * (2.0 if arm == "tsr" else 0.5),
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six made-up seeds of some arms, judge self, in a folder without params.yaml."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "reports/claims/main", {"self": ROUNDS}, SEEDS, says)
    return tmp_path / "reports/claims/main"


def found(home: Path) -> dict[str, Finding]:
    return {one.claim.key: one for one in findings.findings(contrasts.read(home))}


# --- verdicts -------------------------------------------------------------------------------------------------


def paired(difference: float, n: int = 10) -> Paired:
    return Paired(difference, None, None, n, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("difference", "p", "above", "below"),
    [
        (0.5, 0.01, SUPPORTED, REFUTED),
        (-0.5, 0.01, REFUTED, SUPPORTED),
        (0.5, 0.05, NOT_SUPPORTED, NOT_SUPPORTED),  # exactly the level does not count
        (-0.5, 0.9, NOT_SUPPORTED, NOT_SUPPORTED),
        (0.5, None, NOT_SUPPORTED, NOT_SUPPORTED),  # no spread, nothing to test
    ],
)
def test_a_verdict_hangs_on_side_and_p(difference: float, p: float | None, above: str, below: str) -> None:
    assert verdict(CLAIMS["tsr_sr4"], paired(difference), p) == above
    assert verdict(CLAIMS["tsr_cosine"], paired(difference), p) == below


def test_without_two_seeds_nothing_was_run() -> None:
    assert verdict(CLAIMS["tsr_sr4"], None, None) == NOT_RUN
    assert verdict(CLAIMS["tsr_sr4"], paired(9.0, n=1), None) == NOT_RUN


def test_unequal_costs_support_nothing_and_may_refute() -> None:
    claim = CLAIMS["tsr_updates"]
    assert [verdict(claim, paired(1.0), 0.01, spent) for spent in (1.0, 0.95, 0.94)] == [
        *(SUPPORTED, SUPPORTED),
        NOT_SUPPORTED,
    ]
    assert verdict(claim, paired(-1.0), 0.01, 0.5) == REFUTED, "with less, the other arm still did better"


def test_claims_have_one_name_each_and_a_section() -> None:
    assert len(CLAIMS) == len(hypotheses.CLAIMS)
    assert {claim.section for claim in hypotheses.CLAIMS} == set(hypotheses.SECTIONS)
    assert {"true_score", "gap"} <= {getattr(claim.ask, "quantity", "") for claim in hypotheses.CLAIMS}
    asked = {
        q for claim in hypotheses.CLAIMS for q in (getattr(claim.ask, "quantity", ""), getattr(claim.ask, "cost", ""))
    }
    assert asked - {""} <= {*contrasts.QUANTITIES, *contrasts.COSTS}


# --- findings -------------------------------------------------------------------------------------------------


def test_what_six_seeds_say(home: Path) -> None:
    told = found(home)
    shrinks = told["sr_gap"]
    assert shrinks.numbers.seeds[6] == pytest.approx((0.5 + 0.025) / (2 + 0.025), abs=1e-6)
    assert shrinks.sides == pytest.approx((0.5, 2.0))
    assert (shrinks.verdict, told["sr_cosine"].verdict) == (SUPPORTED, REFUTED)
    ahead = told["tsr_sr4"]
    assert ahead.numbers.seeds[1] == pytest.approx(0.5 - 0.05)
    assert ahead.verdict == SUPPORTED and ahead.test is not None and ahead.test.ahead == 6
    assert told["tsr_gap"].around is not None and told["tsr_gap"].around.mean == 1.0
    assert told["tsr_gap"].verdict == NOT_SUPPORTED, "the same in all seeds: there is no spread to test"
    assert "no spread to test" in wording.remarks(told["tsr_gap"])[0]
    assert told["past_future"].verdict == NOT_SUPPORTED
    assert told["bound"].numbers.seeds == pytest.approx(dict.fromkeys(SEEDS, 1.0))


def test_p_is_corrected_for_all_claims_at_once(home: Path) -> None:
    told = found(home)
    tested = [one for one in told.values() if one.test and one.test.p_t is not None]
    least = min(tested, key=lambda one: one.test.p_t)  # type: ignore[union-attr, arg-type, return-value]
    assert least.test is not None and least.test.p_t is not None
    assert least.p == pytest.approx(len(tested) * least.test.p_t)


def test_equal_cost_is_where_sr_has_spent_as_much(home: Path) -> None:
    told = found(home)
    # TSR's 2 rounds take 40 updates: SR's fourth round. In seconds they take 4; SR's five rounds 2.5.
    assert told["tsr_updates"].numbers.seeds == pytest.approx(told["tsr_sr4"].numbers.seeds)
    assert (told["tsr_updates"].spent, told["tsr_updates"].verdict) == (1.0, SUPPORTED)
    assert told["tsr_cpu_seconds"].spent == pytest.approx(0.625)
    assert told["tsr_cpu_seconds"].verdict == NOT_SUPPORTED
    assert "SR's rounds took 62 % of it" in " ".join(wording.remarks(told["tsr_cpu_seconds"])).replace("\xa0", " ")


def test_what_did_not_run_is_said_not_to_have_run(home: Path) -> None:
    told = found(home)
    for key in ("fixed_tsr_sr4", "truth_sr_gap", "self_fixed_sr", "tsr_rejection", "drift_spin"):
        assert (told[key].verdict, told[key].around, told[key].p) == (NOT_RUN, None, None)
    assert wording.measured(told["self_fixed_sr"]) == "not run: SR round 4 with judge M0"
    assert wording.measured(told["tsr_rejection"]) == "not run: rejection sampling round 4 with judge self"


def test_judges_are_compared_on_the_seeds_that_both_have(home: Path) -> None:
    other = home.parent / "other"
    make(other, {"M0": {"sr": 4, "tsr": 2}}, [3, 4, 5, 9], lambda *at: says(*at) | {"true_score": 1.0 + 0.1 * at[1]})
    for file in other.iterdir():
        both = pl.concat([tables.read(file.stem, file), tables.read(file.stem, home / file.name)])
        tables.write(file.stem, both, home / file.name)
    told = found(home)
    assert set(told["self_fixed_sr"].numbers.seeds) == {3, 4, 5}
    assert told["self_fixed_sr"].numbers.seeds[3] == pytest.approx(3.505 - 1.3)
    assert set(told["fixed_tsr_sr4"].numbers.seeds) == {3, 4, 5, 9}
    assert told["truth_tsr_sr4"].verdict == NOT_RUN


def test_lines_that_ended_are_counted(home: Path) -> None:
    def dies(judge: str, seed: int, arm: str, number: int) -> Row:
        ended = {"ended": "no_pairs"} if (arm, number) in (("sr", 4), ("sr", 5)) and seed < 3 else {}
        return says(judge, seed, arm, number) | ended

    make(home, {"self": ROUNDS}, SEEDS, dies)
    one = found(home)["sr_gap"]
    assert (one.ran, sorted(one.numbers.seeds)) == (6, [3, 4, 5, 6])
    assert "2 of 6 seeds have no value here" in wording.remarks(one)[0]
    make(home, {"self": ROUNDS}, [1, 2], dies)
    none = found(home)["sr_gap"]
    assert none.verdict == NOT_RUN
    assert (
        wording.measured(none)
        == "not run: 2 seeds, none with a value: their lines ended for want of pairs, or nothing varies"
    )


def test_one_seed_is_shown_and_not_judged(home: Path) -> None:
    make(home, {"self": ROUNDS}, [4], says)
    one = found(home)["tsr_sr4"]
    assert (one.verdict, one.p, wording.around(one)) == (NOT_RUN, None, "none from one seed")
    assert "one seed; a test needs two" in wording.remarks(one)
    assert "seed 4" in page.pages(home)[1]


# --- which runs -----------------------------------------------------------------------------------------------


def added(home: Path, seeds: list[int], **of_runs: Any) -> None:
    other = home.parent / "more"
    make(other, {"self": {"sr": 1}}, seeds, says, **of_runs)
    for file in other.iterdir():
        both = pl.concat([tables.read(file.stem, file), tables.read(file.stem, home / file.name)])
        tables.write(file.stem, both, home / file.name)


def test_settings_as_in_params_count_and_others_are_told_of(home: Path) -> None:
    added(home, [1, 2], settings="edited")
    added(home, [1, 2, 3, 4, 5, 6, 7], settings="changed", changed='{"micro.dpo.beta": 0.3}')
    results = contrasts.read(home)
    assert results.seeds("self") == SEEDS
    assert set(results.runs["settings"]) == {"settings self"}
    assert results.left_out == 9
    assert "Left out: 9 runs of other settings" in page.pages(home)[0]


def test_a_map_is_refused_and_one_changed_setting_is_not(tmp_path: Path) -> None:
    with pytest.raises(TsrError, match=r"no runs; `tsr claims` makes them"):
        contrasts.read(tmp_path / "none")
    make(tmp_path / "one", {"self": {"sr": 1}}, [1, 2], says, changed='{"micro.dpo.beta": 0.3}')
    assert contrasts.read(tmp_path / "one").left_out == 0
    assert "- Changed: micro.dpo.beta=0.3" in page.pages(tmp_path / "one")[0]
    added(tmp_path / "one", [1], settings="b", changed='{"micro.dpo.beta": 0.5}')
    with pytest.raises(TsrError, match=r"runs of 2 changed settings, none of them as params\.yaml has it"):
        contrasts.read(tmp_path / "one")


# --- pages ----------------------------------------------------------------------------------------------------


def test_pages_show_every_claim_and_every_seed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["claims", "--report"], standalone_mode=False)
    assert capsys.readouterr().out == "claims: reports/claims.md, reports/claims.html\n"
    text, html = Path("reports/claims.md").read_text(), Path("reports/claims.html").read_text()
    assert not re.findall(r"https?:|//[a-z]|\bsrc=|<link|<script|@import|url\(", html), "it opens offline"
    assert str(Path.cwd()) not in html + text
    told = found(home)
    assert html.count("<circle") >= sum(len(one.numbers.seeds) for one in told.values())
    for one in told.values():
        assert html.count(f"<td>{one.claim.text.replace(chr(39), '&#39;')}<small>") == 2 + bool(one.numbers.seeds)
        row = next(
            line for line in text.split("## The gap")[1].splitlines() if line.startswith(f"| {one.claim.text} |")
        )
        assert row.endswith(f"| {len(one.numbers.seeds)} | {page.MARKS[one.verdict]} {one.verdict} |")
        assert wording.measured(one) in row
    counts = [sum(one.verdict == word for one in told.values()) for word in findings.VERDICTS]
    words = ", ".join(f"<b>{count}</b> {word}" for count, word in zip(counts, findings.VERDICTS, strict=True))
    assert f"Of {len(told)} claims, {words}." in html
    asked = [one.claim.paper.startswith(hypotheses.BESIDE) for one in told.values()]
    assert f"Of the {asked.count(False)} claims that" in text and f"of {asked.count(True)}\nasked beside" in text
    assert min(counts) > 0
    assert "params.yaml has others now" in text
    assert page.pages(home) == (text, html), "the same twice"


def test_the_readme_quotes_rows_that_flatter_and_rows_that_do_not(home: Path) -> None:
    block = page.quoted(page.pages(home)[0])
    rows = [claim for claim in hypotheses.CLAIMS if claim.quoted]
    assert [line.split("|")[1].strip() for line in block.splitlines() if line.startswith("| ")][1:] == [
        c.text for c in rows
    ]
    assert all(f" {word} |" in block for word in findings.VERDICTS)
    with pytest.raises(TsrError, match="expected <!-- claims -->"):
        page.quoted("nothing")


def test_another_set_has_its_pages_beside_its_tables(home: Path) -> None:
    make(Path("reports/claims/two"), {"self": {"sr": 2}}, [1, 2], says)
    cli.app(["claims", "--report", "--into", "two"], standalone_mode=False)
    assert Path("reports/claims/two/claims.html").is_file()
    assert not Path("reports/claims.md").exists()
    with pytest.raises(TsrError, match=r"reports/claims/three: no runs"):
        cli.app(["claims", "--report", "--into", "three"], standalone_mode=False)


def test_readme_and_page_are_those_of_the_tables_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tsr claims --report` and `make docs` were run after the tables changed."""
    monkeypatch.chdir(REPO)
    block = page.quoted(Path("README.md").read_text())
    if not (page.HOME / page.MAIN).is_dir():
        assert block == f"{page.START}\nNot run yet: `tsr claims`.\n{page.END}"
        return
    assert page.quoted(Path("reports/claims.md").read_text()) == block
    assert page.quoted(page.pages(page.HOME / page.MAIN)[0]) == block
