-- The true score of an arm after a round beside that of another arm when it had spent as much.
-- Grain: one row per claim and seed. Reads `points` (judge, seed, arm, round, quantity, value) and `asked`.
--
-- The other arm's score is read between two of its rounds, on the straight line. To stop after the one or after the other,
-- by lot, would cost the budget on average and give that score on average: so it can be had. The round before would give
-- the other arm less than its due, the round after more. Beyond its last round nothing is guessed: that round stands, and
-- `spent` says for what share of the budget.
with budgets as (
    select
        a.claim,
        cost.seed,
        a.cost,
        a.other_judge,
        a.other_arm,
        a.other_round,
        cost.value      as budget,
        score.value     as value
    from asked as a
    join points as cost
        on cost.quantity = a.cost and cost.judge = a.judge and cost.arm = a.arm and cost.round = a.round
    join points as score
        on score.quantity = 'true_score' and score.judge = a.judge and score.arm = a.arm and score.round = a.round
        and score.seed = cost.seed
),

line as (
    select
        b.claim,
        b.seed,
        b.budget,
        b.value,
        cost.round,
        cost.value      as cost,
        score.value     as score
    from budgets as b
    join points as cost
        on cost.quantity = b.cost and cost.judge = b.other_judge and cost.arm = b.other_arm and cost.seed = b.seed
        and cost.round <= b.other_round
    join points as score
        on score.quantity = 'true_score' and score.judge = b.other_judge and score.arm = b.other_arm
        and score.seed = b.seed and score.round = cost.round
),

around as (
    select
        claim,
        seed,
        any_value(budget)                                       as budget,
        any_value(value)                                        as value,
        max(cost) filter (cost <= budget)                       as cost_before,
        arg_max(score, round) filter (cost <= budget)           as score_before,
        min(cost) filter (cost > budget)                        as cost_after,
        arg_min(score, round) filter (cost > budget)            as score_after
    from line
    group by claim, seed
),

met as (
    select
        claim,
        seed,
        value,
        score_before + coalesce(
            (budget - cost_before) / (cost_after - cost_before) * (score_after - score_before), 0
        )                                                                       as other_value,
        case when cost_after is null then cost_before / nullif(budget, 0) else 1 end  as spent
    from around
)

select
    claim,
    seed,
    value,
    other_value,
    value - other_value     as difference,
    coalesce(spent, 1)      as spent
from met
order by claim, seed
