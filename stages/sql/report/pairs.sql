-- What each model version's pairs were like: means, and their standard errors over pairs.
-- Grain: one row per model version that learned. Reads `pair_rows` (pairs with their measures; model = the learner).
select
    model,
    count(*)                                                                as pairs,
    avg(gap)                                                                as gap,
    stddev_samp(gap) / sqrt(count(gap))                                     as gap_se,
    avg(chosen_truth - rejected_truth)                                      as true_gap,
    stddev_samp(chosen_truth - rejected_truth)
        / sqrt(count(chosen_truth - rejected_truth))                        as true_gap_se,
    avg((chosen_truth < rejected_truth)::double)                            as upside_down,
    stddev_samp((chosen_truth < rejected_truth)::double)
        / sqrt(count(chosen_truth < rejected_truth))                        as upside_down_se,
    avg(cosine)                                                             as cosine,
    stddev_samp(cosine) / sqrt(count(cosine))                               as cosine_se,
    avg(cosine_centred)                                                     as cosine_centred,
    stddev_samp(cosine_centred) / sqrt(count(cosine_centred))               as cosine_centred_se,
    avg(feature_distance)                                                   as feature_distance,
    stddev_samp(feature_distance) / sqrt(count(feature_distance))           as feature_distance_se,
    avg(gradient_distance)                                                  as gradient_distance,
    stddev_samp(gradient_distance) / sqrt(count(gradient_distance))         as gradient_distance_se,
    avg(margin)                                                             as margin,
    stddev_samp(margin) / sqrt(count(margin))                               as margin_se
from pair_rows
group by model
order by model
