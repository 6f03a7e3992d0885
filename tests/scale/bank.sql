-- Pieces of made-up text of 100 to 600 characters, of words as common as words are: few often, many seldom.
-- One piece in 20 is not plain ASCII, which makes 14 % of the responses and 10 % of the replies so: of what Arena-Hard and
-- Open-Assistant published, 15 and 19 % of the answers and 8 % of the judgments are.
-- Grain: one row per piece.
with words as (
    select
        k as word,
        array_to_string(
            list_transform(
                range(1 + (hash(k, 'parts') % 3)::bigint),
                lambda j: (['na', 'tor', 'em', 'sil', 'ka', 'ro', 'ven', 'di', 'lu', 'par', 'és', 'on', 'ti', 'mar', 'o',
                            'be', 'gra', 'ult', 'y', 'sen'])[1 + (hash(k, j) % 20)::bigint]
            ),
            ''
        ) as text
    from range(4000) as t(k)
),

chosen as (
    select
        p as piece,
        j as place,
        (4000 * pow((hash(p, j) % 1000003) / 1000003, 3))::bigint % 4000 as word
    from range($pieces) as t(p), range(16 + (hash(p, 'length') % 80)::bigint) as s(j)
)

select
    piece,
    string_agg(
        case when piece % 20 = 0 then text else replace(text, 'é', 'e') end
            || case when hash(piece, place, 'stop') % 12 = 0 then '.' else '' end,
        ' '
        order by place
    ) as text
from chosen
join words using (word)
group by piece
