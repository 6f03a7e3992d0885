-- How two judges differ on the same fixed responses: in agreeing with the truth, and in how high they score.
-- Grain: one row per (model, other). Reads `judged` (judge, generation_id, score, truth), `comparisons` (model, other).
with right_or_wrong as (
    select
        judge,
        generation_id,
        score,
        coalesce(round(score) = round(truth), false)::double as agrees
    from judged
    where truth is not null
),

differences as (
    -- Both judge the same responses, so the responses' own difficulty cancels.
    select
        c.model,
        c.other,
        a.agrees - b.agrees as agreement,
        a.score - b.score   as leniency
    from comparisons as c
    join right_or_wrong as a on a.judge = c.model
    join right_or_wrong as b on b.judge = c.other and b.generation_id = a.generation_id
)

select
    model,
    other,
    avg(agreement)                                      as agreement,
    stddev_samp(agreement) / sqrt(count(agreement))     as agreement_se,
    avg(leniency)                                       as leniency,
    stddev_samp(leniency) / sqrt(count(leniency))       as leniency_se
from differences
group by model, other
order by model, other
