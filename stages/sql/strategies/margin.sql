-- Margin: chosen = the current model's best response; rejected = the best of its responses that score at least
-- $least_gap below it, so a near miss rather than the worst. Of the prompts, those with the widest gaps are kept.
-- Parameters: least_gap (score points), top_n (prompts that are kept; 0 keeps all).
-- Grain: one row per prompt.
with own as (
    select * from sides where role = 'own'
),

below as (
    select
        c.prompt_id,
        own.best_id                                                as chosen_id,
        first(c.generation_id order by c.score desc, c.generation_id) as rejected_id,
        own.best_score - max(c.score)                              as gap
    from candidates as c
    join own using (prompt_id)
    where c.role = 'own'
        and c.finish_reason = 'stop'
        and c.score < own.best_score
        and own.best_score - c.score >= $least_gap
    group by c.prompt_id, own.best_id, own.best_score
),

widest as (
    select
        *,
        row_number() over (order by gap desc, prompt_id) as place
    from below
)

select
    p.prompt_id,
    widest.chosen_id,
    widest.rejected_id
from prompts as p
left join widest on widest.prompt_id = p.prompt_id and ($top_n = 0 or widest.place <= $top_n)
