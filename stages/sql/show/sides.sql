-- Both responses of one pair, with what made them.
-- Parameters: pair_id.
-- Grain: one row per side (chosen, rejected).
with sides as (
    select 'chosen' as side, chosen_id as generation_id, chosen_from as source, chosen as messages, chosen_score as score
    from pairs
    where pair_id = $pair_id
    union all
    select 'rejected', rejected_id, rejected_from, rejected, rejected_score
    from pairs
    where pair_id = $pair_id
)

select
    s.side,
    s.generation_id,
    s.source,
    s.score,
    s.messages[-1].content      as response,
    g.model,
    g.model_hash,
    g.split,
    g.sample_id,
    g.seed,
    g.finish_reason,
    g.response_tokens,
    g.logprob_sum,
    g.backend
from sides as s
left join generations as g using (generation_id)
order by s.side
