"""`tsr import`: files and a mapping to the tables of `data/imported/<name>/`, all or nothing."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import polars as pl

from stages import paths, tables
from stages.errors import TsrError, printable
from stages.files import replacing_folder, write_text
from stages.ids import file_sha256
from stages.importing.building import Dataset, build
from stages.importing.dirt import Dirt
from stages.importing.mapping import Cell, Mapping, load
from stages.importing.picking import Kind, Wanted, pick
from stages.progress import progress

Files = dict[str, list[Path]]
_WRITTEN = ("prompts", "generations", "judgments", "scores", "import.json")
# What may stand in a cell: anything but text is dirt in these, and a score is a number.
_TEXTS = {"prompt", "response", "raw", "reference", "system"}


def run(name: str, files: list[str], mapping: str, split: str, *, replace: bool) -> None:
    """Import `files` (FILE or PART=FILE) as dataset `name`; `split` goes before the mapping's own, if not empty.

    Raises TsrError, and leaves everything as it was, for whatever is wrong with files or mapping.
    """
    folder = paths.imported(name)
    if folder.exists():
        _may_go(folder, replace=replace)
    _check_split(split or "all")
    loaded, where = load(mapping)
    played = parts_of(files, loaded, where)
    dirt = Dirt()
    picked = _picked(loaded, played, where, dirt)
    rows_read = {part: rows.height for part, rows in picked.items()}
    dataset = build(loaded, picked, split, dirt)
    for (found,) in dataset.prompts:
        _check_split(found)
    told = summary(name, loaded, played, rows_read, dataset, dirt)
    with replacing_folder(folder, replace=replace) as beside:
        _write(dataset, beside)
        write_text(json.dumps(told, indent=2, ensure_ascii=False, sort_keys=True) + "\n", beside / "import.json")
    print(printable(as_text(folder, told), keep="\n"))
    if not Path("params.yaml").is_file():
        print(f"import: no params.yaml here, so no project; the tables are in {folder.resolve()}", file=sys.stderr)


def _may_go(folder: Path, *, replace: bool) -> None:
    """Raise TsrError unless a dataset may be replaced; pairs made of it since name responses that would be gone."""
    if not replace:
        raise TsrError(f"{folder}: is there already; --replace puts another in its place")
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    if since := [str(path) for path in files if path.parts[0] not in _WRITTEN]:
        told = f"{len(since)} files that were made since, first {since[0]}"
        raise TsrError(f"{folder}: has {told}; --replace would delete them: move or delete them first")


def _check_split(split: str) -> None:
    try:
        paths.checked(split)
    except TsrError as error:
        raise TsrError(f"split: {error}: map it in `values`, or set another with --split") from error


def parts_of(files: list[str], mapping: Mapping, where: str) -> Files:
    """Return part -> its files, sorted: PART=FILE says which it plays, or the end of FILE's path does."""
    played: Files = {part: [] for part in mapping.parts}
    for given in files:
        part, _, path = given.partition("=")
        if part in played and path:
            played[part].append(Path(path))
            continue
        fits = [p for p, one in mapping.parts.items() if one.files and PurePath(given).match(one.files)]
        if not fits and len(played) == 1:
            fits = list(played)
        if len(fits) != 1:
            told = f"plays the parts {', '.join(fits)}" if fits else "plays no part"
            raise TsrError(f"{given}: {told} of mapping {where}; expected PART=FILE with one of: {', '.join(played)}")
        played[fits[0]].append(Path(given))
    if missing := [part for part, paths_ in played.items() if not paths_]:
        wanted = mapping.parts[missing[0]].files
        told = f"; it is the file that ends in {wanted}" if wanted else ""
        raise TsrError(f"mapping {where}: no file plays part {missing[0]!r}{told}: say {missing[0]}=FILE")
    return {part: sorted(paths_, key=lambda p: (p.name, str(p))) for part, paths_ in played.items()}


def cells_of(mapping: Mapping) -> dict[str, dict[str, Wanted]]:
    """Return part -> column name, as `responses.0.model` -> the cell."""
    found: dict[str, dict[str, Wanted]] = {part: {} for part in mapping.parts}
    sections: list[tuple[str, Any]] = [("prompts", mapping.prompts)]
    sections += [(f"responses.{i}", one) for i, one in enumerate(mapping.responses)]
    sections += [(f"judgments.{i}", one) for i, one in enumerate(mapping.judgments)]
    for name, section in sections:
        for field in type(section).model_fields:
            kind: Kind = "text" if field in _TEXTS else "number" if field == "score" else "any"
            for column, cell in _cells(f"{name}.{field}", getattr(section, field)):
                if getattr(cell, "by", None) is None:
                    found[str(section.part)][column] = Wanted(cell, kind)
    return found


