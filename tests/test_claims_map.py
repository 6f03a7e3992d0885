"""The map and the proposals on made-up tables: what a point's seeds say, what a proposal must pass."""

import json
from pathlib import Path

import pytest
from made_claims import Row, make

from stages import cli
from stages.claims import contrasts, map_points, map_verdicts, page, proposals, proposals_page, settings
from stages.claims.findings import NOT_SUPPORTED, REFUTED, SUPPORTED
from stages.claims.map_points import Map, Point
from stages.claims.map_verdicts import LOSES, NOT_RUN, OPEN, TIES, WINS, Place
from stages.claims.statistics import Paired
from stages.errors import TsrError

REPO = Path(__file__).parents[1]
SEEDS = [1, 2, 3, 4]
AT = [Point("Learning rate", "low", {"a.b": 5.0e-5}), Point("Learning rate", "high", {"a.b": 2})]
MAP = Map("sr=5,tsr=2", 4, {"always": 0}, 0.25, tuple(AT))


def ahead_by(lead: float, spread: float = 0.02) -> object:
    """TSR ends `lead` above what SR has at as many tokens; SR gains half a point a round."""

    def says(judge: str, seed: int, arm: str, number: int) -> Row:
        little = spread * (seed - 2.5)
        score = 2 + 0.5 * number if arm == "sr" else 2 + (2.0 + lead + little) * number / 2
        tokens = number * (200 if arm == "tsr" else 100)
        return {"true_score": score, "fixed_agreement": 0.1 * seed, "tokens": tokens, "gap": 1.0, "true_gap": 1.0}

    return says


def run_at(home: Path, changed: Row, lead: float, spread: float = 0.02, seeds: list[int] = SEEDS) -> None:
    make(
        home,
        {"self": {"sr": 5, "tsr": 2}},
        seeds,
        ahead_by(lead, spread),  # type: ignore[arg-type]
        changed=json.dumps(changed, sort_keys=True),
        settings=f"settings {changed}",
    )


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where the map's and the middle's tables go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports/claims/map", tmp_path / "reports/claims/main"


def test_points_are_told_apart_by_what_they_change(homes: tuple[Path, Path]) -> None:
    home, middle = homes
    run_at(middle, {}, lead=0.5, seeds=[*SEEDS, 5])
    run_at(home, {"always": 0, "a.b": 5.0e-5}, lead=-1.0)
    found = map_verdicts.places(MAP, home, middle)
    assert [(place.point.label, place.verdict, len(place.numbers.seeds)) for place in found] == [
        ("params.yaml as it is", WINS, 5),
        ("the same, the map's seeds alone", WINS, 4),
        ("low", LOSES, 4),
        ("high", NOT_RUN, 0),
    ]
    assert found[1].around is not None and found[1].around.mean == pytest.approx(0.5)
    assert found[1].scores == pytest.approx((4.5, 4.0)), "SR as it was when it had spent TSR's 400 tokens"
    assert found[1].judge == pytest.approx({seed: 0.1 * seed for seed in SEEDS})
    assert found[2].shift is not None and found[2].shift.mean == pytest.approx(-1.5), "against the middle, seed by seed"
    assert found[2].shift.low == found[2].shift.high, "the seeds' own spread is in both"
    tested = [(place.test.p_t, place.p) for place in found if place.test and place.p]
    assert min(tested)[1] == pytest.approx(2 * min(tested)[0]), "corrected for the two points that ran"


def test_where_sr_spent_less_tsr_cannot_win_at_equal_cost() -> None:
    clear = Paired(0.5, 0.4, 0.6, 4, 4, 0.001, None)
    assert [map_verdicts.verdict(clear, 0.25, spent) for spent in (1.0, 0.95, 0.94)] == [WINS, WINS, OPEN]
    worse = Paired(-0.5, -0.6, -0.4, 4, 0, 0.001, None)
    assert map_verdicts.verdict(worse, 0.25, 0.5) == LOSES, "with less, SR still did better"


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (Paired(0.1, 0.05, 0.2, 4, 4, 0.01, None), WINS),
        (Paired(-0.1, -0.2, -0.05, 4, 0, 0.01, None), LOSES),
        (Paired(0.1, -0.05, 0.25, 4, 3, 0.2, None), TIES),
        (Paired(0.1, -0.06, 0.26, 4, 3, 0.2, None), OPEN),
        (Paired(0.1, -0.26, 0.2, 4, 3, 0.2, None), OPEN),
        (Paired(9.0, None, None, 1, 1, None, None), NOT_RUN),
        (None, NOT_RUN),
    ],
)
def test_a_point_says_what_its_interval_allows(test: Paired | None, expected: str) -> None:
    assert map_verdicts.verdict(test, tie=0.25) == expected


def test_the_map_in_the_repository_is_around_its_params() -> None:
    """Each point changes keys that there are, to something else; its settings are those that would run."""
    wanted = map_points.read()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPO)
        plain = settings.changed(wanted.arms, "", {})
        hashes = {settings.changed(wanted.arms, "", wanted.changed(point)).hash for point in wanted.points}
    for point in wanted.points:
        for key, value in point.set.items():
            assert settings.value_of(plain.raw, key) != value, point
    assert len(hashes) == len(wanted.points)
    axes = [point.axis for point in wanted.points]
    assert axes == sorted(axes, key=axes.index), "points of an axis stand together"


