-- Votes to scores: the mean of the votes that were parsed, null where none was.
-- Grain: one row per generation. Reads `generations` and `votes` (generation_id, vote_id, value).
with counted as (
    select
        g.generation_id,
        g.model,
        count(v.vote_id)          as n_votes,
        count(v.value)            as n_parsed,
        avg(v.value)              as score,
        stddev_pop(v.value)       as score_std
    from generations as g
    left join votes as v using (generation_id)
    group by all
)

select
    generation_id,
    model,
    $judge as judge,
    n_votes,
    n_parsed,
    score,
    score_std,
    case
        when n_votes = 0 then 'no_votes'
        when n_parsed = 0 then 'unparsed'
        when n_parsed < n_votes then 'partial'
        else 'ok'
    end as parse_status
from counted
