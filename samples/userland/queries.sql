-- What sqlite3 is asked about the 100,000 rows that worklist.sh makes.
select count(*), sum(a), avg(b), min(c), max(c), total(b) from t;
create index t_a on t (a);
create index t_c on t (c);
select a, count(*), round(avg(b), 6), group_concat(id) from t where id % 100 = 3 group by a order by 2 desc, 1 limit 50;
select c, length(c), upper(substr(c, 3)), hex(c) from t where c like '%99%7' order by c limit 200;
select x.id, y.id, x.b + y.b from t x join t y on x.a = y.a and x.id < y.id where x.id < 100 order by 1, 2 limit 500;
update t set b = b * 1.1 where a between 100 and 300;
delete from t where a = 7;
select printf('%.15g|%.17g|%e|%08.3f|%x', b, b, b, b, id) from t where id % 997 = 0;
with recursive n(i, v) as (select 1, 1.0 union all select i + 1, v * 1.0000001 + 1.0 / i from n where i < 200000)
    select i, v from n where i % 10000 = 0;
select b, rank() over (order by b), sum(a) over (order by b rows 10 preceding) from t where id % 501 = 0 order by b;
select quote(cast(b as text)), typeof(b), cast(b as integer), abs(-b), b / 0 from t limit 100;
select json_object('a', a, 'b', b, 'c', json_array(c, id)) from t where id % 3000 = 1;
select sum(id * a % 65521), sum(b) from t;
pragma integrity_check;
vacuum;
