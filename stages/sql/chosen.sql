-- The candidates that a strategy chose, with their responses.
-- Grain: one row per generation. Reads `candidates` and `chosen_rejected`.
with wanted as (
    select chosen_id as generation_id from chosen_rejected
    union
    select rejected_id from chosen_rejected
)

-- One response can play several roles; its text and score are the same in each.
select
    generation_id,
    any_value(prompt_id)        as prompt_id,
    any_value(model)            as model,
    any_value(finish_reason)    as finish_reason,
    any_value(score)            as score,
    any_value(response)         as response,
    any_value(response_tokens)  as response_tokens
from candidates
semi join wanted using (generation_id)
group by generation_id
order by any_value(prompt_id), generation_id
