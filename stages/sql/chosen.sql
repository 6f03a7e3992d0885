-- The candidates that a strategy chose, with their responses.
-- Grain: one row per generation. Reads `candidates` and `chosen_rejected`.
with wanted as (
    select chosen_id as generation_id from chosen_rejected
    union
    select rejected_id from chosen_rejected
),

once as (
    -- One response can play several roles; its text is fetched in one of them.
    select
        generation_id,
        min(role) as role
    from candidates
    semi join wanted using (generation_id)
    group by generation_id
)

select
    c.generation_id,
    c.prompt_id,
    c.model,
    c.finish_reason,
    c.score,
    c.response,
    c.response_tokens
from candidates as c
semi join once using (generation_id, role)
order by c.prompt_id, c.generation_id
