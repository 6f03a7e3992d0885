-- One pair with all that is known of it. $prompt_id spares reading the rest of a large file: pairs are sorted by it.
-- Grain: one row per pair, none if there is no such pair.
with pair as (
    select * from pairs where prompt_id = $prompt_id and pair_id = $pair_id
),

measured as (
    select pair_id, chosen_truth, rejected_truth from measures where pair_id = $pair_id
)

select
    pair.pair_id,
    pair.model,
    learners.arm,
    learners.round,
    learners.split,
    pair.strategy,
    pair.prompt_id,
    pair.prompt,
    pair.chosen,
    pair.rejected,
    pair.chosen_id,
    pair.rejected_id,
    pair.chosen_model,
    pair.rejected_model,
    pair.chosen_from,
    pair.rejected_from,
    pair.chosen_score,
    pair.rejected_score,
    measured.chosen_truth,
    measured.rejected_truth,
    pair.gap,
    pair.length_delta
from pair
join learners on learners.model = pair.model and learners.place = 1
left join measured on measured.pair_id = pair.pair_id
