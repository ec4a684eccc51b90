//! Stores as they were at a moment: what was overwritten, deleted or made since does not count.

use std::sync::atomic::{AtomicBool, Ordering};

use pgdrill::fault::Blame;
use pgdrill::report::Report;
use pgdrill::verdict::Verdict;
use sha2::{Digest as _, Sha256};

use crate::objects::{Liar, drills_of, scenario};
use crate::program::{Program, Ran, fixture};
use crate::stores::{Bucket, LOADED, each_file, google, moment, program, s3, versioned_s3};

const LATER: &str = "so that it was made later, or its version was removed since";
const ROWS: &str = "rows: { table: shop.customer, equals: 120 }";

fn drill(source: &str, more: &str, check: &str) -> (Program, Ran) {
    let text = format!(
        "version: 1\ndefaults: {{ postgres: {{ image: \"pgdrill-postgres:{{major}}\" }} }}\ndrills:\n  - name: past\n    \
         source: {{ {source} }}\n{more}    checks:\n      - {check}\n"
    );
    let program = program();
    let ran = program.drill(&text, &[]);
    (program, ran)
}

fn dump(path: &str, access: &str) -> (Report, String) {
    let (program, ran) = drill(&format!("pg_dump: {{ path: \"{path}\", store: {access} }}"), "", ROWS);
    (program.report(), ran.folded())
}

fn is_shop(report: &Report) {
    let bytes = std::fs::read(fixture("pg17/shop.dump")).unwrap();
    let sha256 = hex(&Sha256::digest(bytes));
    let drill = &report.drills[0];
    assert_eq!(report.verdict, Verdict::Passed, "{:?}", drill.reasons);
    assert_eq!(drill.backup.as_ref().unwrap().sha256.as_deref(), Some(&*sha256));
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, it| {
        let _ = write!(text, "{it:02x}");
        text
    })
}

/// Accuses the backup, in these words.
fn is_lost(report: &Report, told: &str) {
    let reason = &report.drills[0].reasons[0];
    assert_eq!((report.verdict, reason.blame), (Verdict::Failed, Some(Blame::Backup)), "{reason:?}");
    let text = serde_json::to_string(&report.drills[0]).unwrap();
    assert!(text.contains(told), "{told}: {text}");
}

/// Accuses no backup, in these words.
fn is_in_doubt(report: &Report, blame: Blame, told: &str) {
    let reason = &report.drills[0].reasons[0];
    assert_eq!((report.verdict, reason.blame), (Verdict::Inconclusive, Some(blame)), "{reason:?}");
    let text = serde_json::to_string(&report.drills[0]).unwrap();
    assert!(text.contains(told), "{told}: {text}");
}

fn nothing(moment: &str) -> String {
    format!("nothing in it matched at {}", moment.replace(".999", ".999000"))
}

