-- What each side of a prompt has to offer. Strategies choose among these; ties are broken by id.
-- Grain: one row per prompt and role (own, anchor, future).
-- Usable: has a score and ended by itself. A truncated response is no answer, neither good nor bad.
with counted as (
    -- The least of (score, id) couples: no list of a side's rows is kept and sorted, and no order of rows has a say.
    select
        prompt_id,
        role,
        count(*)                                            as n_candidates,
        count(*) filter (finish_reason <> 'error')          as n_answered,
        count(*) filter (finish_reason = 'stop')            as n_finished,
        count(*) filter (usable)                            as n_usable,
        min({'score': -score, 'id': generation_id}) filter (usable) as best,
        min({'score': score, 'id': generation_id}) filter (usable)  as worst
    from (select *, finish_reason = 'stop' and score is not null as usable from candidates)
    group by prompt_id, role
)

select
    prompt_id,
    role,
    n_candidates,
    n_answered,
    n_finished,
    n_usable,
    best.id      as best_id,
    -best.score  as best_score,
    worst.id     as worst_id,
    worst.score  as worst_score
from counted
order by prompt_id, role
