"""What models and other people wrote is shown as text: no markup, no orders to a terminal, no end of a cell."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import browser_roots
import polars as pl
import pytest

from stages import cli, paths, tables
from stages.browsing import page, pair_page, store
from stages.errors import TsrError, printable
from stages.exporting import card

ESCAPE, BELL, C1, BACK, OVERRIDE = "\x1b", "\x07", "\x9b", "\x08", "\N{RIGHT-TO-LEFT OVERRIDE}"
ORDERS = {ESCAPE, BELL, C1, BACK, OVERRIDE, "\x7f", "\x0c", "\r", "\x90", "\N{RIGHT-TO-LEFT ISOLATE}"}
TERMINAL = f"{ESCAPE}[2J{ESCAPE}]0;pwned{BELL}{C1}31m{BACK}{OVERRIDE}\x7f\x0c\r\x90\N{RIGHT-TO-LEFT ISOLATE}"
MARKUP = '<script>window.pwned=1</script><img src=x onerror="pwned()">"\'>'
RICH = "[red]loud[/red] [link=http://example.invalid]click[/link] [/]"
MARKDOWN = "| a | **b** | `c` | [d](http://example.invalid) | ``` \n# e"
NASTY = TERMINAL + MARKUP + RICH + MARKDOWN


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset all of whose free texts are hostile, as somebody else's tables may be."""
    root = browser_roots.imported(tmp_path / "data set")
    monkeypatch.setenv("TSR_DATA", str(root))
    for path in sorted(root.rglob("*.parquet")):
        table = path.relative_to(root).parts[0]
        rows = pl.read_parquet(path)
        texts = {"source", "meta", "response", "backend", "raw", "error", "strategy", "chosen_model", "rejected_model"}
        told = {name: NASTY + pl.col(name).fill_null("") for name in texts & set(rows.columns)}
        for name in {"messages", "prompt", "chosen", "rejected"} & set(rows.columns):
            message = pl.struct(pl.element().struct.field("role"), content=NASTY + pl.element().struct.field("content"))
            told[name] = pl.col(name).list.eval(message)
        tables.write(table, rows.with_columns(**told), path)
    return root


COMMANDS = {
    "sql": ["sql", "select strategy, chosen, chosen_model from pairs order by pair_id limit 5"],
    "sql, a name of a column": ["sql", f'select 1 as "{ESCAPE}[2J{OVERRIDE}"'],
    "query": ["query", "widest_gaps"],
    "show": ["show", "PAIR"],
}


@pytest.mark.parametrize("words", COMMANDS)
def test_no_table_gives_the_terminal_orders(words: str, hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = pl.read_parquet(paths.pairs("mine"))["pair_id"][0]
    cli.app([first if word == "PAIR" else word for word in COMMANDS[words]], standalone_mode=False)
    told = capsys.readouterr().out
    assert not ORDERS & set(told)
    assert "u001b" in told or r"\e[2J" in told, "it is shown, not left out"


def test_show_takes_no_markup(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["show", pl.read_parquet(paths.pairs("mine"))["pair_id"][0]], standalone_mode=False)
    told = re.sub(r"[\s│]+", "", capsys.readouterr().out)
    assert told.count("[red]loud[/red][link=http://example.invalid]click[/link][/]") >= 6


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("screen", [True, False])
def test_rows_on_a_screen_are_printable_and_in_a_file_as_they_are(
    form: str, screen: bool, hostile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "select response from generations order by generation_id limit 1"
    monkeypatch.setattr("sys.stdout.isatty", lambda: screen, raising=False)
    cli.app(["sql", query, "--format", form], standalone_mode=False)
    told = capsys.readouterr().out
    assert bool(ORDERS & set(told)) != screen
    if form == "json":
        assert len(pl.read_ndjson(told.encode())["response"][0]) > len(NASTY)


def test_errors_are_one_printable_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise TsrError(f"column 'x' is wrong: {NASTY}")

    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert not ORDERS & set(said)
    assert said.count("\n") == 1


@pytest.mark.parametrize("letter", sorted(ORDERS | {"\n", "\t", "\0", "\x85", "\u2028"}))
def test_printable(letter: str) -> None:
    assert printable(f"a{letter}b") == f"a\\u{ord(letter):04x}b"
    assert printable(f"a{letter}b", keep=letter) == f"a{letter}b"


def test_the_browser_escapes_all(hostile: Path) -> None:
    db = store.open_store()
    choices = store.choices(db)
    row = store.rows(store.run(db, "page", sort="any", rows=1, skip=0, letters=500))[0]
    fates = [{"model": "mine", "reason": "pair", "prompts": 1}, {"model": "mine", "reason": NASTY, "prompts": 1}]
    sources = [{"chosen_from": NASTY, "rejected_from": NASTY, "pairs": 1, "gap": 1.0}]
    dropped = store.rows(store.run(db, "page_dropped", rows=5, skip=0, letters=500))
    shown = [
        page.heading(choices),
        pair_page.render(store.story(db, row["pair_id"], row["prompt_id"]), "#0072b2"),
        page.fate_bars(fates, replace(choices, reasons=[NASTY])),
        page.source_table(sources),
        page.dropped_table(dropped),
        page.nothing(NASTY),
    ]
    for html in shown:
        assert "<script" not in html and "<img" not in html
        assert not re.search(r"<[^>]*\spwned", html)
    assert [number for number, html in enumerate(shown) if "window.pwned" in html] == [1, 2, 3, 4, 5]


@pytest.mark.skipif(find_spec("marimo") is None, reason="needs the extra explore")
def test_filters_of_the_browser_escape_what_they_offer() -> None:
    """In a process of its own: marimo changes what others import."""
    code = (
        "import marimo, sys; print(*(kind(sys.argv[1:]).text for kind in (marimo.ui.multiselect, marimo.ui.dropdown)))"
    )
    told = subprocess.run([sys.executable, "-c", code, NASTY], capture_output=True, text=True, check=True).stdout
    assert told.count("pwned") > 1 and "<script" not in told and "<img" not in told


def test_a_card_is_no_page(hostile: Path, tmp_path: Path) -> None:
    cli.app(["export", "mine", "--to", str(tmp_path / "out")], standalone_mode=False)
    told = (tmp_path / "out/README.md").read_text()
    assert not ORDERS & set(told)
    assert "<script" not in told and "<img" not in told
    (row,) = (line for line in told.splitlines() if line.startswith("| `mine` |") and "pwned" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 8, "the cells are those of the template"
    assert not re.search(r"(?<!\\)\[d\]", row)


@pytest.mark.parametrize("text", ["a\\", "\\|", "`", "a\nb", "&lt;", "***"])
def test_a_cell_of_a_card_ends_where_it_should(text: str) -> None:
    inert = card._inert(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*\[]", inert) and "\n" not in inert and "<" not in inert