#[test]
fn a_repository_that_was_overwritten_and_deleted_is_drilled_as_it_was() {
    let store = versioned_s3();
    let bucket = Bucket::new(store, "ransomed", true);
    bucket.put_all(&fixture("pgbackrest/repository"), "repo");
    let before = moment();
    for name in ["backup.info", "backup.info.copy"] {
        bucket.put(&format!("repo/backup/shop/{name}"), b"all your files are encrypted");
    }
    for name in [
        "backup.manifest",
        "backup.manifest.copy",
        "bundle/1",
        "pg_data/backup_label.zst",
        "pg_data/tablespace_map.zst",
    ] {
        bucket.delete(&format!("repo/backup/shop/20261127-193100F_20261127-193105I/{name}"));
    }
    let wal =
        "archive/shop/17-1/0000000100000000/000000010000000000000018-a2df6c78914768ebec3f0967df89a7e59e4f5821.zst";
    bucket.delete(&format!("repo/{wal}"));
    let source = |access: &str| {
        let pass = fixture("pgbackrest/pass").display().to_string();
        format!(
            "pgbackrest: {{ path: \"{}\", stanza: shop, cipher_pass: {{ file: {pass} }}, store: {access} }}",
            bucket.url("repo")
        )
    };
    let check = "rows: { table: orders, database: shop, equals: 100 }";
    let (program, ran) = drill(&source(&store.access()), "", check);
    assert_eq!(program.report().verdict, Verdict::Inconclusive, "{}", ran.stdout);
    assert!(ran.folded().contains("it cannot be decrypted"), "{}", ran.stdout);
    // Somebody wrote that back, and the rest is still lost.
    for name in ["backup.info", "backup.info.copy"] {
        bucket.put_all(&fixture("pgbackrest/repository/backup/shop").join(name), &format!("repo/backup/shop/{name}"));
    }
    let (program, ran) = drill(&source(&store.access()), "", check);
    assert_eq!(program.report().verdict, Verdict::Failed, "{}", ran.stdout);
    let (program, ran) = drill(&source(&store.access_as_of(&before)), "", check);
    let report = program.report();
    assert_eq!(report.verdict, Verdict::Passed, "{}", ran.stdout);
    let drill = &report.drills[0];
    assert!(drill.backup.as_ref().unwrap().path.ends_with("20261127-193100F_20261127-193105I"), "{:?}", drill.backup);
    let note = format!("s3://ransomed was read as it was at {}", before.replace(".999", ".999000"));
    assert!(drill.notes.deviations.iter().any(|it| it.starts_with(&note)), "{:?}", drill.notes);
    let fetched = drill.fetched.as_ref().unwrap();
    assert!(fetched.list > 0 && fetched.get > 0 && fetched.failed == 0, "{fetched:?}");
}

/// Every other object was overwritten, the others deleted.
#[test]
fn every_source_is_restored_from_a_store_as_it_was() {
    let store = versioned_s3();
    let bucket = Bucket::new(store, "fixtures", true);
    let each = |what: &mut dyn FnMut(&std::path::Path, &str)| {
        for path in LOADED {
            each_file(&fixture(path), path, what);
        }
    };
    each(&mut |path, key| bucket.put(key, &std::fs::read(path).unwrap()));
    let before = moment();
    let mut ruined = 0;
    each(&mut |_, key| {
        ruined += 1;
        if ruined % 2 == 0 { bucket.delete(key) } else { bucket.put(key, b"all your files are encrypted") }
    });
    let program = program();
    let now = drills_of(store);
    program.drill(&scenario(&now), &[]);
    assert!(program.report().drills.iter().all(|it| it.verdict != Verdict::Passed));
    let then: Vec<String> = now.iter().map(|it| it.replace(&store.access(), &store.access_as_of(&before))).collect();
    let ran = program.drill(&scenario(&then), &[]);
    assert_eq!((ran.exit, program.report().drills.len()), (Some(0), now.len()), "{}", ran.stdout);
}

#[test]
fn of_a_dump_the_version_of_the_moment_is_restored_and_none_where_there_was_none() {
    let store = versioned_s3();
    let bucket = Bucket::new(store, "dumps", true);
    let good = std::fs::read(fixture("pg17/shop.dump")).unwrap();
    let key = "daily/shop.dump";
    let never = moment();
    bucket.put(key, &good);
    let whole = moment();
    bucket.put(key, &good[..good.len() / 2]);
    let cut = moment();
    bucket.delete(key);
    let deleted = moment();
    // More than one answer holds.
    for _ in 0..40 {
        bucket.put(key, b"nothing of worth");
    }
    let url = bucket.url(key);
    let at = |moment: &str| dump(&url, &store.access_as_of(moment)).0;
    assert_eq!(dump(&url, &store.access()).0.verdict, Verdict::Failed);
    is_in_doubt(&at(&never), Blame::Scenario, LATER);
    is_shop(&at(&whole));
    is_lost(&at(&cut), "shop.dump");
    is_lost(&at(&deleted), &nothing(&deleted));
}

