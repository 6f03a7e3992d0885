-- Views over what is made beside the default run, by `tsr tournament` and `tsr benchmark`: most datasets have none.
create or replace view games as
select
    * exclude (filename),
    parse_filename(filename, true) as split
from read_parquet(getvariable('data') || '/games/*/*.parquet', filename = true);

create or replace view benchmarks as
select * from read_parquet(getvariable('data') || '/benchmarks/*/*.parquet');
