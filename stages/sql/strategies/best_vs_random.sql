-- Best against random: chosen = the current model's best response, rejected = one of its others, drawn by id.
-- Parameters: draw (another number draws others).
-- Grain: one row per prompt.
with own as (
    select * from sides where role = 'own'
),

others as (
    select
        c.prompt_id,
        c.generation_id
    from candidates as c
    join own using (prompt_id)
    where c.role = 'own'
        and c.finish_reason = 'stop'
        and c.score is not null
        and c.generation_id <> own.best_id
),

drawn as (
    -- A hash of the id is as good as a die, and the same on every machine.
    select
        prompt_id,
        first(generation_id order by md5(concat($draw::varchar, ' ', generation_id)), generation_id) as generation_id
    from others
    group by prompt_id
)

select
    p.prompt_id,
    own.best_id         as chosen_id,
    drawn.generation_id as rejected_id
from prompts as p
left join own using (prompt_id)
left join drawn using (prompt_id)