#[test]
fn what_was_made_later_or_deleted_before_is_not_listed() {
    let store = versioned_s3();
    let bucket = Bucket::new(store, "listed", true);
    let good = std::fs::read(fixture("pg17/shop.dump")).unwrap();
    bucket.put("shop-2026-11-27.dump", b"damaged, and deleted before");
    bucket.delete("shop-2026-11-27.dump");
    bucket.put("shop-2026-11-26.dump", &good);
    bucket.put_all(&fixture("base"), "base");
    bucket.put("base/2026-11-28/base.tar.zst", b"damaged, and deleted before");
    bucket.delete("base/2026-11-28/base.tar.zst");
    let before = moment();
    bucket.put("shop-2026-11-28.dump", b"damaged, and made later");
    bucket.put("base/2026-11-29/base.tar.zst", b"damaged, and made later");
    bucket.delete("base/wal/00000001000000000000000E.zst");
    let access = store.access_as_of(&before);
    let url = bucket.url("shop-*.dump");
    assert_eq!(dump(&url, &store.access()).0.verdict, Verdict::Failed);
    let (report, text) = dump(&url, &access);
    is_shop(&report);
    assert!(!text.contains("shop-2026-11-27.dump") && !text.contains("shop-2026-11-28.dump"), "{text}");
    is_lost(&dump(&bucket.url("shop-*27.dump"), &access).0, &nothing(&before));
    is_lost(&dump(&bucket.url("none-*.dump"), &access).0, &nothing(&before));
    is_in_doubt(&dump(&bucket.url("shop-*28.dump"), &access).0, Blame::Scenario, LATER);
    let source = |access: &str| {
        format!(
            "base_backup: {{ path: \"{}\", wal: \"{}\", store: {access} }}",
            bucket.url("base/2026-*"),
            bucket.url("base/wal")
        )
    };
    let (more, check) =
        ("    target: { name: before the mistake }\n", "rows: { table: orders, database: shop, equals: 600 }");
    let (program, _) = drill(&source(&store.access()), more, check);
    assert_eq!(program.report().verdict, Verdict::Failed);
    let (program, ran) = drill(&source(&access), more, check);
    assert_eq!(program.report().verdict, Verdict::Passed, "{}", ran.stdout);
    assert_eq!(program.report().drills[0].backup.as_ref().unwrap().path, bucket.url("base/2026-11-27"));
}

#[test]
fn a_copy_is_compared_as_it_was() {
    let store = versioned_s3();
    let bucket = Bucket::new(store, "copied", true);
    bucket.put_all(&fixture("pg17/shop.dump"), "shop.dump");
    let before = moment();
    bucket.put("shop.dump", b"overwritten");
    let source = format!("pg_dump: {{ path: {} }}", fixture("pg17/shop.dump").display());
    for (access, verdict) in [(store.access(), Verdict::Failed), (store.access_as_of(&before), Verdict::Passed)] {
        let copies =
            format!("    copies: [{{ path: \"{}\", name: offsite, store: {access} }}]\n", bucket.url("shop.dump"));
        let (program, ran) = drill(&source, &copies, ROWS);
        let report = program.report();
        assert_eq!(report.verdict, verdict, "{}", ran.stdout);
        let told = report.drills[0].notes.deviations.iter().any(|it| it.starts_with("s3://copied was read as it was"));
        assert_eq!(told, verdict == Verdict::Passed);
    }
    // The same place now and then are two places: what changed since is told.
    let then = format!(
        "    copies: [{{ path: \"{0}\", name: then, store: {1} }}]\n",
        bucket.url("shop.dump"),
        store.access_as_of(&before)
    );
    let now = format!("pg_dump: {{ path: \"{}\", store: {} }}", bucket.url("shop.dump"), store.access());
    let (program, ran) = drill(&now, &format!("{then}    restore_from: then\n"), ROWS);
    assert_eq!(program.report().verdict, Verdict::Failed);
    assert!(ran.folded().contains("original: ") && ran.folded().contains("bytes and not"), "{}", ran.stdout);
}

