-- Anchored Rejection (arXiv 2508.06026, section 3): chosen = the current model's best response;
-- rejected = the worst of M0 where that scores below the current model's worst, else the current model's worst.
-- Grain: one row per prompt.
with own as (
    select * from sides where role = 'own'
),

anchor as (
    select * from sides where role = 'anchor'
)

select
    p.prompt_id,
    own.best_id as chosen_id,
    case
        when anchor.worst_score < own.worst_score then anchor.worst_id
        else nullif(own.worst_id, own.best_id)
    end as rejected_id
from prompts as p
left join own using (prompt_id)
left join anchor using (prompt_id)
