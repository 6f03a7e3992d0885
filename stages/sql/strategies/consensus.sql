-- Consensus: best against worst among the current model's responses on whose score the judge's votes agree.
-- Parameters: max_score_std (population standard deviation of the votes, at most), least_votes (parsed votes, at least).
-- Grain: one row per prompt.
with agreed as (
    select
        prompt_id,
        generation_id,
        score
    from candidates
    where role = 'own'
        and finish_reason = 'stop'
        and score is not null
        and n_parsed = n_votes
        and n_parsed >= $least_votes
        and score_std <= $max_score_std
),

ends as (
    select
        prompt_id,
        first(generation_id order by score desc, generation_id) as best_id,
        first(generation_id order by score, generation_id)      as worst_id
    from agreed
    group by prompt_id
)

select
    p.prompt_id,
    ends.best_id                        as chosen_id,
    nullif(ends.worst_id, ends.best_id) as rejected_id
from prompts as p
left join ends using (prompt_id)
