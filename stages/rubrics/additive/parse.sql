-- How the additive judge's reply is read: a last line `Score: N`, by the rule in ../score_line.sql.
create or replace macro low() as 0.0::double;
create or replace macro high() as 5.0::double;
create or replace macro parse(raw) as score_line(raw, '5');
