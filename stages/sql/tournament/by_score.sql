-- What two scores by one judge decide.
-- Grain: one row per game. Reads `asked` (game_id, first_id, second_id) and `scores` of all responses by one judge.
select
    game_id,
    one.score   as first_score,
    other.score as second_score,
    case
        when one.score > other.score then 'first'
        when one.score < other.score then 'second'
        when one.score = other.score then 'tie'
    end         as verdict,
    case when one.score is null or other.score is null then 'unscored' end as reason
from asked
left join scores as one on one.generation_id = first_id
left join scores as other on other.generation_id = second_id
