"""The pair browser. `tsr explore` shows it; `marimo edit reports/explore.py` opens it with its SQL to change.

`shown` and `shown_dropped` are the pairs and the dropped prompts that pass the filters; beside them are the views of
`tsr sql`: `pairs`, `generations`, `candidates` and the others. All are read from Parquet when asked.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="full",
    app_title="tsr: pairs",
    css_file="../stages/browsing/templates/browser.css",
)


@app.cell
def _():
    import marimo as mo

    from stages.browsing import figures, page, pair_page, store

    return figures, mo, page, pair_page, store


@app.cell
def _(mo, page, store):
    db = store.open_store()
    choices = store.choices(db)
    mo.Html(page.heading(choices))
    return choices, db


@app.cell
def _(choices, mo, page):
    arm = mo.ui.multiselect(page.arm_options(choices), label="Arm", full_width=True)
    split = mo.ui.multiselect(page.split_options(choices), label="Round", full_width=True)
    learner = mo.ui.multiselect(page.learner_options(choices), label="Model that learns", full_width=True)
    strategy = mo.ui.multiselect(choices.strategies, label="Strategy", full_width=True)
    chosen_from = mo.ui.multiselect(choices.chosen_from, label="Chosen from", full_width=True)
    rejected_from = mo.ui.multiselect(choices.rejected_from, label="Rejected from", full_width=True)
    reason = mo.ui.multiselect(choices.reasons, label="Drop reason", full_width=True)
    gap = mo.ui.range_slider(
        steps=page.gap_steps(choices.gaps), label="Gap", debounce=True, show_value=True, full_width=True
    )
    words = mo.ui.text(label="Words, or an id", placeholder="any text", full_width=True)
    return arm, chosen_from, gap, learner, reason, rejected_from, split, strategy, words


@app.cell
def _(arm, chosen_from, gap, learner, mo, page, reason, rejected_from, split, strategy, words):
    mo.Html(page.panel([arm, split, learner, strategy, words, chosen_from, rejected_from, gap, reason]))
    return


@app.cell
def _(arm, chosen_from, choices, db, gap, learner, page, reason, rejected_from, split, store, strategy, words):
    filters = store.Filters(
        arm=tuple(arm.value),
        split=tuple(split.value),
        model=tuple(learner.value),
        strategy=tuple(strategy.value),
        chosen_from=tuple(chosen_from.value),
        rejected_from=tuple(rejected_from.value),
        reason=tuple(reason.value),
        gap=page.gap_filter(gap.value, choices.gaps),
        words=words.value.strip(),
    )
    picked = store.pick(db, filters)
    return filters, picked


@app.cell
def _(mo, picked):
    summary = mo.sql(
        f"""
        select
            count(*) as pairs,
            avg(gap) as gap,
            avg(chosen_score) as chosen_score,
            avg(rejected_score) as rejected_score,
            avg(length_delta) as length_delta,
            (select count(*) from shown_dropped) as dropped
        from shown
        """,
        output=False,
        engine=picked,
    )
    return (summary,)


@app.cell
def _(mo, picked):
    sources = mo.sql(
        f"""
        select chosen_from, rejected_from, count(*) as pairs, avg(gap) as gap
        from shown
        group by chosen_from, rejected_from
        order by pairs desc, chosen_from, rejected_from
        limit 12
        """,
        output=False,
        engine=picked,
    )
    return (sources,)


@app.cell
def _(mo, picked):
    fates = mo.sql(
        f"""
        select model, reason, count(*) as prompts
        from (select model, 'pair' as reason from shown union all select model, reason from shown_dropped)
        group by model, reason
        order by model, reason
        """,
        output=False,
        engine=picked,
    )
    return (fates,)


@app.cell
def _(mo, page, summary):
    mo.Html(page.strip(summary.to_dicts()[0]))
    return


@app.cell
def _(mo):
    view = mo.ui.tabs({"Pairs": "", "Gap and length": "", "Dropped prompts": ""})
    view
    return (view,)


@app.cell
def _(mo, store):
    sort = mo.ui.dropdown(store.SORTS, value=store.SORTS[0])
    return (sort,)


@app.cell
def _(mo, page, summary, view):
    mo.stop(view.value != "Pairs")
    total = summary["pairs"][0]
    page_number = mo.ui.number(start=1, stop=page.pages(total), value=1, step=1)
    return page_number, total


@app.cell
def _(mo, page, page_number, picked, sort, store, total):
    mo.stop(total == 0, mo.Html(page.nothing("No pair passes these filters.")))
    listed = store.rows(
        store.run(
            picked,
            "page",
            sort=sort.value,
            rows=page.ROWS,
            skip=(page_number.value - 1) * page.ROWS,
            letters=store.LETTERS,
        )
    )
    table = mo.ui.table(
        page.pair_rows(listed),
        selection="single",
        initial_selection=[0],
        pagination=False,
        show_download=False,
        show_search=False,
        show_column_summaries=False,
        show_data_types=False,
        hidden_columns=["pair_id"],
        text_justify_columns={"gap": "right", "scores": "right"},
        column_widths=page.WIDTHS,
    )
    mo.vstack(
        [
            mo.Html(page.pager(page_number, total, sort=sort)),
            table,
        ],
        gap=0.25,
    )
    return listed, table


@app.cell
def _(choices, figures, listed, mo, pair_page, picked, store, table):
    _at = {row["pair_id"]: row for row in listed}
    _row = _at[table.value[0]["pair_id"]] if table.value else listed[0]
    _pair = store.story(picked, _row["pair_id"], _row["prompt_id"])
    mo.Html(pair_page.render(_pair, figures.colours(choices)[_pair["arm"]]))
    return


@app.cell
def _(choices, figures, mo, page, picked, sources, store, summary, view):
    mo.stop(view.value != "Gap and length")
    mo.stop(summary["pairs"][0] == 0, mo.Html(page.nothing("No pair passes these filters.")))
    _width, _start = figures.gap_width(choices)
    _bins = store.rows(store.run(picked, "gap_bins", width=_width, start=_start))
    mo.Html(
        page.section(
            "Gap",
            "Score of chosen less score of rejected: share of the pairs that a model version learns from.",
            page.panels(figures.gap_panels(_bins, choices, _width)),
        )
        + page.section("Where the sides come from", "", page.source_table(sources.to_dicts()))
    )
    return


@app.cell
def _(choices, figures, mo, page, picked, summary, view):
    mo.stop(view.value != "Gap and length" or summary["pairs"][0] == 0)
    _lengths = page.lengths(picked)
    mo.Html(
        page.section(
            "Length",
            page.length_note(summary["pairs"][0]),
            page.panels(figures.length_panels(_lengths, choices)),
        )
    )
    return


@app.cell
def _(choices, fates, mo, page, view):
    mo.stop(view.value != "Dropped prompts")
    mo.Html(
        page.section(
            "What became of the prompts",
            "Filters on what only a pair has (gap, chosen from, rejected from) leave the dropped prompts as they are.",
            page.fate_bars(fates.to_dicts(), choices),
        )
    )
    return


@app.cell
def _(mo, page, summary, view):
    mo.stop(view.value != "Dropped prompts")
    n_dropped = summary["dropped"][0]
    dropped_page = mo.ui.number(start=1, stop=page.pages(n_dropped), value=1, step=1)
    return dropped_page, n_dropped


@app.cell
def _(dropped_page, mo, n_dropped, page, picked, store):
    mo.stop(n_dropped == 0, mo.Html(page.nothing("No dropped prompt passes these filters.")))
    dropped_rows = store.rows(
        store.run(
            picked,
            "page_dropped",
            rows=page.ROWS,
            skip=(dropped_page.value - 1) * page.ROWS,
            letters=store.LETTERS,
        )
    )
    mo.Html(page.pager(dropped_page, n_dropped, "dropped prompts") + page.dropped_table(dropped_rows))
    return


if __name__ == "__main__":
    app.run()
