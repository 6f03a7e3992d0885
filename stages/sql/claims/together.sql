-- Whether two quantities go together over the rounds of an arm, within a seed.
-- Grain: one row per claim and seed. Reads `points` (judge, seed, arm, round, quantity, value) and `asked`.
with rounds as (
    select
        a.claim,
        one.seed,
        one.value,
        other.value as other_value
    from asked as a
    join points as one
        on one.quantity = a.quantity and one.judge = a.judge and one.arm = a.arm and one.round <= a.last
    join points as other
        on other.quantity = a.other and other.judge = a.judge and other.arm = a.arm
        and other.round = one.round and other.seed = one.seed
)

select
    claim,
    seed,
    corr(value, other_value) as correlation
from rounds
group by claim, seed
-- Two rounds always lie on a line.
having count(*) > 2 and min(value) < max(value) and min(other_value) < max(other_value)
order by claim, seed
