-- Pairs to look at: of each kind in turn, spread over the model versions that learned from them.
-- Grain: one row per pair, at most $count. Reads `pair_rows` (pairs with their measures; model = the learner).
with sized as (
    select
        *,
        max(gap) over (partition by model)     as widest,
        min(gap) over (partition by model)     as narrowest,
        median(gap) over (partition by model)  as middle
    from pair_rows
),

kinds as (
    select
        *,
        case
            when chosen_truth < rejected_truth then 'upside down'
            when gap = widest then 'widest'
            when gap = narrowest then 'narrowest'
            else 'typical'
        end as kind
    from sized
),

once as (
    -- Arms share prompts, and often pairs: a prompt is shown once, upside down where any arm has it so.
    select *
    from kinds
    qualify row_number() over (
        partition by prompt_id order by (kind = 'upside down') desc, md5(model || ' ' || pair_id)
    ) = 1
),

ranked as (
    select
        *,
        row_number() over (
            partition by kind, model
            order by
                case kind
                    when 'upside down' then chosen_truth - rejected_truth
                    when 'typical' then abs(gap - middle)
                end nulls last,
                pair_id
        ) as rank_in_model
    from once
),

slots as (
    -- A kind starts with another model version each time, by a hash that has no favourites.
    select
        *,
        row_number() over (partition by kind order by rank_in_model, md5(kind || ' ' || model), pair_id) as slot
    from ranked
)

select
    kind,
    model,
    pair_id,
    prompt,
    chosen,
    rejected,
    chosen_model,
    rejected_model,
    chosen_score,
    rejected_score,
    chosen_truth,
    rejected_truth,
    gap
from slots
order by slot, kind, model, pair_id
limit $count
