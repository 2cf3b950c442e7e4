//! A cluster that holds a bit of everything, and a digest of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use strongroom_testkit::postgres::PostgresServer;

/// A database whose name needs quoting everywhere.
pub(crate) const ODD_DATABASE: &str = "Läden \"1\" 🏦 select";

/// A table with every kind of index, and values that live beside their rows.
const TABLES: &str = r#"
    create table "Ware ""x""" (id bigint primary key, name text, tags text[], place point, span int4range, doc jsonb, ip inet);
    insert into "Ware ""x""" select i, md5(i::text), array[md5((i%7)::text), md5((i%11)::text)], point(i, i%97),
        int4range(i, i + 10), jsonb_build_object('n', i), ('10.0.0.0'::inet + i) from generate_series(1, 20000) i;
    create index on "Ware ""x""" using btree (name);
    create index on "Ware ""x""" using hash (name);
    create index on "Ware ""x""" using gin (tags);
    create index on "Ware ""x""" using gist (place);
    create index on "Ware ""x""" using spgist (ip inet_ops);
    create index on "Ware ""x""" using brin (id);
    create table large_values (id int, body text);
    alter table large_values alter body set storage external;
    insert into large_values select i, repeat(md5(i::text), 20000) from generate_series(1, 20) i;
    create unlogged table volatile_rows (id int primary key);
    insert into volatile_rows select generate_series(1, 1000);
    create table parts (id int, day date) partition by range (day);
    create table parts_2025 partition of parts for values from ('2025-01-01') to ('2026-01-01');
    create table parts_rest partition of parts default;
    insert into parts select i, date '2025-06-01' + i from generate_series(1, 500) i;
    create materialized view view_of_parts as select day, count(*) from parts group by day;
    create sequence numbers start 1000 increment 7;
    select nextval('numbers') from generate_series(1, 50);
    select lo_from_bytea(4711, convert_to(repeat('large object ', 100000), 'UTF8'));
"#;

/// One digest of all rows of all ordinary tables, sequences and large objects.
const DIGEST: &str = r"
    create or replace function pg_temp.digest() returns text language plpgsql as $$
    declare relation record; part text; whole text := '';
    begin
        for relation in
            select c.oid, c.oid::regclass::text as name, case c.relkind when 'S' then 'last_value, is_called' else 't' end as what
            from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'm', 'S') and c.relpersistence = 'p'
              and n.nspname not in ('pg_catalog', 'information_schema')
              and c.relname !~ '^(ledger|pgbench|churn)' order by 2
        loop
            execute format('select count(*) || md5(coalesce(string_agg(md5(row(%1$s)::text), '''' order by md5(row(%1$s)::text)), '''')) from %2$s t',
                relation.what, relation.name) into part;
            whole := whole || relation.name || part;
        end loop;
        select coalesce(string_agg(md5(lo_get(oid)), '' order by oid), '') into part from pg_largeobject_metadata;
        return whole || part;
    end $$;
    select pg_temp.digest();
";

/// The same questions through each kind of index; the tables themselves are not looked through.
/// `pg_amcheck` knows B-trees only.
const THROUGH_INDEXES: [(&str, &str); 6] = [
    ("btree", "select count(*), min(id) from \"Ware \"\"x\"\"\" where name between '4' and '8'"),
    ("hash", "select id from \"Ware \"\"x\"\"\" where name = md5('777')"),
    ("gin", "select count(*) from \"Ware \"\"x\"\"\" where tags @> array[md5('3')]"),
    ("gist", "select count(*) from \"Ware \"\"x\"\"\" where place <@ box '((100,0),(5000,50))'"),
    ("spgist", "select count(*) from \"Ware \"\"x\"\"\" where ip << inet '10.0.32.0/20'"),
    ("brin", "select count(*) from \"Ware \"\"x\"\"\" where id + 0 > 0 and id between 5000 and 6000"),
];

/// What the indexes of the cluster answer, each checked to be the one that is asked.
pub(crate) fn through_indexes(server: &PostgresServer) -> Vec<String> {
    let mut answers = Vec::new();
    for database in ["postgres", ODD_DATABASE] {
        for (kind, question) in THROUGH_INDEXES {
            // All other kinds are taken away from the planner, and the table with them.
            let alone = format!(
                "begin; set local enable_seqscan = off;
                 do $$ declare i record; begin
                     for i in select x.indexrelid::regclass as name from pg_index x join pg_class c on c.oid = x.indexrelid
                         join pg_am a on a.oid = c.relam where x.indrelid = '\"Ware \"\"x\"\"\"'::regclass and a.amname <> '{kind}'
                     loop execute 'drop index ' || i.name; end loop;
                 end $$;
                 {question}; rollback"
            );
            let drop_key = "alter table \"Ware \"\"x\"\"\" drop constraint \"Ware \"\"x\"\"_pkey\"; do $$";
            let alone = if kind == "btree" { alone } else { alone.replacen("do $$", drop_key, 1) };
            let plan = alone.replace(question, &format!("explain {question}"));
            let plan = server.psql(database, &plan).unwrap();
            assert!(plan.contains("Index") && !plan.contains("Seq Scan"), "{kind}: {plan}");
            answers.push(format!("{kind}: {}", server.psql(database, &alone).unwrap()));
        }
    }
    answers
}

/// Fills the cluster: two databases, two tablespaces in awkward places, a prepared transaction,
/// and a file with a name in no encoding.
pub(crate) fn fill(server: &PostgresServer) {
    // The server takes any place without a single quote.
    // The oldest one loses a tablespace whose path has a line end, without a word.
    let awkward = if server.version() < 14 { "ta\\ble  sp ace ü\\" } else { "ta\\ble  sp ace\nü\\" };
    for (name, folder) in [("tidy", "tablespace tidy"), ("awkward", awkward)] {
        let place = server.make_folder(folder).unwrap();
        let statement = format!("create tablespace {name} location '{}'", place.to_str().unwrap());
        server.psql("postgres", &statement).unwrap();
    }
    let quoted = ODD_DATABASE.replace('"', "\"\"");
    server.psql("postgres", &format!("create database \"{quoted}\" tablespace awkward")).unwrap();
    for database in ["postgres", ODD_DATABASE] {
        server.psql(database, TABLES).unwrap();
        server
            .psql(database, "create table elsewhere tablespace tidy as select i, md5(i::text) from generate_series(1, 3000) i")
            .unwrap();
        // Maps of free space and visibility, which only this makes; never inside a transaction.
        server.psql(database, "vacuum analyze").unwrap();
        server
            .psql(
                database,
                "begin; insert into parts values (-1, '2025-07-07'); prepare transaction 'pending'",
            )
            .unwrap_or_default();
    }
    std::fs::write(server.data_dir().join(OsStr::from_bytes(b"notes \xff\xfe\n.txt")), b"kept").unwrap();
    strongroom_testkit::account::Account::ordinary().own(server.data_dir()).unwrap();
}

pub(crate) fn digest(server: &PostgresServer) -> Vec<String> {
    ["postgres", ODD_DATABASE].iter().map(|database| server.psql(database, DIGEST).unwrap()).collect()
}
