-- Responses with what a judge gave them.
-- Grain: one row per generation and judge; a response that nobody judged is in `generations` alone.
create or replace view candidates as
select
    g.generation_id,
    s.judge,
    g.model,
    g.split,
    g.prompt_id,
    g.sample_id,
    s.score,
    s.score_std,
    s.n_votes,
    s.n_parsed,
    s.parse_status,
    g.finish_reason,
    g.response_tokens,
    g.response
from generations as g
join scores as s using (generation_id);
