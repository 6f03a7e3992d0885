-- Self-Rewarding: chosen = the current model's best response, rejected = its worst (arXiv 2401.10020).
-- Grain: one row per prompt. Whether it becomes a pair is decided for all strategies in ../pairs.sql.
with own as (
    select * from sides where role = 'own'
)

select
    p.prompt_id,
    own.best_id                        as chosen_id,
    nullif(own.worst_id, own.best_id)  as rejected_id
from prompts as p
left join own using (prompt_id)
