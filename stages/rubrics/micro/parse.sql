-- How the micro judge's reply is read. The reply must be of the form as a whole: a score among other text is no score.
--   l+ j+ u- u+ f+ o+ =4     4
--   score: 5                 null
create or replace macro low() as 0.0::double;
create or replace macro high() as 5.0::double;

-- All that Unicode calls white space may stand around it.
create or replace macro white() as
    '[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*';

create or replace macro parse(raw) as
    try_cast(regexp_extract(raw, '\A' || white() || '(?:[a-z_][+-] )+=([0-5])' || white() || '\z', 1) as double);