#[test]
fn generations_of_google_cloud_storage_are_read_as_of_a_moment() {
    let store = google();
    let bucket = Bucket::new(store, "generations", true);
    let good = std::fs::read(fixture("pg17/shop.dump")).unwrap();
    let never = moment();
    bucket.put("daily/shop-1.dump", &good);
    let whole = moment();
    bucket.put("daily/shop-1.dump", b"overwritten");
    bucket.put("daily/shop-2.dump", b"made later");
    let overwritten = moment();
    bucket.delete("daily/shop-1.dump");
    let deleted = moment();
    let at = |key: &str, moment: &str| dump(&bucket.url(key), &store.access_as_of(moment)).0;
    is_shop(&at("daily/shop-1.dump", &whole));
    is_shop(&at("daily/*.dump", &whole));
    let token = store.access_as_of(&whole).replace("anonymous: true", "token: { env: STORE_KEY }");
    assert!(token.contains("STORE_KEY"));
    is_shop(&dump(&bucket.url("daily/shop-1.dump"), &token).0);
    is_lost(&at("daily/shop-1.dump", &overwritten), "daily/shop-1.dump");
    is_lost(&at("daily/shop-1.dump", &deleted), &nothing(&deleted));
    is_in_doubt(&at("daily/shop-1.dump", &never), Blame::Scenario, LATER);
    is_in_doubt(&at("daily/*.dump", &never), Blame::Scenario, LATER);
    is_in_doubt(&at("daily/*-2.dump", &whole), Blame::Scenario, LATER);
}

#[test]
fn a_bucket_that_keeps_no_versions_accuses_no_backup() {
    let store = versioned_s3();
    let early = moment();
    let good = fixture("pg17/shop.dump");
    let plain = Bucket::new(store, "unversioned", false);
    plain.put_all(&good, "shop.dump");
    let late = Bucket::new(store, "late", false);
    late.put_all(&good, "old.dump");
    let between = moment();
    late.put_all(&good, "new.dump");
    let _ = moment();
    late.keep_versions();
    let gone = Bucket::new(google(), "ungenerated", false);
    gone.put_all(&good, "shop.dump");
    let s3_at = |moment: &str| store.access_as_of(moment);
    let keeps_none = "keeps no versions: what was overwritten or deleted in it since";
    let hidden = "new.dump was written at";
    for (url, access, told) in [
        (plain.url("shop.dump"), s3_at(&early), keeps_none),
        (plain.url("none.dump"), s3_at(&early), keeps_none),
        (plain.url("*.dump"), s3_at(&early), keeps_none),
        (late.url("new.dump"), s3_at(&between), hidden),
        (late.url("n*.dump"), s3_at(&between), hidden),
        (gone.url("shop.dump"), google().access_as_of(&early), keeps_none),
        // It heeds signatures, and has no versions.
        (s3().url("pg17/shop.dump"), s3().access_as_of(&early), "versions"),
        (s3().url("pg17/shop.dump"), s3().access_as_of(&early).replace("STORE_SECRET", "STORE_KEY"), "Signature"),
        (s3().url("pg17/shop.dump").replace("fixtures", "no-such-bucket"), s3().access_as_of(&early), ""),
    ] {
        let (report, _) = dump(&url, &access);
        let reason = &report.drills[0].reasons[0];
        let text = serde_json::to_string(&report.drills[0]).unwrap();
        assert_eq!(report.verdict, Verdict::Inconclusive, "{url}: {reason:?}");
        assert_ne!(reason.blame, Some(Blame::Backup), "{url}");
        assert!(text.contains(told), "{url}: {text}");
        assert_eq!(text.contains("SignatureDoesNotMatch"), told == "Signature", "{url}: {text}");
    }
    // What was written before all that is known to have been there.
    is_shop(&dump(&late.url("old.dump"), &s3_at(&between)).0);
}

