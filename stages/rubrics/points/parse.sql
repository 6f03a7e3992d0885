-- How the points judge's reply is read. The last line must be `Score: N` and nothing else, but for emphasis, a full
-- stop, and what N is out of: a score among other words may be a quotation, and words after it may take it back.
-- Several such lines at the end must agree. N is whole: the rubric has no halves, so 3.5 is neither 3 nor 4.
--   Clear and complete.\n**Score: 4/5**     4
--   Score: 3\nScore: 4                      null
--   Score: 3.5                              null
create or replace temp macro low() as 0.0::double;
create or replace temp macro high() as 5.0::double;

-- White space and line ends are what Unicode calls so. `loose`: emphasis, and white space within a line.
create or replace temp macro loose() as '[*_`\t\x1f \x{a0}\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}]*';
create or replace temp macro line_end() as '[\n-\r\x1c-\x1e\x{85}\x{2028}\x{2029}]';
create or replace temp macro white() as
    '[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*';
create or replace temp macro any_number() as '-?[0-9]+(?:[.,][0-9]+)?';

create or replace temp macro line_of(number) as replace(
    '(?:#{1,6}|[-+])?~(?:(?:[Ff]inal|[Tt]otal|[Oo]verall)~)?(?:[Ss]core|SCORE)~:~' || number
        || '~(?:(?:/|out of)~5(?:[.,]0)?~)?(?:points?~)?\.?~',
    '~', loose()
);
-- Patterns end at the reply's end, so that a long reply is read from there.
create or replace temp macro at_the_end(lines) as '(?:\A|' || line_end() || ')' || white() || lines || white() || '\z';
create or replace temp macro another_line() as line_of(any_number()) || line_end() || white();

create or replace temp macro last_score(raw) as
    try_cast(regexp_extract(raw, at_the_end(line_of('(-?[0-9]+)(?:[.,]0+)?')), 1) as double);

create or replace temp macro scores_at_the_end(raw) as list_distinct(list_transform(
    regexp_extract_all(
        regexp_extract(raw, at_the_end('((?:' || another_line() || ')*' || line_of(any_number()) || ')'), 1),
        ':' || loose() || '(' || any_number() || ')',
        1
    ),
    lambda number: coalesce(try_cast(replace(number, ',', '.') as double), 'infinity'::double)
));

create or replace temp macro parse(raw) as case
    when not regexp_matches(raw, at_the_end(another_line() || line_of(any_number()))) then last_score(raw)
    when len(scores_at_the_end(raw)) = 1 then last_score(raw)
end;
