-- Future-Guided Chosen (arXiv 2508.06026, section 3): chosen = the future model's best response where that
-- scores above the current model's best, else the current model's best; rejected = as in anchored_rejection.
-- Without a past (anchor = own) this is the ablation `future_only`.
-- Grain: one row per prompt.
with own as (
    select * from sides where role = 'own'
),

anchor as (
    select * from sides where role = 'anchor'
),

future as (
    select * from sides where role = 'future'
),

sided as (
    select
        p.prompt_id,
        case
            when future.best_score > own.best_score then future.best_id
            else own.best_id
        end as chosen_id,
        case
            when anchor.worst_score < own.worst_score then anchor.worst_id
            else own.worst_id
        end as rejected_id
    from prompts as p
    left join own using (prompt_id)
    left join anchor using (prompt_id)
    left join future using (prompt_id)
)

select
    prompt_id,
    chosen_id,
    nullif(rejected_id, chosen_id) as rejected_id
from sided
