//! What a real dump promises, against a real restore of it, whole and after each kind of loss.

use super::*;
use crate::check::promise::{Aspect, Group, Promise};
use crate::format::{DumpFacts, Selection};
use crate::store::{Reading, dump_facts};

fn facts(name: &str) -> DumpFacts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/backups/pg15").join(name);
    dump_facts(&path, &Selection::default(), &Reading::default(), &mut |_| ()).unwrap()
}

fn promise<'a>(facts: &'a DumpFacts, database: &'a str) -> Promise<'a> {
    Promise {
        contents: &facts.contents,
        promised: facts.contents.promised.as_ref().unwrap(),
        counted: None,
        is_dump: true,
        is_text: !facts.format.is_archive(),
        database,
        with_owners: true,
        from_major: facts.major(),
        refusals: Vec::new(),
        more_refusals: false,
        after: false,
    }
}

async fn asked(sql: &Sql, promise: &Promise<'_>) -> Vec<Aspect> {
    let mut answers = Vec::new();
    for group in Group::ALL {
        let mut known = Vec::new();
        loop {
            let probes = promise.probes(group, &known);
            if probes.is_empty() {
                break;
            }
            for probe in probes {
                known.push(sql.ask(&probe).await);
            }
        }
        answers.push(known);
    }
    let answers: Vec<&[Answer]> = answers.iter().map(Vec::as_slice).collect();
    promise.judge(&answers)
}

