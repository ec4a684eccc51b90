//! How fast a dump's text is read: what a drill spends on looking at a plain dump, and on its digest.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgdrill::format::Compression;
use pgdrill::format::plain::Scanner;
use pgdrill::store::{Counting, Reading, pour, scan};

const ROWS: usize = 400_000;

fn rows() -> impl Iterator<Item = String> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..ROWS)
        .map(move |row| format!("{row}\t{}\tCustomer{row}@example.org\t2026-01-01 00:00:00+00\t\\N", random.u64(..)))
}

/// As pg_dump writes it: one table, COPY.
fn copy_text() -> String {
    let mut text = String::from("COPY shop.orders (id, a, b, c, d) FROM stdin;\n");
    rows().for_each(|row| text += &(row + "\n"));
    text + "\\.\n"
}

/// As `pg_dump --inserts` writes it.
fn insert_text() -> String {
    rows().fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "INSERT INTO shop.orders VALUES ('{}');", row.replace('\t', "', '"));
        text
    })
}

fn scanning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan of a plain dump");
    for (name, text) in [("copy", copy_text()), ("inserts", insert_text())] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut scanner = Scanner::default();
                text.as_bytes().chunks(64 * 1024).for_each(|it| scanner.push(it));
                black_box(scanner.finish(Compression::None))
            });
        });
    }
}

fn digesting(criterion: &mut Criterion) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = copy_text();
    file.write_all(text.as_bytes()).expect("room for it");
    let mut group = criterion.benchmark_group("digest of a file");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("scan", |bencher| {
        bencher.iter(|| scan(file.path(), &Reading::default(), &mut |_| {}).expect("a readable file"));
    });
    group.bench_function("pour", |bencher| {
        let mut sink = |chunk: &[u8]| {
            black_box(chunk);
            ControlFlow::Continue(())
        };
        bencher.iter(|| {
            pour(file.path(), Compression::None, Counting::Nothing, &mut sink, &Reading::default(), &mut |_| {})
                .expect("a readable file")
        });
    });
}

criterion_group!(benches, scanning, digesting);
criterion_main!(benches);
