-- The dropped prompts that pass the filters. Filters on what only a pair has (gap, sides) do not touch them.
-- Grain: one row per model version that learns and prompt that gave no pair.
with placed as (
    select
        dropped.model,
        learners.arm,
        learners.round,
        learners.split,
        dropped.strategy,
        dropped.prompt_id,
        dropped.reason
    from dropped
    join learners on learners.model = dropped.model and learners.place = 1
),

filters as (
    select
        count(*) filter (filter = 'arm') > 0        as by_arm,
        count(*) filter (filter = 'split') > 0      as by_split,
        count(*) filter (filter = 'model') > 0      as by_model,
        count(*) filter (filter = 'strategy') > 0   as by_strategy,
        count(*) filter (filter = 'reason') > 0     as by_reason,
        count(*) filter (filter = 'words') > 0      as by_words
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
    and (not by_reason or placed.reason in (select value from wanted where filter = 'reason'))
    and (not by_words or (placed.model, placed.prompt_id) in (select (found.model, found.prompt_id) from found))
