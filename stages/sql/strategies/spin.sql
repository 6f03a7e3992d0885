-- SPIN (arXiv 2401.01335): chosen = the reference answer, which plays the future role; rejected = one response of the
-- current model. No judge has a say: the scores are the oracle `origin`'s, 1 for a reference and 0 for a model's own.
-- Of the own responses the one with the smallest id is drawn: ids are hashes, so that is a die.
-- Grain: one row per prompt.
with own as (
    select
        prompt_id,
        min(generation_id) as drawn_id
    from candidates
    where role = 'own' and finish_reason = 'stop' and score is not null
    group by prompt_id
),

future as (
    select * from sides where role = 'future'
)

select
    p.prompt_id,
    future.best_id  as chosen_id,
    own.drawn_id    as rejected_id
from prompts as p
left join own using (prompt_id)
left join future using (prompt_id)
