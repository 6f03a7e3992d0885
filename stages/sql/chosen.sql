-- The candidates that a strategy chose, without their texts.
-- Grain: one row per generation. Reads `candidates` and `chosen_rejected`.
with wanted as (
    select chosen_id as generation_id from chosen_rejected
    union
    select rejected_id from chosen_rejected
)

-- One response can play several roles.
select distinct
    generation_id,
    prompt_id,
    model,
    finish_reason,
    score,
    response_tokens
from candidates
semi join wanted using (generation_id)
order by prompt_id, generation_id