/// A server of one object that was overwritten: whoever reads it by its name gets the newer one.
#[test]
fn versions_that_may_not_be_listed_accuse_no_backup_and_a_busy_store_is_asked_again() {
    let denied = "<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>";
    let page = "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>shop.dump</Key><VersionId>v+1</VersionId>\
        <IsLatest>false</IsLatest><LastModified>2026-11-20T10:00:00.000Z</LastModified><Size>9</Size></Version></ListVersionsResult>";
    let serve = move |may_know: bool, may_list: bool| {
        let busy = AtomicBool::new(true);
        Liar::start(move |head| {
            let asked = head.lines().next().unwrap();
            Some(if asked.contains("?versioning=") {
                let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
                if may_know { ("200 OK", enabled.to_owned()) } else { ("403 Forbidden", denied.to_owned()) }
            } else if asked.contains("?versions=") && busy.swap(false, Ordering::Relaxed) {
                ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>".to_owned())
            } else if asked.contains("prefix=shop.dump%2F") {
                ("200 OK", "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>".to_owned())
            } else if asked.contains("?versions=") {
                if may_list { ("200 OK", page.to_owned()) } else { ("403 Forbidden", denied.to_owned()) }
            } else if asked.contains("versionId=v%2B1") {
                (
                    "206 Partial Content\r\nContent-Range: bytes 0-8/9\r\nLast-Modified: Fri, 20 Nov 2026 10:00:00 GMT\r\nETag: \"e\"",
                    "the older".to_owned(),
                )
            } else {
                ("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>".to_owned())
            })
        })
    };
    let at = |liar: &Liar| {
        let access = format!(
            "{{ endpoint: \"http://127.0.0.1:{}\", access_key: {{ env: STORE_KEY }}, secret_key: {{ env: STORE_SECRET }}, \
             as_of: \"2026-11-20 10:00:00+00\" }}",
            liar.port
        );
        dump("s3://old/shop.dump", &access).0
    };
    for (may_know, may_list) in [(false, true), (true, false)] {
        let report = at(&serve(may_know, may_list));
        let reason = &report.drills[0].reasons[0];
        assert_eq!((report.verdict, reason.blame), (Verdict::Inconclusive, Some(Blame::Host)), "{reason:?}");
        let told =
            "AccessDenied: not for you (`as_of` needs the rights to s3:GetBucketVersioning, s3:ListBucketVersions";
        assert!(reason.causes[0].starts_with(told), "{reason:?}");
    }
    let report = at(&serve(true, true));
    // Nine bytes are no dump.
    assert_eq!(report.drills[0].reasons[0].blame, Some(Blame::Backup), "{:?}", report.drills[0].reasons);
    let fetched = report.drills[0].fetched.as_ref().unwrap();
    assert!(
        fetched.failed == 1 && fetched.get >= 2 && fetched.bytes >= 9,
        "{fetched:?} {:?}",
        report.drills[0].reasons
    );
}

/// A server of nothing else.
fn told_by(answers: &'static [(&'static str, &'static str, &'static str)]) -> Liar {
    Liar::start(move |head| {
        let asked = head.lines().next().unwrap();
        let found = answers.iter().find(|it| asked.contains(it.0));
        Some(found.map_or(("404 Not Found", String::new()), |it| (it.1, it.2.to_owned())))
    })
}

#[test]
fn what_a_server_says_of_versions_is_not_believed_blindly() {
    const ENABLED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    const VERSION: &str = "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>shop.dump</Key><VersionId>v1</VersionId>\
        <IsLatest>true</IsLatest><LastModified>2026-11-20T10:00:00.000Z</LastModified><Size>9</Size></Version></ListVersionsResult>";
    const NONE: &str = "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>";
    const PART: &str = "206 Partial Content\r\nContent-Range: bytes 0-8/9\r\nLast-Modified: Fri, 20 Nov 2026 10:00:00 GMT\r\nETag: \"e\"\
        \r\nx-amz-version-id: v2";
    let at = |answers| {
        let access = format!(
            "{{ endpoint: \"http://127.0.0.1:{}\", access_key: {{ env: STORE_KEY }}, secret_key: {{ env: STORE_SECRET }}, \
             as_of: \"2026-11-20 10:00:00+00\" }}",
            told_by(answers).port
        );
        dump("s3://old/shop.dump", &access).0
    };
    let told = "does not give the version that was asked for";
    let versioning = ("?versioning=", "200 OK", ENABLED);
    let other: &[_] = Box::leak(Box::new([
        versioning,
        ("prefix=shop.dump%2F", "200 OK", NONE),
        ("?versions=", "200 OK", VERSION),
        ("versionId=", PART, "the other"),
    ]));
    is_in_doubt(&at(other), Blame::Host, told);
    for (answer, told) in [
        ("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", "the server does not list versions"),
        ("<ListVersionsResult/>", "does not say whether it goes on"),
        ("<Error><Code>ExpiredToken</Code><Message>old</Message></Error>", "\"ExpiredToken: old\""),
        ("<Error><Code>AccessDenied</Code></Error>", "AccessDenied (`as_of` needs the rights to"),
    ] {
        is_in_doubt(&at(Box::leak(Box::new([versioning, ("?versions=", "200 OK", answer)]))), Blame::Host, told);
    }
}

