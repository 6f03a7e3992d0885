-- A quantity of one arm, round and judge beside that of another, or of the same arm in another round, seed by seed.
-- Grain: one row per claim and seed. Reads `points` (judge, seed, arm, round, quantity, value) and `asked`.
select
    a.claim,
    one.seed,
    one.value,
    other.value                                                     as other_value,
    one.value - other.value                                         as difference,
    -- Of nothing, or of less, there is no share.
    case when other.value > 0 then one.value / other.value end      as share
from asked as a
join points as one
    on one.quantity = a.quantity and one.judge = a.judge and one.arm = a.arm and one.round = a.round
join points as other
    on other.quantity = a.quantity and other.judge = a.other_judge and other.arm = a.other_arm
    and other.round = a.other_round and other.seed = one.seed
order by claim, seed
