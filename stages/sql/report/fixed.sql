-- How far each model version, as a judge, agrees with the truth on the same fixed responses.
-- Grain: one row per judge. Reads `judged` (judge, generation_id, score, truth).
select
    judge,
    avg((round(score) = round(truth))::double)                                            as agreement,
    stddev_samp((round(score) = round(truth))::double) / sqrt(count(round(score) = round(truth)))       as agreement_se,
    avg(abs(score - truth))                                                 as error,
    avg(score - truth)                                                      as bias,
    avg((score is not null)::double)                                        as parsed
from judged
group by judge
order by judge
