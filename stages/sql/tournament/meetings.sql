-- How two model versions did against each other on a prompt.
-- Grain: one row per prompt and two model versions, the one named first in the alphabet as `model`. Reads `games`.
-- A meeting counts as a whole: where it was played in both orders and one of them gave no verdict, the other one would
-- bring in the judge's liking for a place, so neither counts, and the meeting is left out.
with meetings as (
    select
        prompt_id,
        sample_id,
        least(first_model, second_model)                                                    as model,
        greatest(first_model, second_model)                                                 as other,
        count(*) filter (
            verdict = 'first' and first_model < second_model or verdict = 'second' and second_model < first_model
        )                                                                                   as wins,
        count(*) filter (verdict = 'tie')                                                   as ties,
        count(*)                                                                            as verdicts,
        count(verdict) = count(*)                                                           as counts
    from games
    group by all
)

select
    prompt_id,
    model,
    other,
    coalesce(sum(wins) filter (counts), 0)::bigint                                          as wins,
    coalesce(sum(ties) filter (counts), 0)::bigint                                          as ties,
    coalesce(sum(verdicts - wins - ties) filter (counts), 0)::bigint                        as losses,
    count(*) filter (not counts)                                                            as left_out
from meetings
group by prompt_id, model, other
