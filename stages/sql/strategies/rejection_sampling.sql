-- Rejection sampling: chosen = the current model's best response, which alone is learned (SFT on the best, stage tune).
-- The rejected one, its worst, is kept for the gap: where no response is better than another there is nothing to choose.
-- Grain: one row per prompt.
with own as (
    select * from sides where role = 'own'
)

select
    p.prompt_id,
    own.best_id                        as chosen_id,
    nullif(own.worst_id, own.best_id)  as rejected_id
from prompts as p
left join own using (prompt_id)