/// What deviates, by aspect, in words; and how many things that is.
fn broken(aspects: &[Aspect]) -> (Vec<(&'static str, &str)>, usize) {
    let broken = aspects.iter().filter_map(|it| match &it.judged.finding {
        Finding::Held { .. } => None,
        Finding::Broken { observed, .. } => Some((it.name, observed.as_str())),
        Finding::Unknown { because } if it.name == "promise: rows not told" => {
            assert!(because.contains("were not counted"), "{because}");
            None
        }
        // Said to the reader, and no loss.
        Finding::Unknown { because } if it.name == "promise: not examined" => {
            assert!(because.starts_with("entries of these kinds are not looked for: "), "{because}");
            None
        }
        Finding::Unknown { because } => Some((it.name, because.as_str())),
    });
    (broken.collect(), aspects.iter().map(|it| it.objects.len()).sum())
}

/// SQL that loses something, the aspect that must notice, and its words.
const LOSSES: &[(&str, &str, &str)] = &[
    ("drop index shop.customer_name_lower", "objects", "missing: index shop.customer_name_lower"),
    ("drop view shop.customer_card", "objects", "missing: view shop.customer_card"),
    ("drop aggregate shop.product(numeric)", "objects", "missing: function shop.product(numeric)"),
    (
        "alter table shop.team drop constraint team_lead_id_fkey",
        "objects",
        "missing: constraint shop.team.team_lead_id_fkey",
    ),
    ("drop trigger record on shop.customer", "objects", "missing: trigger shop.customer.record"),
    ("drop rule keep on shop.ledger", "objects", "missing: rule shop.ledger.keep"),
    ("drop policy reports on shop.ticket", "objects", "missing: policy shop.ticket.reports"),
    ("drop statistics shop.product_correlation", "objects", "missing: statistics object shop.product_correlation"),
    ("drop cast (shop.price as bigint)", "objects", "missing: cast (shop.price AS bigint)"),
    ("alter table shop.ticket disable row level security", "objects", "missing: row security of shop.ticket"),
    ("comment on table shop.customer is null", "objects", "missing: comment on table shop.customer"),
    (
        "comment on function shop.customer_label(bigint) is null",
        "objects",
        "missing: comment on function shop.customer_label(bigint)",
    ),
    ("alter table shop.signed_note no inherit shop.note", "objects", "missing: parent of shop.signed_note: shop.note"),
    (
        "alter table shop.event detach partition shop.event_2027",
        "objects",
        "missing: parent of shop.event_2027: shop.event",
    ),
    ("drop extension \"uuid-ossp\"", "objects", "missing: extension uuid-ossp"),
    ("alter table shop.product alter id drop default", "objects", "missing: default of column shop.product.id"),
    ("drop text search configuration shop.goods", "objects", "missing: text search configuration shop.goods"),
    (
        "alter table shop.customer disable trigger record",
        "state",
        "trigger shop.customer.record is disabled, in the dump enabled",
    ),
    (
        "alter table shop.note enable trigger record_never",
        "state",
        "trigger shop.note.record_never is enabled, in the dump disabled",
    ),
    (
        "refresh materialized view shop.revenue with no data",
        "state",
        "materialized view shop.revenue is not populated, in the dump populated",
    ),
    ("alter table shop.session set logged", "state", "table shop.session is permanent, in the dump unlogged"),
    (
        "update pg_index set indisvalid = false where indexrelid = 'shop.customer_name_lower'::regclass",
        "state",
        "index shop.customer_name_lower is not valid, in the dump valid",
    ),
    (
        "alter type shop.order_state rename value 'paid' to 'billed'",
        "state",
        "type shop.order_state is of new, on hold, billed, shipped, it's back, in the dump of new, on hold, paid, shipped, it's back",
    ),
    (
        "alter table shop.team owner to auditor",
        "owners and grants",
        "table shop.team belongs to auditor, in the dump to shop_owner",
    ),
    (
        "alter function shop.customer_label(bigint) owner to auditor",
        "owners and grants",
        "function shop.customer_label(bigint) belongs to auditor, in the dump to shop_owner",
    ),
    (
        "revoke insert on shop.customer from shop_app",
        "owners and grants",
        "privileges of shop_app on table shop.customer: DELETE, SELECT, UPDATE; in the dump: DELETE, INSERT, SELECT, UPDATE",
    ),
    (
        "revoke grant option for select on shop.product from shop_app",
        "owners and grants",
        "privileges of shop_app on table shop.product: SELECT; in the dump: SELECT*",
    ),
    (
        "revoke update (subject) on shop.ticket from \"ReportReader\"",
        "owners and grants",
        "privileges of ReportReader on column shop.ticket.subject: SELECT; in the dump: SELECT, UPDATE",
    ),
    (
        "grant execute on function shop.customer_label(bigint) to public",
        "owners and grants",
        "privileges of PUBLIC on function shop.customer_label(id bigint): EXECUTE; in the dump: none",
    ),
    (
        "grant usage on schema public to public",
        "owners and grants",
        "privileges of PUBLIC on schema public: USAGE; in the dump: none",
    ),
    (
        "revoke execute on procedure shop.close_orders(timestamptz) from shop_app",
        "owners and grants",
        "privileges of shop_app on function shop.close_orders(in before timestamp with time zone): none; in the dump: ALL",
    ),
    (
        "alter default privileges for role shop_owner in schema shop revoke select on tables from shop_readonly",
        "owners and grants",
        "privileges of shop_readonly on future tables of shop_owner in shop: none; in the dump: SELECT",
    ),
    (
        "select setval('shop.invoice_number', 70000)",
        "sequences",
        "sequence shop.invoice_number stands at 70000, in the dump at 70007",
    ),
    (
        "select setval('shop.untouched', 42, true)",
        "sequences",
        "sequence shop.untouched stands at 42, in the dump at 42 (not called)",
    ),
    (
        "select lo_unlink(min(oid)) from pg_largeobject_metadata",
        "large objects",
        "2 large objects are there, the dump holds 3",
    ),
    ("delete from shop.employee where id = 40", "rows", "shop.employee has 39 rows, the dump holds 40"),
    ("insert into shop.empty values (1)", "rows", "shop.empty has 1 row, the dump holds 0"),
    ("truncate shop.event_2026_view", "rows", "shop.event_2026_view has 0 rows, the dump holds"),
    ("delete from only shop.note where id = 1", "rows", "shop.note has 6 rows, the dump holds 7"),
    ("drop table \"MixedCase\".\"a.b\"", "objects", "missing: table MixedCase.a.b"),
    ("drop sequence shop.countdown", "objects", "missing: sequence shop.countdown"),
];

fn load(server: &Server, database: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/backups/pg15").join(name);
    // The server's user may not read where this lies.
    let file = std::fs::File::open(path).unwrap();
    let mut psql = server.program("psql");
    psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-U", "boss", "-h"])
        .arg(server.path())
        .args(["-d", database])
        .stdin(file);
    run(&mut psql);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_loss_is_noticed_and_named() {
    let server = Server::start();
    let sql = server.sql();
    let (text, archive) = (facts("shop.sql"), facts("shop.dump"));
    let mut roles = text.contents.roles.clone();
    roles.insert("postgres".to_owned());
    let statements: Vec<String> = roles.iter().map(|it| format!("create role {} superuser", quote_ident(it))).collect();
    let database = "create database shop template template0 encoding 'UTF8' locale 'C'".to_owned();
    assert_eq!(sql.execute("postgres", &[statements, vec![database]].concat()).await.unwrap(), []);
    load(&server, "shop", "shop.sql");
    for (number, facts) in [&text, &archive].into_iter().enumerate() {
        let copy = format!("whole{number}");
        execute(&sql, "postgres", &[&format!("create database {copy} template shop")]).await;
        let aspects = asked(&sql, &promise(facts, &copy)).await;
        assert_eq!(broken(&aspects), (Vec::new(), 0), "{copy}");
        assert!(aspects.iter().any(|it| it.judged.population.examined > 150), "{aspects:?}");
    }
    // Several at a time: asking is what takes the time.
    for (number, losses) in LOSSES.chunks(9).enumerate() {
        let copy = format!("loss{number}");
        execute(&sql, "postgres", &[&format!("create database {copy} template shop")]).await;
        // So the dump's own event triggers and triggers do not act.
        let quietly: Vec<&str> =
            ["set session_replication_role = replica"].into_iter().chain(losses.iter().map(|it| it.0)).collect();
        assert_eq!(execute(&sql, &copy, &quietly).await, [], "{copy}");
        let aspects = asked(&sql, &promise(&text, &copy)).await;
        let (found, deviations) = broken(&aspects);
        for (loss, name, words) in losses {
            let noticed =
                found.iter().any(|(aspect, text)| *aspect == format!("promise: {name}") && text.contains(words));
            assert!(noticed, "{loss}: {found:#?}");
        }
        // Nothing that stays is accused.
        // A partition takes the parts of two indexes with it.
        let lost: usize = losses.iter().map(|it| if it.0.contains(" detach ") { 3 } else { 1 }).sum();
        assert_eq!(deviations, lost, "{found:#?}");
    }
}
