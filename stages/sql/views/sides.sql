-- What each side of a prompt has to offer. Strategies choose among these; ties are broken by id.
-- Grain: one row per prompt and role (own, anchor, future).
-- Usable: has a score and ended by itself. A truncated response is no answer, neither good nor bad.
select
    prompt_id,
    role,
    count(*)                                            as n_candidates,
    count(*) filter (finish_reason <> 'error')          as n_answered,
    count(*) filter (finish_reason = 'stop')            as n_finished,
    count(*) filter (usable)                            as n_usable,
    first(generation_id order by score desc, generation_id) filter (usable) as best_id,
    max(score) filter (usable)                          as best_score,
    first(generation_id order by score, generation_id) filter (usable)      as worst_id,
    min(score) filter (usable)                          as worst_score
from (select *, finish_reason = 'stop' and score is not null as usable from candidates)
group by prompt_id, role
