-- How a reply that ends in a score is read: `score_line(raw, top)`, for the rubrics whose parse.sql calls it; `top` is the
-- highest score, as text. The last line must be `Score: N` and nothing else, but for emphasis, a full stop, and what N is
-- out of, which must be `top`: a score among other words may be a quotation, and words after it may take it back.
-- Several such lines at the end must agree. N is whole: there are no halves, so 3.5 is neither 3 nor 4. All else is no
-- score. Whether N is in the rubric's range is seen to by `low()` and `high()`.
--   Clear and complete.\n**Score: 4/5**     4
--   Score: 3\nScore: 4                      null
--   Score: 3.5                              null

-- White space and line ends are what Unicode calls so. `loose`: emphasis, and white space within a line.
create or replace macro loose() as '[*_`\t\x1f \x{a0}\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}]*';
create or replace macro line_end() as '[\n-\r\x1c-\x1e\x{85}\x{2028}\x{2029}]';
create or replace macro white() as
    '[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*';
-- No more than two digits after a comma or point: 1,000 is a thousand to some and 1 to others.
create or replace macro any_number() as '-?[0-9]+(?:[.,][0-9]{1,2})?';

create or replace macro line(top) as replace(
    '(?:#{1,6}|[-+])?~(?:(?:[Ff]inal|[Tt]otal|[Oo]verall)~)?(?:[Ss]core|SCORE)~:~' || any_number()
        || '~(?:(?:/|out of)~' || top || '(?:[.,]0)?~)?(?:points?~)?\.?~',
    '~', loose()
);

-- The score lines at the end of a reply, null where there is none. The pattern is bound to the end and nothing is taken
-- out of it, so that a long reply is read from its end.
create or replace macro last_lines(raw, top) as nullif(regexp_extract(
    raw,
    '(?:\A|' || line_end() || ')' || white()
        || '(?:' || line(top) || line_end() || white() || ')*' || line(top) || white() || '\z'
), '');

create or replace macro whole(number) as case when number = trunc(number) then number end;
create or replace macro agreed(lines) as list_reduce(
    list_transform(
        regexp_extract_all(lines, ':' || loose() || '(' || any_number() || ')', 1),
        lambda number: whole(try_cast(replace(number, ',', '.') as double))
    ),
    lambda one, other: case when one = other then one end
);

-- One line with a plain number, as nearly all replies end: what `agreed` would say of it, sooner.
create or replace macro plain(lines) as
    try_cast(regexp_extract(lines, '\A[^:]*:[^-0-9:]*([0-9]+)(?:[^0-9.,:][^.,:]*)?(?:\.[^0-9.,:]*)?\z', 1) as double);

create or replace macro score_line(raw, top) as
    coalesce(plain(last_lines(raw, top)), agreed(last_lines(raw, top)));
