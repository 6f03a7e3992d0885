-- Candidates of prompts that are not there.
-- Grain: one row. Reads `sides` and `prompts`.
select
    min(prompt_id)              as prompt_id,
    count(distinct prompt_id)   as n_prompts
from sides
anti join prompts using (prompt_id)
