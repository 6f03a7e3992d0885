-- The verdict on a judge's judgment of every rated response: kept to learn from, or the reason why not.
-- Grain: one row per response. Reads `responses`, `human` and `scores` (generation_id, score), `votes`.
-- A prompt's judgments are kept where the judge orders its responses as people did: of any two that people rated
-- differently, the better one scores higher. What people rated the same may stand in any order. Equal scores for what
-- people rated differently are a wrong order, unless $ties is 'agree'.
with told as (
    -- Of several votes on a response, the one nearest to their mean speaks for them.
    select
        v.generation_id,
        arg_min(v.vote_id, (abs(v.value - s.score), v.vote_id))            as vote_id,
        arg_min(v.value, (abs(v.value - s.score), v.vote_id))              as value
    from votes as v
    join scores as s using (generation_id)
    where v.value is not null
    group by v.generation_id
),

judged as (
    select
        r.generation_id,
        r.prompt_id,
        h.score                                                             as human,
        s.score,
        t.vote_id,
        t.value,
        case
            when row_number() over (partition by r.asked_id order by r.generation_id) > 1 then 'same_judge_prompt'
            when h.score is null then 'no_rating'
            when t.value is null then 'unscored'
        end                                                                 as reason
    from responses as r
    left join human as h using (generation_id)
    left join scores as s using (generation_id)
    left join told as t using (generation_id)
),

compared as (
    select
        a.prompt_id,
        bool_or(a.score < b.score or (a.score = b.score and $ties <> 'agree'))     as is_wrong
    from judged as a
    join judged as b on a.prompt_id = b.prompt_id and a.human > b.human
    where a.reason is null and b.reason is null
    group by a.prompt_id
),

ordered as (
    select
        j.generation_id,
        j.prompt_id,
        j.human,
        j.score,
        j.vote_id,
        j.value,
        case
            when j.reason is not null then j.reason
            when c.is_wrong is null then 'nothing_to_order'
            when c.is_wrong then 'other_order'
        end                                                                 as reason
    from judged as j
    left join compared as c using (prompt_id)
),

placed as (
    select
        *,
        row_number() over (partition by reason is null, value order by md5($draw || generation_id)) as place
    from ordered
)

select
    generation_id,
    prompt_id,
    human,
    score,
    vote_id,
    value,
    case
        when reason is not null then reason
        when $most_per_score > 0 and place > $most_per_score then 'score_is_full'
    end as reason
from placed
