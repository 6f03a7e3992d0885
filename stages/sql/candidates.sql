-- A round's candidates: responses with their scores, under the roles they play.
-- Grain: one row per role and generation; a model version that plays two roles stands under both.
-- Reads `generations`, `scores` (with another judge's beside them, as second_score), and `played` (role, model).
select
    g.prompt_id,
    p.role,
    g.generation_id,
    g.model,
    g.response,
    g.finish_reason,
    g.prompt_tokens,
    g.response_tokens,
    s.score,
    s.score_std,
    s.n_votes,
    s.n_parsed,
    s.second_score
from generations as g
join played as p using (model)
left join scores as s using (generation_id)
