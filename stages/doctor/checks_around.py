"""Checks of what the run reads from elsewhere: data sources, servers of models, and the keys to them."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from stages import models, paths
from stages.doctor import hub
from stages.doctor.facts import Facts
from stages.doctor.finding import Finding, fails, fine, note
from stages.errors import TsrError
from stages.plan import BASE, FIRST, SELF
from stages.sources.chat_data import Settings, Source


def sources(facts: Facts) -> Iterator[Finding]:
    """Is there the data, with its columns? Local files are read by the code that the stage prepare reads them with."""
    settings = facts.block.prepare
    if not isinstance(settings, Settings):
        yield fine(facts.key("prepare.source"), f"{settings.source} is made here")
        return
    rows: list[int | None] = []
    for source, given in settings.given.items():
        for one in given:
            count, found = _source(facts.key(f"prepare.{source}"), source, one)
            rows.append(count)
            yield found
    here, wanted = [count for count in rows if count is not None], sum(settings.sizes.values())
    if rows and len(here) == len(rows) and sum(here) < wanted:
        sizes = ", ".join(f"{name} {size}" for name, size in settings.sizes.items() if size)
        told = f"the sources have {sum(here)} rows, and the splits ask for {wanted} prompts ({sizes})"
        yield fails(facts.key("prepare"), told, "smaller sizes, or more data")


def _source(where: str, source: Source, given: str) -> tuple[int | None, Finding]:
    """Return how many rows a source has, None where that is not known, and what is to be said of it."""
    from stages.sources import selecting
    from stages.sources.loading import in_cache, load
    from stages.sqlrun import connect

    wanted = {"oasst": selecting.OASST, "ultrafeedback": selecting.ULTRAFEEDBACK, "files": selecting.FILES}[source]
    name, _, commit = given.partition("@")
    try:
        if Path(given).exists() or len(commit) != 40:
            with connect() as db:
                load(db, "rows", [given], wanted)
                count = db.sql("select count(*) from rows").fetchall()[0][0]
            return int(count), fine(where, f"{given}: {count} rows with {wanted.words()}")
    except TsrError as error:
        return None, fails(where, str(error))
    if in_cache(name, commit):
        return None, fine(where, f"{given}: in the local cache")
    answer = hub.ask("dataset", name, commit)
    if answer.problem:
        return None, fails(where, f"{given} {answer.problem}", answer.expected)
    return None, fine(where, f"{given}: can be had from the hub; its columns are seen then")


def servers(facts: Facts) -> Iterator[Finding]:
    """Is there a key, and does each server that is asked know it and the model?"""
    if "openai" not in facts.engines:
        return
    settings = facts.block.backends["openai"]
    variable = settings.api_key_env
    key = facts.environment.get(variable, "").strip()
    for where, url, model in _asked(facts, settings.base_url):
        shown = f"{urlsplit(url).hostname}"
        if not key and not _is_near(url):
            told = f"{variable or 'the variable of api_key_env'} is not set, and {shown} is no local server"
            yield fails(where, told, "the key in that variable")
            continue
        if not key:
            yield note(where, f"{variable or 'api_key_env'} is not set; a local server may want no key")
        yield _heard(where, url, hub.listed(url, key), model, variable)


def _heard(where: str, url: str, server: hub.Server, model: str, variable: str) -> Finding:
    """Return what a server's answer means; `model` is empty where the run makes the models that it is to serve."""
    if not server.status:
        return fails(where, f"{url}: the server cannot be reached", "base_url of a server that runs")
    if server.status in (401, 403):
        return fails(where, f"{url}: the server refuses the key, HTTP status {server.status}", f"its key in {variable}")
    if server.names and model and model not in server.names:
        names = ", ".join(server.names[:5])
        told = f"{url}: the server has no model {model!r}; it lists: {names}"
        return fails(where, told, f"one of these in {models.ENDPOINT}")
    if not model:
        return note(where, f"{url}: is there; it must serve each model version under its name before that is asked")
    return fine(where, f"{url}: is there")


def _asked(facts: Facts, base_url: str) -> Iterator[tuple[str, str, str]]:
    """Yield (where it stands, URL, model) of each server that is asked; no model where the run makes it."""
    if facts.block.generate.backend == "openai":
        yield facts.key("generate.backend"), base_url, ""
    if facts.block.judge.backend != "openai":
        return
    teaches = [facts.params.teacher] if getattr(facts.block.prepare, "eft_prompts", 0) else []
    for name in dict.fromkeys([facts.params.judge, *teaches]):
        said = models.endpoint(paths.model(name)) if name not in (SELF, FIRST, BASE) else None
        if said:
            yield str(paths.model(name) / models.ENDPOINT), said.get("base_url", base_url), said["model"]
        else:
            yield facts.key("judge.backend"), base_url, ""


def _is_near(url: str) -> bool:
    """Return whether a URL leads to this machine or its network, whose servers may want no key."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".internal"))


def annotators(facts: Facts) -> Iterator[Finding]:
    """Would the annotators of alpaca-eval find their key? Only `tsr alpaca-eval` asks them, never a run."""
    openai = facts.block.backends.get("openai")
    variable = openai.api_key_env if openai else "OPENAI_API_KEY"
    if "alpaca-eval" in facts.installed and not facts.environment.get(variable):
        yield note(variable, "is not set: `tsr alpaca-eval` can ask only a local --judge")
