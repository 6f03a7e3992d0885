-- True score of one model version against another's on the same held-out prompts.
-- Grain: one row per (model, other). Reads `answers` (model, prompt_id, truth) and `comparisons` (model, other).
with by_prompt as (
    select
        model,
        prompt_id,
        avg(truth) as truth
    from answers
    group by model, prompt_id
),

differences as (
    -- Both answer the same prompts, so the prompts' own difficulty cancels.
    select
        c.model,
        c.other,
        a.truth - b.truth as difference
    from comparisons as c
    join by_prompt as a on a.model = c.model
    join by_prompt as b on b.model = c.other and b.prompt_id = a.prompt_id
)

select
    model,
    other,
    avg(difference)                                          as difference,
    stddev_samp(difference) / sqrt(count(difference))        as se
from differences
group by model, other
order by model, other
