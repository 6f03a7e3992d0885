-- The pairs that pass the filters. `wanted` holds (filter, value); a filter without a row lets all pass.
-- Grain: one row per pair. No text is read: the filter on words is in `found`, made once by found.sql.
with placed as (
    select
        pairs.pair_id,
        pairs.model,
        learners.arm,
        learners.round,
        learners.split,
        pairs.strategy,
        pairs.prompt_id,
        coalesce(pairs.chosen_from, pairs.chosen_model)     as chosen_from,
        coalesce(pairs.rejected_from, pairs.rejected_model) as rejected_from,
        pairs.chosen_model,
        pairs.rejected_model,
        pairs.chosen_score,
        pairs.rejected_score,
        pairs.gap,
        pairs.length_delta
    from pairs
    join learners on learners.model = pairs.model and learners.place = 1
),

filters as (
    select
        count(*) filter (filter = 'arm') > 0            as by_arm,
        count(*) filter (filter = 'split') > 0          as by_split,
        count(*) filter (filter = 'model') > 0          as by_model,
        count(*) filter (filter = 'strategy') > 0       as by_strategy,
        count(*) filter (filter = 'chosen_from') > 0    as by_chosen,
        count(*) filter (filter = 'rejected_from') > 0  as by_rejected,
        count(*) filter (filter = 'words') > 0          as by_words,
        max(case when filter = 'gap_low' then value::double end)    as gap_low,
        min(case when filter = 'gap_high' then value::double end)   as gap_high
    from wanted
)

select placed.*
from placed
cross join filters
where (not by_arm or placed.model in (
        select learners.model from learners join wanted on wanted.filter = 'arm' and wanted.value = learners.arm
    ))
    and (not by_split or placed.split in (select value from wanted where filter = 'split'))
    and (not by_model or placed.model in (select value from wanted where filter = 'model'))
    and (not by_strategy or placed.strategy in (select value from wanted where filter = 'strategy'))
    and (not by_chosen or placed.chosen_from in (select value from wanted where filter = 'chosen_from'))
    and (not by_rejected or placed.rejected_from in (select value from wanted where filter = 'rejected_from'))
    and (gap_low is null or round(placed.gap, 6) >= gap_low)
    and (gap_high is null or round(placed.gap, 6) <= gap_high)
    and (not by_words or (placed.model, placed.prompt_id) in (select (found.model, found.prompt_id) from found))
