-- The responses that a strategy chose, each with the part of the prompts that its prompt belongs to.
-- Grain: one row per generation. Reads `generations`, `chosen`, and `parts` (part, and `low`: the first id of it).
with placed as (
    select
        generation_id,
        prompt_id,
        part
    from chosen
    asof join parts on chosen.prompt_id >= parts.low
)

select
    p.part,
    p.prompt_id,
    p.generation_id,
    g.response
from generations as g
join placed as p using (generation_id)
