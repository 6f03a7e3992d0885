-- The responses that a strategy chose, each with the part of the prompts that its prompt belongs to.
-- Grain: one row per generation. Reads `generations`, `chosen`, and `parts` (part, and `low`: the first id of it).
with placed as (
    select
        generation_id,
        part
    from chosen
    asof join parts on chosen.prompt_id >= parts.low
)

select
    part,
    generation_id,
    response
from generations
join placed using (generation_id)
