"""The drop funnel in words."""

import polars as pl


def funnel(dropped: pl.DataFrame) -> str:
    """Return the drop reasons with their counts, e.g. `; dropped: tie 12, unscored 1`."""
    counts = dropped.group_by("reason").len().sort("reason").iter_rows()
    told = ", ".join(f"{reason} {count}" for reason, count in counts)
    return f"; dropped: {told}" if told else ""
