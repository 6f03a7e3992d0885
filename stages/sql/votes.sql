-- Judgments to numbers: what each vote says, null where it says nothing that counts.
-- Grain: one row per judgment of one judge. Reads `judgments`, and `parse(raw)`, `low()` and `high()` of the rubric.
-- votes: the score in the reply, if it ended by itself and the score is within the rubric's range.
-- one_token: the mean of the scores under their distribution, renormalised; if the scores together have less than
-- $least_mass of the probability, the judge was about to say something else.
-- given: the score that was imported with the reply.
with told as (
    select
        generation_id,
        way,
        vote_id,
        finish_reason,
        given_score,
        -- The condition stands inside: what parse() says several times is then worked out once.
        parse(case when way = 'votes' and finish_reason = 'stop' then raw end)     as said,
        case when way = 'one_token' then digit_logprobs end                        as digits
    from judgments
),

weighed as (
    select
        *,
        list_transform(digits, lambda digit: digit.score)                          as scores,
        list_transform(digits, lambda digit: exp(digit.logprob))                   as weights
    from told
),

summed as (
    select
        *,
        list_aggregate(weights, 'fsum')                                            as mass,
        list_aggregate(
            list_transform(digits, lambda digit: exp(digit.logprob) * digit.score), 'fsum'
        )                                                                          as moment
    from weighed
)

select
    generation_id,
    way,
    vote_id,
    case
        when way = 'given' then given_score
        when way = 'votes' then case when finish_reason = 'stop' and said between low() and high() then said end
        -- rounding must not step out of the range
        when mass > 0 and mass >= $least_mass then least(greatest(moment / mass, list_min(scores)), list_max(scores))
    end as value
from summed
