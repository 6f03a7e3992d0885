-- How the reply of a judge of two responses is read. Its last line must be the verdict and nothing else, but for
-- emphasis and a full stop: a verdict among other words may be a quotation, and words after it may take it back.
-- Several such lines at the end must agree.
--   The first is right.\n**Verdict: A**     first
--   Verdict: A\nVerdict: B                  null
--   Verdict: A or B                         null
create or replace macro loose() as '[*_`\t\x1f \x{a0}\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}]*';
create or replace macro line_end() as '[\n-\r\x1c-\x1e\x{85}\x{2028}\x{2029}]';
create or replace macro white() as
    '[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*';

-- A and B are capitals, so that `a tie` and `b) ...` are none; tie is written as it comes.
create or replace macro line() as replace(
    '(?:#{1,6}|[-+])?~(?:(?:[Ff]inal|[Mm]y)~)?(?:[Vv]erdict|VERDICT)~:~(?:\[{0,2}~(?:(?:[Rr]esponse|[Aa]ssistant)~)?'
        || '(?:A|B|[Tt]ie|TIE)~\]{0,2})~\.?~',
    '~', loose()
);

create or replace macro last_lines(raw) as nullif(regexp_extract(
    raw,
    '(?:\A|' || line_end() || ')' || white()
        || '(?:' || line() || line_end() || white() || ')*' || line() || white() || '\z'
), '');

create or replace macro said(lines) as list_distinct(
    list_transform(regexp_extract_all(lines, ':[^\n]*?(A|B|[Tt]ie|TIE)(?:[^A-Za-z]|\z)', 1), lambda word: lower(word))
);

create or replace macro verdict(raw) as case said(last_lines(raw))
    when ['a'] then 'first'
    when ['b'] then 'second'
    when ['tie'] then 'tie'
end;