#[test]
fn generations_from_before_a_bucket_ceased_to_keep_them_are_read() {
    const GENERATIONS: &str = r#"{"items":[
        {"name":"shop.dump","generation":"1","size":"9","timeCreated":"2026-11-20T09:00:00Z","timeDeleted":"2026-11-20T11:00:00Z"},
        {"name":"shop.dump","generation":"2","size":"4","timeCreated":"2026-11-20T11:00:00Z"}]}"#;
    const PART: &str = "206 Partial Content\r\nContent-Range: bytes 0-8/9\r\nLast-Modified: Fri, 20 Nov 2026 09:00:00 GMT\r\nETag: \"e\"\
        \r\nx-goog-generation: 1";
    let liar = told_by(&[
        ("?fields=versioning", "200 OK", r#"{"versioning":{"enabled":false}}"#),
        ("prefix=shop.dump%2F", "200 OK", "{}"),
        ("prefix=gone.dump", "200 OK", "{}"),
        ("versions=true", "200 OK", GENERATIONS),
        ("generation=1", PART, "the older"),
    ]);
    let access = format!(
        "{{ endpoint: \"http://127.0.0.1:{}\", anonymous: true, as_of: \"2026-11-20 10:00:00+00\" }}",
        liar.port
    );
    // Nine bytes are no dump.
    is_lost(&dump("gs://old/shop.dump", &access).0, "shop.dump");
    is_in_doubt(&dump("gs://old/gone.dump", &access).0, Blame::Scenario, "keeps no versions any more");
}

#[test]
fn a_moment_has_a_zone_has_been_and_is_one_of_a_store() {
    let check = |source: &str| {
        let program = program();
        let text = format!(
            "version: 1\ndrills:\n  - name: past\n    source:\n      pg_dump:\n        {source}\n    checks: [{{ {ROWS} }}]\n"
        );
        let file = program.file("scenario.yaml", &text);
        program.run(&["check", &file])
    };
    let store = |path: &str, moment: &str| format!("path: {path}\n        store: {{ as_of: \"{moment}\" }}");
    check(&store("s3://b/shop.dump", "2026-11-20 10:00:00+00")).expect(0);
    check(&store("gs://b/shop.dump", "2026-11-20T10:00:00+01:00")).expect(0);
    for (source, told) in [
        (store("s3://b/shop.dump", "2026-11-20 10:00:00"), "`2026-11-20 10:00:00` is no time with its zone"),
        (store("s3://b/shop.dump", "yesterday"), "`yesterday` is no time with its zone"),
        (store("s3://b/shop.dump", "2999-01-01 00:00:00+00"), "`as_of` lies in the future"),
        (store("az://b/shop.dump", "2026-11-20 10:00:00+00"), "`as_of` has no meaning for az://"),
        (store("/b/shop.dump", "2026-11-20 10:00:00+00"), "`store` has no meaning for a path on this machine"),
    ] {
        let ran = check(&source).expect(2);
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(text.contains(told) && text.contains("scenario.yaml:7:"), "{source}: {text}");
    }
}
