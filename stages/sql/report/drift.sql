-- How two judges differ in agreeing with the truth on the same fixed responses.
-- Grain: one row per (model, other). Reads `judged` (judge, generation_id, score, truth), `comparisons` (model, other).
with right_or_wrong as (
    select
        judge,
        generation_id,
        coalesce(score = truth, false)::double as agrees
    from judged
    where truth is not null
),

differences as (
    -- Both judge the same responses, so the responses' own difficulty cancels.
    select
        c.model,
        c.other,
        a.agrees - b.agrees as difference
    from comparisons as c
    join right_or_wrong as a on a.judge = c.model
    join right_or_wrong as b on b.judge = c.other and b.generation_id = a.generation_id
)

select
    model,
    other,
    avg(difference)                                          as difference,
    stddev_samp(difference) / sqrt(count(difference))        as se
from differences
group by model, other
order by model, other
