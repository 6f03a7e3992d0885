-- Votes to scores: the mean of the votes that were parsed, null where none was.
-- Grain: one row per generation, in their order. Reads `generations` and `votes` (generation_id, way, vote_id, value).
-- is_whole: its votes are those that were asked for, in the way $way: 0 .. $votes - 1, or any where $votes is null, each
-- once, and none where the generation failed. A vote has a bit, so that this costs little; none above 61 has one, and
-- what then, or else, is not whole is left to wrong_votes.sql, which looks for what is wrong.
with counted as (
    select
        generation_id,
        count(*)               as n_votes,
        count(value)           as n_parsed,
        avg(value)             as score,
        stddev_pop(value)      as score_std,
        bit_or(case when vote_id between 0 and 61 then 1::bigint << vote_id::integer else 0 end) as bits,
        bool_and(way = $way)   as is_way
    from votes
    group by generation_id
),

asked as (
    select
        case
            when $votes::bigint <= 62 then (1::bigint << least($votes::bigint, 62)::integer) - 1
            when $votes::bigint > 62 then -1
        end                    as all_bits
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
    end                        as parse_status,
    coalesce(is_way, true)
        and coalesce(bit_count(bits), 0) = coalesce(n_votes, 0)
        and coalesce(bits, 0) = case when finish_reason = 'error' then 0 else coalesce(all_bits, bits, 0) end as is_whole
from generations as g
cross join asked
left join counted as c using (generation_id)
-- Rows in no order would be sorted, and looked through for double keys, where they are written: thrice as dear.
order by generation_id
