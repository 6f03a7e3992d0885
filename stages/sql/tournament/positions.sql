-- Whether the judge likes a place: how meetings that were judged in both orders ended.
-- Grain: one row. Reads `games`.
with meetings as (
    select
        count(*) filter (verdict = 'first')  as first,
        count(*) filter (verdict = 'second') as second,
        count(verdict)                       as verdicts
    from games
    where way = 'pairwise'
    group by prompt_id, sample_id, least(first_model, second_model), greatest(first_model, second_model)
)

select
    count(*) filter (verdicts = 2)                                                    as both_orders,
    sum(first) filter (verdicts = 2) / nullif(sum(first + second) filter (verdicts = 2), 0) as first_share,
    count(*) filter (first = 2) / nullif(count(*) filter (verdicts = 2), 0)           as always_first,
    count(*) filter (second = 2) / nullif(count(*) filter (verdicts = 2), 0)          as always_second
from meetings