def test_a_map_with_a_point_twice_or_a_key_too_many_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    point = "{axis: x, label: a, set: {k: 1}}"
    head = "arms: sr\nseeds: 1\nalways: {}\ntie: 0.1\npoints:\n"
    file.write_text(head + f"  - {point}\n  - {point.replace('label: a', 'label: b')}\n")
    with pytest.raises(TsrError, match=r"map\.yaml: two points change the same"):
        map_points.read(file)
    file.write_text(head + "  - {axis: x, label: a, sets: {k: 1}}\n")
    with pytest.raises(TsrError, match=r"map\.yaml: expected arms, seeds, always, tie, and points"):
        map_points.read(file)


def test_the_page_shows_every_point_and_each_of_its_seeds(
    homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, middle = homes
    run_at(middle, {}, lead=0.5)
    assert "Where does it hold" not in page.pages(middle)[1], "no map, no section"
    run_at(home, {"always": 0, "a.b": 5.0e-5}, lead=-1.0)
    monkeypatch.setattr(map_points, "read", lambda: MAP)
    text, html = page.pages(middle)
    section = html[html.index('id="map"') : html.index('id="plots"')]
    assert section.count("<circle") >= 8 + 8, "each seed as a dot, in its strip and over the judge"
    assert "<b>1</b> TSR wins, <b>0</b> tie, <b>1</b> TSR loses, <b>0</b> open, <b>1</b> not run." in section
    row = next(line for line in text.splitlines() if line.startswith("| Learning rate | low |"))
    assert "-1.00" in row.replace("\N{MINUS SIGN}", "-") and row.endswith("| TSR loses |")
    assert "TSR against SR at equal tokens under 3 settings" in page.quoted(text)


def proposed(rounds: int = 2) -> proposals.Proposals:
    arm = {"rounds": rounds, "strategy": "self_rewarding", "past": False, "future": False}
    return proposals.Proposals(
        101, 4, {"sr": 5, "tsr": 2}, {}, {"mine": proposals.Proposal("It is.", "It may.", arm, [1, 2])}
    )


def test_a_proposal_must_beat_each_rival_at_equal_tokens(homes: tuple[Path, Path]) -> None:
    _, middle = homes
    run_at(middle, {}, lead=0.5)
    wanted = proposed()

    def says(judge: str, seed: int, arm: str, number: int) -> Row:
        told = ahead_by(0.5)("self", seed - 100, arm, number) | {"gap": 1 + 0.01 * seed}  # type: ignore[operator]
        if arm == "mine":  # after 1 round level with SR at 150 tokens, after 2 ahead of it at 300
            more = 0.75 + 0.01 * (seed - 102.5) if number == 1 else 2.2 + 0.01 * seed
            told |= {"true_score": 2 + (more if number else 0), "tokens": 150 * number, "updates": number}
        return told

    make(
        middle.parent / proposals.NAME,
        {"self": {"sr": 5, "tsr": 2, "mine": 2}},
        [101, 102, 103, 104, 105],
        says,
        changed=json.dumps(wanted.changed, sort_keys=True),
    )
    beyond = proposals_page.found(wanted, middle.parent / proposals.NAME)
    assert (sorted(beyond.results.runs["seed"]), beyond.later) == ([101, 102, 103, 104], [105])
    assert [one.claim.key for one in beyond.primary] == [
        *("mine_1_sr_tokens", "mine_1_tsr_tokens"),
        *("mine_2_sr_tokens", "mine_2_tsr_tokens"),
    ]
    assert [one.verdict for one in beyond.primary] == [NOT_SUPPORTED, REFUTED, SUPPORTED, SUPPORTED]
    assert len(beyond.beside) == 8
    assert [one.claim.ask.points[0].arm for one in beyond.control] == ["sr"] * 5
    assert {one.claim.key for one in beyond.again} >= {"tsr_sr4", "sr_gap"}
    assert all(one.verdict != NOT_RUN for one in beyond.again)
    (told,) = proposals_page.told(beyond)
    assert told["held"] == "does not hold after round 1, holds after round 2"


def test_the_proposals_in_the_repository_can_run() -> None:
    wanted = proposals.read()
    assert wanted.first > 10, "fresh seeds: none of those that the proposals come from"
    assert len(wanted.proposals) >= 2
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPO)
        asked = settings.changed(wanted.arms, "", wanted.changed)
        planned = asked.params(wanted.first)
    assert set(wanted.proposals) <= set(planned.arms.rounds)
    assert set(asked.arms) == {*wanted.against, *wanted.proposals}


@pytest.mark.parametrize("more", [["--arms", "sr"], ["--judge", "M0"], ["-S", "seed=1"], ["--report"], ["--into", "x"]])
@pytest.mark.parametrize("mode", ["--map", "--beyond"])
def test_what_runs_stands_in_the_file_alone(mode: str, more: list[str]) -> None:
    with pytest.raises(TsrError, match=r"says what runs; expected no --arms"):
        cli.app(["claims", mode, *more], standalone_mode=False)


def test_places_without_seeds_have_no_scores() -> None:
    nothing = contrasts.Numbers({}, {}, {})
    assert Place(AT[0], nothing, {}, None, None, None, NOT_RUN).scores is None
