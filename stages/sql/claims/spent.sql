-- What each arm takes for its first rounds if it ran alone: the union of the tasks it rests on, M0's making left out.
-- Grain: one row per arm and round, cumulative. Reads `work` (arm, round, kind, key), each key once an arm and round,
-- and `costs` (stage, key, tokens, updates, cpu_seconds).
with belongs as (
    select * from (
        values
            ('generated', 'generate'),
            ('judged', 'judge'), ('judged', 'score'), ('judged', 'oracle'),
            ('trained', 'pair'), ('trained', 'dpo'), ('trained', 'tune')
    ) as t (kind, stage)
)

select
    arm,
    round,
    coalesce(sum(tokens) filter (kind = 'generated'), 0)::bigint    as tokens_generated,
    coalesce(sum(tokens) filter (kind = 'judged'), 0)::bigint       as tokens_judged,
    coalesce(sum(tokens) filter (kind = 'trained'), 0)::bigint      as tokens_trained,
    coalesce(sum(tokens), 0)::bigint                                as tokens,
    coalesce(sum(updates), 0)::bigint                               as updates,
    coalesce(fsum(cpu_seconds), 0)                                  as cpu_seconds
from work
join belongs using (kind)
left join costs using (stage, key)
group by arm, round
order by arm, round
