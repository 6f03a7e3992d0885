-- Votes to scores: the mean of the votes that were parsed, null where none was.
-- Grain: one row per generation, in their order. Reads `generations` and `votes` (generation_id, vote_id, value).
with counted as (
    select
        generation_id,
        count(*)               as n_votes,
        count(value)           as n_parsed,
        avg(value)             as score,
        stddev_pop(value)      as score_std
    from votes
    group by generation_id
)

select
    g.generation_id,
    g.model,
    $judge                     as judge,
    coalesce(n_votes, 0)       as n_votes,
    coalesce(n_parsed, 0)      as n_parsed,
    score,
    score_std,
    case
        when coalesce(n_votes, 0) = 0 then 'no_votes'
        when n_parsed = 0 then 'unparsed'
        when n_parsed < n_votes then 'partial'
        else 'ok'
    end                        as parse_status
from generations as g
left join counted as c using (generation_id)
-- Rows in no order would be sorted, and looked through for double keys, where they are written: thrice as dear.
order by generation_id
