-- The gap of each round's pairs, as the judge saw it and, where the source has a verifier, as it was.
-- Grain: one row per arm and round, or per pairs file where there is no plan.
with told as (
    select
        p.model,
        count(*)                                    as pairs,
        avg(p.gap)                                  as gap,
        avg(p.chosen_score)                         as chosen_score,
        avg(p.rejected_score)                       as rejected_score,
        avg(m.chosen_truth - m.rejected_truth)      as true_gap
    from pairs as p
    left join measures as m using (pair_id)
    group by p.model
),

lost as (
    select model, count(*) as dropped from dropped group by model
)

select
    coalesce(r.arm, '-')                                                as arm,
    r.round,
    model,
    coalesce(t.pairs, 0)                                                as pairs,
    round(coalesce(t.pairs, 0) / (coalesce(t.pairs, 0) + coalesce(l.dropped, 0)), 3) as yield,
    round(t.gap, 3)                                                     as gap,
    round(t.chosen_score, 3)                                            as chosen_score,
    round(t.rejected_score, 3)                                          as rejected_score,
    round(t.true_gap, 3)                                                as true_gap
from told as t
full join lost as l using (model)
left join rounds as r using (model)
order by r.arm is null, r.arm, r.round, model
