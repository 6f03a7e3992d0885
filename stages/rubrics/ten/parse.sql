-- How the 1-to-10 judge's reply is read: a last line `Score: N`, by the rule in ../score_line.sql.
create or replace macro low() as 1.0::double;
create or replace macro high() as 10.0::double;
create or replace macro parse(raw) as score_line(raw, '10');