def _cells(name: str, value: Any) -> Iterator[tuple[str, Cell]]:
    if isinstance(value, Cell):
        yield name, value
    elif isinstance(value, list | dict):
        items = enumerate(value) if isinstance(value, list) else value.items()
        yield from ((f"{name}.{key}", cell) for key, cell in items if isinstance(cell, Cell))


def _picked(mapping: Mapping, played: Files, where: str, dirt: Dirt) -> dict[str, pl.DataFrame]:
    wanted = cells_of(mapping)
    with progress("import: read", sum(map(len, played.values())), unit="files") as advance:
        try:
            return {p: pick(p, mapping.parts[p], played[p], wanted[p], dirt, advance) for p in mapping.parts}
        except TsrError as error:
            known = any(str(path) in str(error) for paths_ in played.values() for path in paths_)
            raise error if known else TsrError(f"{where}: {error}") from error


def summary(
    name: str, mapping: Mapping, played: Files, rows_read: dict[str, int], dataset: Dataset, dirt: Dirt
) -> dict[str, Any]:
    """Return what `import.json` holds: sources, mapping, counts and dirt; no clock, no folder."""
    sources = [{"part": p, "name": f.name, "sha256": file_sha256(f)} for p, fs in played.items() for f in fs]
    judged = [{"judge": j, "source_name": n, **_judge(dataset, j)} for n, j in sorted(dataset.judges.items())]
    return {
        "dataset": name,
        "files": sorted(sources, key=lambda s: (s["part"], s["sha256"], s["name"])),
        "mapping": mapping.model_dump(exclude_defaults=True),
        "rows_read": rows_read,
        "kept": {
            "prompts": _height(dataset.prompts),
            "models": len(dataset.models),
            "generations": _height(dataset.generations),
            "judgments": _height(dataset.judgments),
            "scores": sum(rows["score"].count() for rows in dataset.scores.values()),
        },
        "splits": {key[0]: rows.height for key, rows in dataset.prompts.items()},
        "models": [
            {
                "model": m,
                "source_name": n,
                "generations": sum(r.height for key, r in dataset.generations.items() if key[0] == m),
                "prompts_without_response": dataset.unanswered[m],
            }
            for n, m in sorted(dataset.models.items())
        ],
        "judges": judged,
        "dirt": dirt.rows(),
    }


def _judge(dataset: Dataset, judge: str) -> dict[str, int]:
    return {
        "judgments": sum(r.height for key, r in dataset.judgments.items() if key[0] == judge),
        "scores": sum(r["score"].count() for key, r in dataset.scores.items() if key[0] == judge),
    }


def _height(parts: dict[Any, pl.DataFrame]) -> int:
    return sum(rows.height for rows in parts.values())


def as_text(folder: Path, told: dict[str, Any]) -> str:
    """Return the table that is printed at the end."""
    lines = [f"{folder}: {', '.join(f'{count} {what}' for what, count in told['kept'].items())}"]
    lines += [f"  {row['count']:>7}  {row['what']} ({row['where']}): {row['done']}" for row in told["dirt"]]
    return "\n".join(lines)


def _write(dataset: Dataset, root: Path) -> None:
    with progress("import: write", 4, unit="tables") as advance:
        for table, parts in (
            ("prompts", dataset.prompts),
            ("generations", dataset.generations),
            ("judgments", dataset.judgments),
            ("scores", dataset.scores),
        ):
            _check_once(table, parts)
            for key, rows in parts.items():
                *folders, split = key
                tables.write(table, rows, root.joinpath(table, *folders, f"{split}.parquet"))
            advance()


def _check_once(table: str, parts: dict[Any, pl.DataFrame]) -> None:
    """Raise TsrError where an id stands in two files; the contract sees one file at a time."""
    if table in ("prompts", "generations") and parts:
        column = "prompt_id" if table == "prompts" else "generation_id"
        ids = pl.concat([rows.select(column) for rows in parts.values()])[column]
        if twice := ids.filter(ids.is_duplicated()).to_list():
            raise TsrError(f"{table}: id {min(twice)} collides: two rows that differ have it; expected one")
