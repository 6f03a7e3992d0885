-- One round in numbers: yield, gaps, and how far judge and truth agree on the round's own candidates.
-- Grain: one row. Reads `pairs`, `dropped`, `measures`, `judged` (generation_id, score, truth).
with paired as (
    select
        count(*)                                          as pairs,
        avg(gap)                                          as gap,
        avg(chosen_score)                                 as chosen_score,
        avg(rejected_score)                               as rejected_score,
        avg(length_delta)                                 as length_delta,
        avg(chosen_truth)                                 as chosen_truth,
        avg(rejected_truth)                               as rejected_truth,
        avg(chosen_truth - rejected_truth)                as true_gap,
        avg((chosen_truth < rejected_truth)::double)      as upside_down,
        avg(cosine)                                       as cosine,
        avg(cosine_centred)                               as cosine_centred,
        avg(feature_distance)                             as feature_distance,
        avg(gradient_distance)                            as gradient_distance,
        avg(margin)                                       as margin,
        avg((margin > 0)::double)                         as accuracy
    from pairs
    join measures using (pair_id)
),

agreement as (
    select
        avg((round(score) = truth)::double)               as judge_agreement,
        avg(abs(score - truth))                           as judge_error,
        avg(score - truth)                                as judge_bias,
        avg((score is not null)::double)                  as judge_parsed,
        avg(truth)                                        as candidates_truth
    from judged
),

lost as (
    select count(*) as dropped from dropped
)

select
    *,
    pairs + dropped                                       as prompts,
    pairs / nullif(pairs + dropped, 0)                    as yield
from paired, agreement, lost
