-- Three votes of the judge $judge on each of those responses that did not fail. A better model's responses are better,
-- and votes on one differ. Of 1,000 replies 15 have no score, 5 were cut off, 3 failed, 3 are halves, 2 out of range.
with judged as (
    select
        g.generation_id,
        vote_id,
        hash(g.generation_id, vote_id)                          as h,
        1.2 + 0.3 * $place + 2.4 * (hash(g.generation_id) % 1000 / 1000)
            + 1.6 * (hash(g.generation_id, vote_id, 'leaning') % 1000 / 1000 - 0.5)   as felt
    from answered as g, range(3) as t(vote_id)
),

told as (
    select
        *,
        h % 1000                                                as fate,
        a.text || '. ' || b.text || '.'                         as reasons,
        least(5, greatest(0, round(felt)::int))                 as points
    from judged
    join bank as a on a.piece = (hash(h, 1) % $pieces::ubigint)::bigint
    join bank as b on b.piece = (hash(h, 2) % $pieces::ubigint)::bigint
)

select
    generation_id,
    $judge                                                      as judge,
    'made'                                                      as judge_hash,
    'made'                                                      as rubric_hash,
    'votes'                                                     as way,
    vote_id,
    (h >> 1)::bigint                                            as seed,
    case
        when fate < 3 then ''
        when fate < 23 then reasons
        when fate < 26 then reasons || E'\nScore: ' || points || '.5'
        when fate < 28 then reasons || E'\nScore: ' || (points + 6)
        when fate < 100 then reasons || E'\n\n**Score: ' || points || '/5**'
        when fate < 150 then reasons || E'\nFinal score: ' || points || '.'
        else reasons || E'\nScore: ' || points
    end                                                         as raw,
    null::struct(score double, logprob double)[]                as digit_logprobs,
    null::double                                                as given_score,
    case when fate < 3 then 'error' when fate < 8 then 'length' else 'stop' end as finish_reason,
    case when fate < 3 then 'server_error' else 'ok' end        as status,
    case when fate < 3 then 'made to fail' end                  as error,
    500                                                         as prompt_tokens,
    strlen(reasons) // 4                                        as response_tokens,
    'made'                                                      as backend
from told
order by generation_id, vote_id
