//! Writes a TPC-H database as SQL for psql: `cargo run --release --example tpch -- 0.1 | psql tpch`.
//!
//! The same scale factor always gives the same bytes. Rows stream from the generator to standard output, so that the
//! scale decides the time, not the memory. Keys and indexes come after the rows, as pg_dump has them.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

const TABLES: &str = "\
create table region (r_regionkey integer not null, r_name char(25) not null, r_comment varchar(152));
create table nation (n_nationkey integer not null, n_name char(25) not null, n_regionkey integer not null,
    n_comment varchar(152));
create table part (p_partkey integer not null, p_name varchar(55) not null, p_mfgr char(25) not null,
    p_brand char(10) not null, p_type varchar(25) not null, p_size integer not null, p_container char(10) not null,
    p_retailprice numeric(15,2) not null, p_comment varchar(23) not null);
create table supplier (s_suppkey integer not null, s_name char(25) not null, s_address varchar(40) not null,
    s_nationkey integer not null, s_phone char(15) not null, s_acctbal numeric(15,2) not null,
    s_comment varchar(101) not null);
create table partsupp (ps_partkey integer not null, ps_suppkey integer not null, ps_availqty integer not null,
    ps_supplycost numeric(15,2) not null, ps_comment varchar(199) not null);
create table customer (c_custkey integer not null, c_name varchar(25) not null, c_address varchar(40) not null,
    c_nationkey integer not null, c_phone char(15) not null, c_acctbal numeric(15,2) not null,
    c_mktsegment char(10) not null, c_comment varchar(117) not null);
create table orders (o_orderkey bigint not null, o_custkey integer not null, o_orderstatus char(1) not null,
    o_totalprice numeric(15,2) not null, o_orderdate date not null, o_orderpriority char(15) not null,
    o_clerk char(15) not null, o_shippriority integer not null, o_comment varchar(79) not null);
create table lineitem (l_orderkey bigint not null, l_partkey integer not null, l_suppkey integer not null,
    l_linenumber integer not null, l_quantity numeric(15,2) not null, l_extendedprice numeric(15,2) not null,
    l_discount numeric(15,2) not null, l_tax numeric(15,2) not null, l_returnflag char(1) not null,
    l_linestatus char(1) not null, l_shipdate date not null, l_commitdate date not null, l_receiptdate date not null,
    l_shipinstruct char(25) not null, l_shipmode char(10) not null, l_comment varchar(44) not null);
";

const KEYS: &str = "\
alter table region add primary key (r_regionkey);
alter table nation add primary key (n_nationkey);
alter table part add primary key (p_partkey);
alter table supplier add primary key (s_suppkey);
alter table partsupp add primary key (ps_partkey, ps_suppkey);
alter table customer add primary key (c_custkey);
alter table orders add primary key (o_orderkey);
alter table lineitem add primary key (l_orderkey, l_linenumber);
alter table nation add foreign key (n_regionkey) references region;
alter table supplier add foreign key (s_nationkey) references nation;
alter table partsupp add foreign key (ps_partkey) references part;
alter table partsupp add foreign key (ps_suppkey) references supplier;
alter table customer add foreign key (c_nationkey) references nation;
alter table orders add foreign key (o_custkey) references customer;
alter table lineitem add foreign key (l_orderkey) references orders;
alter table lineitem add foreign key (l_partkey, l_suppkey) references partsupp;
create index on partsupp (ps_suppkey);
create index on customer (c_nationkey);
create index on orders (o_custkey);
create index on orders (o_orderdate);
create index on lineitem (l_partkey, l_suppkey);
create index on lineitem (l_shipdate);
";

#[expect(clippy::print_stderr, reason = "a program for people who measure")]
fn main() -> ExitCode {
    let scale = std::env::args().nth(1).and_then(|it| it.parse::<f64>().ok()).filter(|it| *it > 0.0 && it.is_finite());
    let Some(scale) = scale else {
        eprintln!("usage: tpch SCALE (0.01 is some 10 MB, 1 is some 1 GB)");
        return ExitCode::from(2);
    };
    match write_database(scale, &mut BufWriter::with_capacity(1 << 20, std::io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to write: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_database(scale: f64, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "-- TPC-H, scale factor {scale}\n\\set ON_ERROR_STOP on\nbegin;")?;
    out.write_all(TABLES.as_bytes())?;
    copy(out, "region", RegionGenerator::new(scale, 1, 1))?;
    copy(out, "nation", NationGenerator::new(scale, 1, 1))?;
    copy(out, "part", PartGenerator::new(scale, 1, 1))?;
    copy(out, "supplier", SupplierGenerator::new(scale, 1, 1))?;
    copy(out, "partsupp", PartSuppGenerator::new(scale, 1, 1))?;
    copy(out, "customer", CustomerGenerator::new(scale, 1, 1))?;
    copy(out, "orders", OrderGenerator::new(scale, 1, 1))?;
    copy(out, "lineitem", LineItemGenerator::new(scale, 1, 1))?;
    out.write_all(KEYS.as_bytes())?;
    writeln!(out, "commit;")?;
    Ok(out.flush()?)
}

/// TPC-H's own text form has a `|` after the last column too, which COPY would take for one more. The specification's
/// texts hold neither `|` nor a backslash, so that nothing needs an escape.
fn copy<Row: Display>(
    out: &mut impl Write,
    table: &str,
    rows: impl IntoIterator<Item = Row>,
) -> Result<(), Box<dyn Error>> {
    writeln!(out, "copy {table} from stdin (delimiter '|');")?;
    let mut line = String::new();
    for row in rows {
        line.clear();
        write!(line, "{row}")?;
        writeln!(out, "{}", line.strip_suffix('|').unwrap_or(&line))?;
    }
    Ok(writeln!(out, "\\.")?)
}
