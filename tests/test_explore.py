"""The pair browser: what it reads, what it writes on the page, and, in a real browser, that it works."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import browser_roots
import pytest

from stages import cli, tables
from stages.browsing import figures, page, pair_page, server, store
from stages.browsing.store import Filters
from stages.errors import TsrError
from stages.reporting.side_by_side import differences

ROOT = Path(__file__).resolve().parent.parent

# Looked for, not imported: where marimo is loaded, transformers takes the process for a notebook and wants IPython.
needs_marimo = pytest.mark.skipif(find_spec("marimo") is None, reason='needs marimo: pip install "tsr[explore]"')


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return browser_roots.imported(tmp_path_factory.mktemp("imported") / "mine")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return browser_roots.planned(tmp_path_factory.mktemp("planned"))


@pytest.fixture
def foreign(imported: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store of the imported root."""
    monkeypatch.setenv("TSR_DATA", str(imported))
    return store.open_store()


def counts(db: Any, **filters: Any) -> tuple[int, int]:
    """Pairs and dropped prompts that pass the filters."""
    store.pick(db, Filters(**filters))
    found: tuple[int, int] = db.sql(
        "select (select count(*) from shown), (select count(*) from shown_dropped)"
    ).fetchall()[0]
    return found


def test_imported_data_is_its_own_arm(foreign: Any) -> None:
    db = foreign
    choices = store.choices(db)
    assert [(row["arm"], row["round"], row["split"]) for row in choices.learners] == [("mine", None, "test")]
    assert choices.chosen_from == ["alpha"] and choices.rejected_from == ["beta"]
    assert choices.reasons == ["tie", "unscored"] and choices.gaps == (2.0, 2.0)
    assert page.learner_options(choices) == {}
    assert counts(db) == (28, 2)
    assert counts(db, gap=(0.0, 1.9)) == (0, 2)
    assert counts(db, reason=("tie",)) == (28, 1)
    assert counts(db, words="NUMBER 7 ") == (1, 0)
    assert counts(db, words="silent") == (0, 1)
    assert counts(db) == (28, 2)


