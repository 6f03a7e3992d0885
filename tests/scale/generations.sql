-- Responses $low .. $high - 1 of the 7 x $n of the model $model, in the order of their ids: a prompt's lie far apart, as
-- hashes do. One prompt in 500 has none; 15 in 1,000 were cut off, 5 failed; one in 200 is the same in all samples.
with numbered as (
    select
        i,
        (i * 15485863) % (7 * $n::bigint)                      as q,
        9223372036854775807 // (21 * $n::bigint)               as third
    from range($low::bigint, $high::bigint) as t(i)
),

drawn as (
    select
        format('{:016x}', (3 * i + $place) * third + (hash(i, $model) % third::ubigint)::bigint) as generation_id,
        q // 7                                                 as k,
        q % 7                                                  as sample_id,
        9223372036854775807 // $n::bigint                      as step,
        hash(q, $model)                                        as h,
        case when hash(q // 7, 'same') % 200 = 0 then hash(q // 7) else hash(q, $model, 'text') end as text_of
    from numbered
    where hash(q // 7, $model, 'none') % 500 <> 0
),

told as (
    select
        *,
        case when h % 1000 < 5 then 'error' when h % 1000 < 20 then 'length' else 'stop' end as finish_reason,
        case when h % 1000 < 5 then '' else a.text || '. ' || b.text || '. ' || c.text end  as response
    from drawn
    join bank as a on a.piece = (text_of % $pieces::ubigint)::bigint
    join bank as b on b.piece = (hash(text_of, 2) % $pieces::ubigint)::bigint
    join bank as c on c.piece = (hash(text_of, 3) % $pieces::ubigint)::bigint
)

select
    generation_id,
    $model                                                     as model,
    'made'                                                     as model_hash,
    format('{:016x}', k * step + (hash(k, 'prompt') % step::ubigint)::bigint)      as prompt_id,
    sample_id,
    (h >> 1)::bigint                                           as seed,
    response,
    finish_reason,
    case when finish_reason = 'error' then 'server_error' else 'ok' end            as status,
    case when finish_reason = 'error' then 'made to fail' end                      as error,
    100                                                        as prompt_tokens,
    strlen(response) // 4                                      as response_tokens,
    -strlen(response) / 3.0                                    as logprob_sum,
    'made'                                                     as backend
from told
order by generation_id
