-- Which pairs there are: whose they are, of which arm and round, on which prompts. Reads `planned` (the plan's rounds).
-- Grain: one row per model version that learns and arm that it serves; place 1 is its home.
with files as (
    select
        model,
        count(*) filter (kept)      as n_pairs,
        count(*) filter (not kept)  as n_dropped,
        min(prompt_id, 20)          as first_ids
    from (
        select model, prompt_id, true as kept from pairs
        union all
        select model, prompt_id, false as kept from dropped
    )
    group by model
),

first_prompts as (
    select model, unnest(first_ids) as prompt_id from files
),

found as (
    -- Pairs do not tell their split. Where the plan does not either, it is the one with most of their first prompts.
    select model, split
    from first_prompts
    join prompts using (prompt_id)
    group by model, split
    qualify row_number() over (partition by model order by count(*) desc, split) = 1
),

served as (
    select model, arm, min(place) as first_place, arg_min(round, place) as round, arg_min(split, place) as split
    from planned
    group by model, arm
)

select
    files.model,
    coalesce(served.arm, files.model)       as arm,
    served.round                            as round,
    coalesce(served.split, found.split)     as split,
    row_number() over (partition by files.model order by served.first_place) as place,
    files.n_pairs,
    files.n_dropped
from files
left join served on served.model = files.model
left join found on found.model = files.model
order by served.first_place nulls last, files.model, place
