-- Ways of reading a judge, held against each other on the same fixed responses.
-- Grain: one row per judge and reading. Reads `readings` (judge, reading, generation_id, score, truth, tokens).
with compared as (
    -- Any two responses of which one is truly better: does the judge see which?
    select
        a.judge,
        a.reading,
        avg((sign(a.score - b.score) = sign(a.truth - b.truth))::double)  as right_order,
        avg((a.score = b.score)::double)                                  as tied,
        avg((sign(a.score - b.score) = sign(b.truth - a.truth))::double)  as wrong_order
    from readings as a
    join readings as b
        on a.judge = b.judge and a.reading = b.reading and a.generation_id < b.generation_id and a.truth <> b.truth
    where a.score is not null and b.score is not null
    group by a.judge, a.reading
)

select
    r.judge,
    r.reading,
    count(*)                                                              as judgments,
    avg((r.score is not null)::double)                                    as scored,
    avg((round(r.score) = round(r.truth))::double)                               as agreement,
    avg(abs(r.score - r.truth))                                           as error,
    first(c.right_order)                                                  as right_order,
    first(c.tied)                                                         as tied,
    first(c.wrong_order)                                                  as wrong_order,
    avg(r.tokens)                                                         as tokens
from readings as r
left join compared as c on c.judge = r.judge and c.reading = r.reading
group by r.judge, r.reading
order by r.judge, r.reading
