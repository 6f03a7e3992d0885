-- Who meets whom: every two model versions, on every prompt and sample that one of them has answered.
-- Grain: one row per prompt, sample and two model versions in their order.
-- Reads `players` (model, place) and `generations`. $samples: the first so many of each prompt; $swapped: each meeting
-- is played in both orders. A meeting that cannot be played is one row with its reason; so is one of equal texts.
with grid as (
    select distinct prompt_id, sample_id
    from generations
    where sample_id < $samples
),

two as (
    select
        one.model   as first_model,
        other.model as second_model
    from players as one
    join players as other on one.place < other.place
),

meetings as (
    select
        grid.prompt_id,
        grid.sample_id,
        first_model,
        second_model,
        one.generation_id                  as first_id,
        other.generation_id                as second_id,
        case
            when one.generation_id is null or other.generation_id is null then 'no_response'
            when one.finish_reason = 'error' or other.finish_reason = 'error' then 'failed_response'
        end                                as reason,
        coalesce(one.response = other.response, false) as same_text
    from grid
    cross join two
    left join generations as one
        on one.prompt_id = grid.prompt_id and one.sample_id = grid.sample_id and one.model = first_model
    left join generations as other
        on other.prompt_id = grid.prompt_id and other.sample_id = grid.sample_id and other.model = second_model
)

select * from meetings
union all
select
    prompt_id,
    sample_id,
    second_model as first_model,
    first_model  as second_model,
    second_id    as first_id,
    first_id     as second_id,
    reason,
    same_text
from meetings
where $swapped and reason is null and not same_text
