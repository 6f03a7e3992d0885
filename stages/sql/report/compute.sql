-- Tokens that each arm needs for its first rounds, if it ran alone: the union of the rows it rests on.
-- Grain: one row per arm and round, cumulative. Reads `work` (arm, round, kind, key), each key once an arm and
-- round, and `costs` (kind, key, tokens).
select
    arm,
    round,
    sum(tokens) filter (kind = 'generated')::bigint  as generated,
    sum(tokens) filter (kind = 'judged')::bigint     as judged,
    sum(tokens) filter (kind = 'trained')::bigint    as trained,
    sum(tokens)::bigint                              as total
from work
join costs using (kind, key)
group by arm, round
order by arm, round
