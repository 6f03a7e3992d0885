-- The verdict on every prompt: a pair, or the reason why not. The same for all strategies.
-- Grain: one row per prompt. Reads `chosen_rejected` (a strategy's result), `prompts`, `sides`, `chosen` (the candidates
-- that were chosen) and `texts` (their responses). Parameters low and high (null is no limit) are the ids of a part of the
-- prompts.
with asked as (
    select * from prompts where prompt_id >= $low and ($high is null or prompt_id < $high)
),

sided as (
    select * from sides where prompt_id >= $low and ($high is null or prompt_id < $high)
),

told as (
    select
        c.*,
        t.response
    from chosen as c
    join texts as t using (generation_id)
    where c.prompt_id >= $low and ($high is null or c.prompt_id < $high)
),

choice as (
    select * from chosen_rejected where prompt_id >= $low and ($high is null or prompt_id < $high)
),

needed as (
    -- The own side must have a usable response; other sides may be short, and the strategy then falls back.
    select
        p.prompt_id,
        coalesce(s.n_candidates, 0)                                 as n_own,
        coalesce(s.n_answered, 0)                                   as n_answered,
        coalesce(s.n_finished, 0)                                   as n_finished,
        coalesce(s.n_usable, 0)                                     as n_usable,
        s.best_score = s.worst_score                                as is_tied
    from asked as p
    left join sided as s on s.prompt_id = p.prompt_id and s.role = 'own'
),

present as (
    -- A role without any row for a prompt is a hole in the data, not a bad response.
    select
        prompt_id,
        count(distinct role) as n_roles
    from sided
    group by prompt_id
),

joined as (
    select
        p.prompt_id,
        p.messages,
        c.generation_id   as chosen_id,
        r.generation_id   as rejected_id,
        c.model           as chosen_model,
        r.model           as rejected_model,
        c.score           as chosen_score,
        r.score           as rejected_score,
        c.response        as chosen_text,
        r.response        as rejected_text,
        c.response_tokens - r.response_tokens as length_delta,
        case
            when coalesce(present.n_roles, 0) < $n_roles then 'missing_side'
            when needed.n_answered = 0 then 'failed'
            when needed.n_finished = 0 then 'truncated'
            when needed.n_usable = 0 then 'unscored'
            when x.chosen_id is null or x.rejected_id is null then
                case when needed.is_tied then 'tie' else 'not_chosen' end
            when c.score <= r.score then 'tie'
            when c.response = r.response then 'identical'
            when c.score - r.score <= $min_gap then 'small_gap'
        end as reason
    from asked as p
    left join choice as x using (prompt_id)
    left join told as c on c.generation_id = x.chosen_id and c.prompt_id = p.prompt_id
    left join told as r on r.generation_id = x.rejected_id and r.prompt_id = p.prompt_id
    left join needed on needed.prompt_id = p.prompt_id
    left join present on present.prompt_id = p.prompt_id
)

select
    -- As stages/ids.py makes ids: the hash of a list in JSON, which $pair_list begins.
    left(sha256(concat($pair_list, ',', to_json(chosen_id), ',', to_json(rejected_id), ']')), 16) as pair_id,
    prompt_id,
    $model                                               as model,
    $strategy                                            as strategy,
    reason,
    messages                                             as prompt,
    [{'role': 'assistant', 'content': chosen_text}]      as chosen,
    [{'role': 'assistant', 'content': rejected_text}]    as rejected,
    chosen_id,
    rejected_id,
    chosen_model,
    rejected_model,
    chosen_score,
    rejected_score,
    chosen_score - rejected_score                        as gap,
    length_delta
from joined
