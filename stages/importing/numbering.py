"""Samples and votes get their numbers: those that the source gives, or new ones in an order of content alone."""

import polars as pl

from stages.errors import TsrError
from stages.importing.dirt import Dirt
from stages.importing.texts import readable


def numbered(
    frame: pl.DataFrame, owner: list[str], given: str, content: list[str], rule: str, name: str, where: str, dirt: Dirt
) -> pl.DataFrame:
    """Return `frame` with `name`, a number from 0 for each row of an owner.

    `given` holds what the source calls the row. Under `error` and `number`, rows equal in all of owner, `given` and
    `content` are made one; rows that share owner and `given` and differ are an error, or get new numbers. Under
    `keep`, each row stays. Whole numbers that are unique stay as they are; else rows are numbered in the order of
    `given` and `content`, never of the file. Raises TsrError naming the first row that shares its number.
    """
    if rule != "keep":
        once = frame.unique([*owner, given, *content])
        dirt.add("identical", where, frame.height - once.height)
        frame = once
    shared = frame.filter(pl.struct([*owner, given]).is_duplicated())
    if shared.height and rule == "error":
        first = shared.sort([*owner, given, *content], nulls_last=True).row(0, named=True)
        told = ", ".join(readable(first[column]) for column in ("model", "judge", "key", given) if column in first)
        groups = shared.select([*owner, given]).n_unique()
        raise TsrError(
            f"{where}: {groups} times several rows that differ have one number, first {told}; "
            f"expected one row each: map what tells them apart, or say `duplicates: number`"
        )
    dirt.add("renumbered", where, shared.height)
    whole = frame.with_columns(as_number=pl.col(given).str.strip_chars().cast(pl.Int64, strict=False))
    fine = not whole["as_number"].null_count() and (whole["as_number"] >= 0).all()
    if fine and not whole.select(pl.struct([*owner, "as_number"]).is_duplicated().any()).item():
        return whole.rename({"as_number": name})
    ordered = whole.sort([*owner, "as_number", given, *content], nulls_last=True)
    return ordered.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(owner).alias(name)).drop("as_number")
