-- How far each model version, as a judge, agrees with the truth on the same fixed responses.
-- Grain: one row per judge. Reads `judged` (judge, generation_id, score, truth).
select
    judge,
    avg((round(score) = truth)::double)                                            as agreement,
    stddev_samp((round(score) = truth)::double) / sqrt(count(round(score) = truth))       as agreement_se,
    avg(abs(score - truth))                                                 as error,
    avg(score - truth)                                                      as bias,
    avg((score is not null)::double)                                        as parsed
from judged
group by judge
order by judge