def test_the_plan_gives_arms_rounds_and_sides(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(planned.parent)
    db = store.open_store()
    choices = store.choices(db)
    homes = [(row["model"], row["arm"], row["round"], row["split"]) for row in choices.homes]
    assert homes == [("sr-1", "sr", 1, "r0"), ("tsr-1", "tsr", 1, "r0")]
    assert choices.chosen_from == ["future"] and choices.rejected_from == ["present"]
    # M0's one response to a prompt cannot make a pair with itself; past_only shares sr-1 with sr.
    assert counts(db) == (6, 6)
    assert counts(db, arm=("past_only",)) == (0, 6)
    assert counts(db, arm=("tsr",)) == (6, 6)
    assert counts(db, model=("tsr-1",), chosen_from=("future",)) == (6, 0)
    assert figures.colours(choices)["tsr"] == "#d55e00"


def test_the_same_tables_elsewhere_have_no_plan(planned: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(planned.parent)
    shutil.copytree(planned, tmp_path / "copy")
    monkeypatch.setenv("TSR_DATA", str(tmp_path / "copy"))
    choices = store.choices(store.open_store())
    assert choices.arms == ["sr-1", "tsr-1"]


def test_pages_hold_all_rows_once(foreign: Any) -> None:
    seen = []
    for number in range(page.pages(28)):
        found = store.run(foreign, "page", sort="widest gap", rows=page.ROWS, skip=number * page.ROWS, letters=9)
        seen += [row["pair_id"] for row in store.rows(found)]
    assert len(seen) == len(set(seen)) == 28


def first_story(db: Any, words: str) -> Any:
    store.pick(db, Filters(words=words))
    row = store.rows(store.run(db, "page", sort="any", rows=1, skip=0, letters=9))[0]
    return store.story(db, row["pair_id"], row["prompt_id"])


def test_a_pair_is_told_in_full(foreign: Any) -> None:
    html = pair_page.render(first_story(foreign, "number 2 "), "#0072b2")
    text = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert "Explain number 2 to a child." in text
    assert "<mark>alpha </mark>says that 2 is" in html and "<mark>beta </mark>says that 2 is" in html
    assert [text.count(f"vote {n} vote says") for n in range(3)] == [2, 2, 2]
    assert "score 5.00" in text and "3 of 3 votes read, spread 0.47" in text
    assert "weights not known" in text


def test_foreign_text_is_escaped(foreign: Any) -> None:
    html = pair_page.render(first_story(foreign, "example.invalid"), "#0072b2")
    assert "window.pwned" in html and "<script" not in html and "<img" not in html


def test_texts_that_share_little_are_not_marked() -> None:
    for text, other in [("a b c d e f", "u v w x y z"), ("", "some words")]:
        assert differences(text, other) == ([(text, False)], [(other, False)])
    first, second = differences("one two three four", "one two 3 four")
    assert "".join(part for part, _ in first) == "one two three four"
    assert [part for part, differs in second if differs] == ["3 "]


def test_a_very_long_text_is_cut_and_says_so() -> None:
    assert pair_page.cut("x" * (pair_page.LONGEST + 1234)).endswith("(1,234 more characters)")


def test_bars_stand_for_one_gap_or_for_a_range() -> None:
    def of(gaps: list[float]) -> tuple[float, float]:
        return figures.gap_width(store.Choices([], [], [], [], [], (gaps[0], gaps[-1]), gaps, []))

    assert of([1.0, 2.0, 4.0]) == (1.0, -0.5)
    assert of([0.1, 0.17, 5.0]) == (0.5, 0.0)
    assert of([2.0]) == (1.0, -0.5)
    assert of([n / 7 for n in range(store.SOME_GAPS)]) == (0.2, 0.0)


def test_no_pairs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    asked = tables.frame("prompts", [{"prompt_id": "p", "split": "r0", "source": "s", "messages": [], "meta": ""}])
    tables.write("prompts", asked, tmp_path / "prompts" / "r0.parquet")
    for folder, told in [("none", "no such folder"), ("empty", "no tables yet"), ("", "no pairs yet")]:
        monkeypatch.setenv("TSR_DATA", str(tmp_path / folder))
        with pytest.raises(TsrError, match=told):
            store.open_store()


def test_a_broken_file_is_one_line(imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(imported, tmp_path / "broken")
    (tmp_path / "broken/pairs/mine.parquet").write_bytes(b"PAR1 not at all")
    monkeypatch.setenv("TSR_DATA", str(tmp_path / "broken"))
    with pytest.raises(TsrError, match=r"mine\.parquet") as refused:
        store.open_store()
    assert "\n" not in str(refused.value)


def explore(monkeypatch: pytest.MonkeyPatch, root: Path, *options: str) -> str:
    """The one line that `tsr explore` ends in."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TSR_DATA", str(root))
    with pytest.raises(TsrError) as refused:
        cli.app(["explore", "--no-browser", *options], standalone_mode=False)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@needs_marimo
def test_a_taken_port_is_one_line(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind((server.HOST, 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"port {port} of 127.0.0.1" in explore(monkeypatch, imported, "--port", port)
    assert "port 70000" in explore(monkeypatch, imported, "--port", "70000")


@needs_marimo
def test_without_marimo_or_pairs_it_says_what_to_do(imported: Path, tmp_path: Path, monkeypatch: Any) -> None:
    assert "no tables yet" in explore(monkeypatch, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "tsr[explore]"' in explore(monkeypatch, imported)


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ({"host": "127.0.0.1:9", "cookie": "tsr-9=secret"}, True),
        ({"host": "localhost:9", "origin": "http://localhost:9", "cookie": "a=b; tsr-9=secret"}, True),
        ({"host": "127.0.0.1:9", "origin": "http://example.invalid", "cookie": "tsr-9=secret"}, False),
        ({"host": "127.0.0.1:9", "origin": "null", "cookie": "tsr-9=secret"}, False),
        ({"host": "rebound.example.invalid:9", "cookie": "tsr-9=secret"}, False),
        ({"host": "127.0.0.1:9.example.invalid", "cookie": "tsr-9=secret"}, False),
        ({"host": "127.0.0.1:9"}, False),
        ({"host": "127.0.0.1:9", "cookie": "tsr-9="}, False),
        ({"host": "127.0.0.1:9", "cookie": "tsr-9=wrong"}, False),
        ({"host": "127.0.0.1:9", "cookie": "tsr-8=secret"}, False),
        ({"cookie": "tsr-9=secret"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_other_sites_cannot_read_the_data(headers: dict[str, str], passed: bool, kind: str) -> None:
    import asyncio

    reached, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    asyncio.run(server.OwnPagesOnly(app, 9, "secret")(scope, None, send))
    assert bool(reached) == passed
    if passed:
        policy = dict(sent[0]["headers"])[b"content-security-policy"].decode()
        assert "connect-src 'self' ws://127.0.0.1:9 ws://localhost:9 data: blob:;" in policy
    else:
        assert sent[0].get("status", 1008) in (403, 1008)


@pytest.mark.parametrize(
    ("query", "host", "status"),
    [
        (b"token=secret", "127.0.0.1:9", 303),
        (b"token=wrong", "127.0.0.1:9", 403),
        (b"token=", "127.0.0.1:9", 403),
        (b"token=%ff%00", "127.0.0.1:9", 403),
        (b"", "127.0.0.1:9", 403),
        (b"token=secret", "rebound.example.invalid:9", 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "//example.invalid", "/api/kernel/run"])
def test_the_token_gives_a_cookie_and_leads_to_the_page(path: str, query: bytes, host: str, status: int) -> None:
    import asyncio

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "query_string": query, "headers": [(b"host", host.encode())]}
    asyncio.run(server.OwnPagesOnly(None, 9, "secret")(scope, None, send))
    assert sent[0]["status"] == status
    headers = dict(sent[0]["headers"])
    assert headers.get(b"location") == (b"/" if status == 303 else None)
    if status == 303:
        assert headers[b"set-cookie"] == b"tsr-9=secret; HttpOnly; SameSite=Lax; Path=/"
        assert headers[b"referrer-policy"] == b"no-referrer"


def test_two_hosts_are_none() -> None:
    import asyncio

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    hosts = [(b"host", b"127.0.0.1:9"), (b"Host", b"example.invalid"), (b"cookie", b"tsr-9=secret")]
    asyncio.run(server.OwnPagesOnly(None, 9, "secret")({"type": "http", "headers": hosts}, None, send))
    assert sent[0]["status"] == 403


# In a real browser


class Shown:
    """The notebook in headless Chromium."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.until(lambda: self.text(".tsr.pair"))

    def until(self, true: Any) -> Any:
        """Wait for something to be so."""
        end = time.monotonic() + 30
        while not (found := true()):
            assert time.monotonic() < end, self.text("body")
            time.sleep(0.1)
        return found

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def text(self, css: str) -> str:
        found: str = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')", css
        )
        return found

    def inside(self, element: str, css: str) -> list[Any]:
        """Elements inside one of marimo's."""
        every = "[...document.querySelectorAll(arguments[0])]"
        found: list[Any] = self.run(
            f"return {every}.flatMap(e => [...e.shadowRoot.querySelectorAll(arguments[1])])", element, css
        )
        return found

    def rows(self) -> list[str]:
        table = "document.querySelector('marimo-table')"
        script = f"return {table} ? [...{table}.shadowRoot.querySelectorAll('tbody tr')].map(e => e.innerText) : []"
        found: list[str] = self.run(script)
        return found

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a filter."""
        one = next(e for e in self.inside("marimo-multiselect", ".mo-label") if e.text.startswith(label))
        if not self.run("return document.querySelector('[role=option]') !== null"):  # it stays open after a choice
            one.find_element("css selector", "button").click()
        found = "[...document.querySelectorAll('[role=option]')].find(e => e.innerText.trim() === arguments[0])"
        self.until(lambda: self.run(f"return {found}", option))
        self.run(f"{found}.click()", option)

    def click(self, element: Any) -> None:
        """Click where an element is, whatever lies over it."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).click().perform()

    def open(self, tab: str) -> None:
        next(button for button in self.inside("marimo-tabs", "button") if button.text == tab).click()

    def errors(self) -> list[Any]:
        return self.run(
            "return [...document.querySelectorAll('.marimo-error, [data-testid=error]')].map(e => e.innerText)"
        )

    def asked(self) -> set[str]:
        """Addresses that the page asked for."""
        import json

        sent = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in sent if e["method"] == "Network.requestWillBeSent"]
        urls += [e["params"]["url"] for e in sent if e["method"] == "Network.webSocketCreated"]
        return {re.match(r"[a-z-]+:(//[^/]*)?", url)[0] for url in urls}  # type: ignore[index]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("needs Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, an extra of `dev`")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    folder = tmp_path_factory.mktemp("chromium")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for flag in f"{flags} disable-component-update disable-sync user-data-dir={folder} window-size=1300,1400".split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield made
    made.quit()


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts `tsr explore` and gives its address."""
    started = []

    def start(folder: Path, root: Path | str) -> str:
        env = os.environ | {"TSR_DATA": str(root), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages", "explore", "--no-browser", "--port", "0"]
        one = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
        started.append(one)
        assert one.stdout
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}(?= )", one.stdout.readline())
        assert found
        return found[0]

    yield start
    for one in started:
        one.send_signal(2)
        assert one.wait(timeout=20) == 0
        assert one.stdout.read() == ""


@pytest.mark.slow
@needs_marimo
def test_the_server_answers_who_has_the_token_alone(serving: Any, imported: Path) -> None:
    from http.client import HTTPConnection

    address, _, token = serving(ROOT, imported).removeprefix("http://").partition("/?token=")

    def ask(path: str, **headers: str) -> tuple[int, str, str]:
        """Return status, body and cookie."""
        connection = HTTPConnection(address, timeout=30)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        told = answer.status, answer.read().decode(errors="replace"), answer.headers.get("set-cookie", "")
        connection.close()
        return told

    for path in (
        "/",
        "/health",
        "/api/version",
        "/auth/login",
        "/ws",
        "/assets/x.js",
        "/?token=" + "x" * 32,
        "/?token=",
    ):
        assert ask(path)[0] == 403
    status, _, cookie = ask(f"/?token={token}")
    assert status == 303
    cookie = cookie.partition(";")[0]
    assert ask("/", cookie=cookie)[0] == 200
    assert "<marimo" in ask("/", cookie=cookie)[1]
    assert ask("/", cookie=cookie, Host="rebound.example.invalid")[0] == 403
    assert ask("/", cookie=cookie, Origin="http://example.invalid")[0] == 403
    assert ask("/", cookie=cookie.replace("=", "=x"))[0] == 403
    assert token not in ask("/", cookie=cookie)[1]


@pytest.mark.slow
@needs_marimo
def test_the_browser_on_imported_data(driver: Any, serving: Any, imported: Path) -> None:
    shown = Shown(driver, serving(ROOT, imported))
    assert "28 pairs of 30 prompts" in shown.text(".tsr.head")
    assert len(shown.rows()) == page.ROWS

    row = shown.rows()[3]
    number = re.search(r"number (\d+) ", row)[1]  # type: ignore[index]
    shown.click(shown.inside("marimo-table", "tbody tr")[3].find_elements("css selector", "td")[2])
    shown.until(lambda: f"alpha says that {number} is a number of apples" in shown.text(".tsr.pair .chosen"))
    assert f"beta says that {number} is a number of apples" in shown.text(".tsr.pair .rejected")

    box = shown.inside("marimo-text", "input")[0]
    box.send_keys("window.pwned\n")
    shown.until(lambda: len(shown.rows()) == 1)
    shown.until(lambda: browser_roots.NASTY in shown.text(".tsr.pair .chosen .response"))
    assert shown.run("return window.pwned") is None

    shown.open("Gap and length")
    shown.until(lambda: "Where the sides come from" in shown.text(".tsr"))
    shown.until(lambda: shown.run("return document.querySelectorAll('.tsr figure svg').length") == 2)
    shown.open("Dropped prompts")
    shown.until(lambda: "What became of the prompts" in shown.text(".tsr"))
    shown.run("arguments[0].focus()", box)
    box.send_keys("\b" * len("window.pwned") + "\n")
    shown.until(lambda: "2 of 2 dropped prompts" in shown.text(".tsr.pager"))
    shown.choose("Drop reason", "tie")
    shown.until(lambda: "tied" in shown.text(".tsr.scroll") and "silent" not in shown.text(".tsr.scroll"))

    assert shown.errors() == []
    host = re.sub(r"https?://", "", driver.current_url).rstrip("/")  # without the token
    assert {url for url in shown.asked() if url.startswith(("http", "ws"))} == {f"http://{host}", f"ws://{host}"}


@pytest.mark.slow
@needs_marimo
def test_the_browser_on_the_pipelines_own_data(driver: Any, serving: Any, planned: Path) -> None:
    (planned.parent / "reports").mkdir(exist_ok=True)
    shutil.copy(ROOT / "reports/explore.py", planned.parent / "reports")
    shutil.copytree(
        ROOT / "stages/browsing/templates", planned.parent / "stages/browsing/templates", dirs_exist_ok=True
    )
    shown = Shown(driver, serving(planned.parent, ""))
    assert len(shown.rows()) == 6
    assert "TSR, round 1 (r0)" in shown.text(".tsr.pair") and "future sr-1" in shown.text(".tsr.pair .chosen")
    shown.choose("Arm", "SR")
    shown.until(lambda: "No pair passes these filters." in shown.text(".tsr.nothing"))
    assert shown.text(".tsr.pair") == ""
    shown.choose("Arm", "TSR")
    shown.until(lambda: len(shown.rows()) == 6)
    assert shown.errors() == []
