//! WAL archives with something wrong in them: said in the survey, before anything is restored.

use std::io::Write as _;
use std::path::Path;

use pgdrill::format::lsn::Lsn;

use crate::lab::{Lab, lab};
use crate::program::{Program, Ran, copied};

/// A copy of the lab's archive, changed.
fn archive(program: &Program, change: impl FnOnce(&Path, &[String])) -> String {
    changed(&lab().path("wal"), program, change)
}

/// A copy of an archive, changed. `change` gets the names of its segments, in their order.
pub(crate) fn changed(archive: &str, program: &Program, change: impl FnOnce(&Path, &[String])) -> String {
    let directory = program.path("archive");
    std::fs::create_dir(&directory).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(archive).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::copy(&path, directory.join(&name)).unwrap();
        names.push(name);
    }
    names.retain(|it| it.len() == 24);
    names.sort();
    change(&directory, &names);
    directory.display().to_string()
}

/// A drill of a backup that brings no WAL, with this archive, to this target.
fn drill(program: &Program, wal: &str, target: &str) -> Ran {
    let lab: &Lab = lab();
    let scenario = format!(
        "version: 1\ndrills:\n  - name: archive\n    runtime: local\n    source:\n      base_backup: {{ path: {}, wal: {wal} }}\n    \
         target: {target}\n    checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        lab.path("base/tar"),
    );
    program.drill(&scenario, &[])
}

/// The segment that holds the mark before the deletion, and the one behind it.
fn at_the_mark(names: &[String]) -> (usize, String) {
    let (high, low) = lab().lsn.split_once('/').unwrap();
    let lsn = u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap();
    let name = format!("00000001{:08X}{:08X}", lsn >> 32, (lsn & 0xFFFF_FFFF) >> 20);
    (names.iter().position(|it| *it == name).unwrap(), name)
}

/// Manifests name their cluster since 17; before that only pg_control tells that all of an archive is another's.
#[test]
fn an_archive_that_is_wholly_of_another_cluster_is_named_before_anything_is_restored() {
    let program = Program::new();
    let wal = archive(&program, |directory, names| {
        for name in names {
            let path = directory.join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[24] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    });
    for form in ["plain", "tar-no-wal"] {
        let text = format!(
            "version: 1\ndrills:\n  - name: foreign\n    runtime: local\n    source:\n      base_backup: {{ path: {}, wal: {wal}, \
             tablespaces: {{ {}: {} }} }}\n    checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
            lab().path(&format!("base/{form}")),
            lab().path("base/plain-ts"),
            lab().path("base/plain-ts"),
        );
        let file = program.file("foreign.yaml", &text);
        let text = program.run(&["plan", &file]).expect(1).folded();
        assert!(text.contains("is of the cluster") && text.contains(", the backup is of "), "{form}: {text}");
    }
}

/// A data directory with nothing in it but what says what it is.
fn built(program: &Program, major: u32, control: &[u8]) -> String {
    let directory = program.path("built");
    std::fs::create_dir_all(directory.join("pg_tblspc")).unwrap();
    std::fs::create_dir_all(directory.join("global")).unwrap();
    std::fs::write(directory.join("PG_VERSION"), format!("{major}\n")).unwrap();
    std::fs::write(directory.join("global/pg_control"), control).unwrap();
    let label = "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nSTART TIMELINE: 1\n";
    std::fs::write(directory.join("backup_label"), label).unwrap();
    let scenario = format!(
        "version: 1\ndrills:\n  - name: built\n    runtime: local\n    source: {{ base_backup: {{ path: {} }} }}\n    \
         target: immediate\n    checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        directory.display()
    );
    program.file("built.yaml", &scenario)
}

#[test]
fn what_no_server_here_could_read_is_refused_by_the_plan() {
    let control = std::fs::read(crate::program::fixture("../pg_control/15")).unwrap();
    let program = Program::new();
    let text = program.run(&["plan", &built(&program, 15, &control)]).expect(0).folded();
    assert!(text.contains("unpack the base backup"), "{text}");
    // Blocks of 16 KiB: blcksz, and the checksum of the whole.
    let mut blocks = control.clone();
    blocks[216..220].copy_from_slice(&16384_u32.to_le_bytes());
    let sum = crc32c::crc32c(&blocks[..288]);
    blocks[288..292].copy_from_slice(&sum.to_le_bytes());
    let text = program.run(&["plan", &built(&program, 15, &blocks)]).expect(3).folded();
    assert!(text.contains("its blocks have 16384 bytes, and not 8192"), "{text}");
    assert!(text.contains("(this host is at fault)"), "{text}");
    // Files of two clusters.
    let other = std::fs::read(crate::program::fixture("../pg_control/13")).unwrap();
    let text = program.run(&["plan", &built(&program, 15, &other)]).expect(1).folded();
    assert!(text.contains("PG_VERSION says 15, and pg_control has the catalogue of 13"), "{text}");
    assert!(text.contains("(the backup is at fault)"), "{text}");
}

/// Of two backups, with the deletion between them.
fn of_the_best(target: &str) -> String {
    let lab = lab();
    format!(
        "version: 1\ndrills:\n  - name: best\n    runtime: local\n    source:\n      base_backup: {{ path: \"{}\", wal: {}, \
         pick: best_for_target }}\n    target: {target}\n    checks:\n      - rows: {{ table: t, equals: {} }}\n",
        lab.path("base/{tar,later}"),
        lab.path("wal"),
        crate::lab::ROWS[1],
    )
}

#[test]
fn the_best_base_backup_for_a_target_is_chosen_and_why_is_said() {
    let program = Program::new();
    program.drill(&of_the_best(&format!("{{ time: \"{}\" }}", lab().time)), &[]).expect(0);
    let drill = program.report().drills.remove(0);
    assert!(drill.backup.unwrap().path.ends_with("base/tar"));
    assert!(drill.chosen.unwrap().starts_with("it is the newest that holds nothing behind the target: it ends at "));
    assert!(drill.passed_over[0].path.ends_with("base/later"), "{:?}", drill.passed_over);
    for (target, expected) in [
        ("latest".to_owned(), "base/later ("),
        (format!("{{ lsn: {} }}", lab().lsn), "base/tar ("),
        ("{ name: before the deletion }".to_owned(), "base/tar ("),
        (format!("{{ xid: {} }}", lab().deletion), "base/tar ("),
    ] {
        let program = Program::new();
        let file = program.file("best.yaml", &of_the_best(&target));
        let text = program.run(&["plan", &file]).expect(0).folded();
        assert!(text.contains(expected), "{target}: {text}");
        assert!(text.contains("wal recovers from "), "{target}: {text}");
    }
    for (target, why) in [
        ("{ time: \"2001-01-01 00:00:00+00\" }", "the earliest that can be recovered is the end of "),
        ("{ name: never made }", "and the target is not in the WAL behind it"),
    ] {
        let program = Program::new();
        let file = program.file("best.yaml", &of_the_best(target));
        let text = program.run(&["plan", &file]).expect(3).folded();
        assert!(text.contains(why) && text.contains("(the scenario is at fault)"), "{target}: {text}");
    }
}

#[test]
fn a_gap_before_the_end_fails_in_the_survey_and_names_the_segment() {
    let program = Program::new();
    let mut missing = String::new();
    let wal = archive(&program, |directory, names| {
        let (at, name) = at_the_mark(names);
        assert!(at + 1 < names.len(), "there is WAL behind the mark");
        std::fs::remove_file(directory.join(&name)).unwrap();
        missing = name;
    });
    let ran = drill(&program, &wal, "latest").expect(1);
    let text = ran.folded();
    assert!(text.contains(&format!("it has no {missing} (from ")), "{text}");
    assert!(text.contains("fault: the backup"), "{text}");
    assert!(text.contains("not reached: provision"), "{text}");
}

/// What lies before the gap can be recovered all the same; a target behind it fails, as the archive has more.
#[test]
fn a_target_before_a_gap_is_reached_and_one_behind_it_fails() {
    let program = Program::new();
    let wal = archive(&program, |directory, names| {
        let (at, _) = at_the_mark(names);
        std::fs::remove_file(directory.join(&names[at + 1])).unwrap();
    });
    let ran = drill(&program, &wal, "{ name: before the deletion }").expect(0);
    assert!(ran.folded().contains("the WAL archive has a gap: it has no "), "{}", ran.stdout);
    // Of a time, the records before the gap tell; of a name, only the replay.
    let ran = drill(&Program::new(), &wal, "{ time: \"2100-01-01 00:00:00+00\" }").expect(1);
    let text = ran.folded();
    assert!(text.contains("it has no ") && text.contains("not reached: provision"), "{text}");
    assert!(text.contains("fault: the backup"), "{text}");
    let ran = drill(&Program::new(), &wal, "{ name: never made }").expect(1);
    let text = ran.folded();
    assert!(text.contains("at a gap in the WAL archive"), "{text}");
    assert!(text.contains("fault: the backup"), "{text}");
}

/// The archive up to the segment of the mark, which is called so, and changed.
fn unfinished(program: &Program, ending: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
    archive(program, |directory, names| {
        let (at, name) = at_the_mark(names);
        let segment = std::fs::read(directory.join(&name)).unwrap();
        std::fs::write(directory.join(format!("{name}{ending}")), change(segment)).unwrap();
        for name in &names[at..] {
            std::fs::remove_file(directory.join(name)).unwrap();
        }
    })
}

#[test]
fn a_target_in_a_segment_that_was_not_finished_is_refused_with_what_would_do() {
    let program = Program::new();
    let wal = unfinished(&program, ".partial", |it| it);
    let text = drill(&program, &wal, &format!("{{ lsn: {} }}", lab().lsn)).expect(3).folded();
    assert!(text.contains(".partial, a segment that was not finished") && text.contains("`partial: true`"), "{text}");
    assert!(text.contains("not reached: provision"), "{text}");
}

#[test]
fn a_segment_that_was_not_finished_is_the_end_of_the_archive_where_the_scenario_says_so() {
    let end = lab().lsn.parse::<Lsn>().unwrap().0 % (1 << 20);
    let written = usize::try_from(end).unwrap() + 8192;
    let gzip = |it: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(it).unwrap();
        encoder.finish().unwrap()
    };
    for ending in [".partial", ".gz.partial", ".partial.gz"] {
        let program = Program::new();
        // As pg_receivewal leaves it: zeros behind what came, or a stream without its end.
        let wal = unfinished(&program, ending, |mut it| match ending {
            ".partial" => {
                it[written..].fill(0);
                it
            }
            ".gz.partial" => {
                let packed = gzip(&it[..written]);
                packed[..packed.len() - 9].to_owned()
            }
            _ => gzip(&it),
        });
        let wal = format!("{wal}, partial: true");
        let text = drill(&program, &wal, "{ name: before the deletion }").expect(0).folded();
        assert!(text.contains("was not finished, and served as a whole segment"), "{ending}: {text}");
        let text = drill(&program, &wal, &format!("{{ lsn: {} }}", lab().lsn)).expect(0).folded();
        assert!(text.contains("reached"), "{ending}: {text}");
    }
}

#[test]
fn unfinished_segments_that_are_not_the_end_are_passed_over() {
    let program = Program::new();
    let wal = archive(&program, |directory, names| {
        let (at, _) = at_the_mark(names);
        let name = &names[at - 1];
        std::fs::copy(directory.join(name), directory.join(format!("{name}.partial"))).unwrap();
    });
    let wal = format!("{wal}, partial: true");
    let text = drill(&program, &wal, "{ name: before the deletion }").expect(0).folded();
    assert!(text.contains("segments that were not finished, which no server asks for"), "{text}");
}

#[test]
fn a_segment_that_was_cut_is_named_before_anything_is_restored() {
    let program = Program::new();
    let mut cut = String::new();
    let wal = archive(&program, |directory, names| {
        let (_, name) = at_the_mark(names);
        let path = directory.join(&name);
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(500_000).unwrap();
        cut = name;
    });
    let text = drill(&program, &wal, "latest").expect(1).folded();
    assert!(text.contains(&format!("{cut} has 500000 bytes, and segments have 1048576")), "{text}");
    assert!(text.contains("not reached: provision"), "{text}");
}

/// Another cluster that archives to the same place, and a file under another's name.
#[test]
fn a_foreign_segment_is_named_before_anything_is_restored() {
    let other = Program::new();
    let wal = archive(&other, |directory, names| {
        let (_, name) = at_the_mark(names);
        let path = directory.join(&name);
        let mut bytes = std::fs::read(&path).unwrap();
        // xlp_sysid, in the first page's long header.
        bytes[24] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    });
    let text = drill(&other, &wal, "latest").expect(1).folded();
    assert!(
        text.contains("is of the cluster") && text.contains("another cluster may archive to the same place"),
        "{text}"
    );
    let renamed = Program::new();
    let wal = archive(&renamed, |directory, names| {
        let (at, name) = at_the_mark(names);
        std::fs::copy(directory.join(&names[at - 1]), directory.join(&name)).unwrap();
    });
    let text = drill(&renamed, &wal, "latest").expect(1).folded();
    assert!(text.contains("is no such segment: its first page is that of"), "{text}");
}

#[test]
fn two_futures_of_a_backup_are_refused_until_one_is_chosen() {
    let program = Program::new();
    let wal = archive(&program, |directory, _| {
        for timeline in [2, 3] {
            let history = format!("1\t{}\tbefore the deletion\n", lab().lsn);
            std::fs::write(directory.join(format!("{timeline:08X}.history")), history).unwrap();
        }
    });
    let text = drill(&program, &wal, "latest").expect(3).folded();
    assert!(text.contains("the backup has several futures: timelines 2 and 3"), "{text}");
    let text = drill(&program, &wal, "{ name: before the deletion, timeline: 7 }").expect(3).folded();
    assert!(text.contains("there is no 00000007.history"), "{text}");
    drill(&program, &wal, "{ name: before the deletion, timeline: current }").expect(0);
}

#[test]
fn an_archive_that_is_not_there_is_the_hosts_fault() {
    let text = drill(&Program::new(), "/nonexistent/wal", "latest").expect(3).folded();
    assert!(text.contains("list the WAL archive /nonexistent/wal"), "{text}");
}

/// With objectives, to a target.
fn lossy(target: &str, objectives: &str) -> Ran {
    let lab: &Lab = lab();
    let scenario = format!(
        "version: 1\ndrills:\n  - name: loss\n    runtime: local\n    source:\n      base_backup: {{ path: {}, wal: {} }}\n    \
         target: {target}\n    objectives: {{ {objectives} }}\n    checks:\n      \
         - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        lab.path("base/tar"),
        lab.path("wal"),
    );
    Program::new().drill(&scenario, &[])
}

#[test]
fn the_loss_is_measured_from_the_last_record_of_the_archive_whatever_the_target() {
    for target in ["latest", "{ name: before the deletion }"] {
        let text = lossy(target, "rpo: 2h").expect(0).folded();
        assert!(text.contains("RPO met: between 0 s and"), "{text}");
        assert!(text.contains("max = incident − the latest instant that the recovered WAL proves"), "{text}");
    }
}

/// An idle cluster has lost nothing: only a heartbeat that is missing shows that something is.
#[test]
fn an_old_archive_is_a_loss_only_where_a_heartbeat_is_missing() {
    let later = "rpo: 2h, incident: \"2100-01-01 00:00:00+00\"";
    let text = lossy("latest", later).expect(3).folded();
    assert!(text.contains("nothing shows a later commit"), "{text}");
    assert!(text.contains("`objectives.heartbeat`"), "{text}");
    let beat = format!("{later}, heartbeat: {{ table: beat, column: at, every: 1m }}");
    let text = lossy("latest", &beat).expect(1).folded();
    assert!(text.contains("RPO MISSED: "), "{text}");
    let recent = "rpo: 2h, heartbeat: { table: beat, column: at, every: 1h }";
    let text = lossy("latest", recent).expect(0).folded();
    assert!(text.contains("RPO met: "), "{text}");
}

#[test]
fn inspect_says_from_when_to_when_a_backup_and_its_archive_recover() {
    let program = Program::new();
    let mut missing = String::new();
    let gapped = archive(&program, |directory, names| {
        let (_, name) = at_the_mark(names);
        std::fs::remove_file(directory.join(&name)).unwrap();
        missing = name;
    });
    let ran = program.run(&["inspect", &lab().path("base/tar"), "--wal", &lab().path("wal")]).expect(0);
    for part in ["is a         base backup of PostgreSQL 15, tar (gzip)", "recoverable  from ", "timeline 1   "] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("GAP"), "{}", ran.stdout);
    let ran = program.run(&["inspect", &lab().path("base/tar"), "--wal", &gapped]).expect(0);
    assert!(ran.stdout.contains(&format!("GAP          it has no {missing} (from ")), "{}", ran.stdout);
    let json = program.run(&["inspect", &gapped, "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["archive"]["stretches"].as_array().map(Vec::len), Some(2), "{json}");
}

#[test]
fn init_writes_a_scenario_of_a_base_backup_that_runs() {
    let program = Program::new();
    let file = program.path("new.yaml").display().to_string();
    program.run(&["init", &lab().path("base/tar"), "--wal", &lab().path("wal"), "--output", &file]).expect(0);
    let out = program.path("out").display().to_string();
    let ran = program.run(&["run", &file, "--runtime", "local", "--out", &out]).expect(0);
    assert!(ran.folded().contains("target reached: the end of the archive"), "{}", ran.stdout);
    let ran = program.run(&["run", &lab().path("base/tar"), "--runtime", "local", "--out", &out]).expect(0);
    assert!(ran.folded().contains("target reached: the end of the backup (immediate)"), "{}", ran.stdout);
    let ran = program.run(&["init", &lab().path("wal")]);
    assert_eq!(ran.exit, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("nothing can be restored from one alone"), "{}", ran.stderr);
}

/// A plain backup of the lab without its manifest, whose configuration archives like this.
fn archiving_by(program: &Program, name: &str, command: &str) -> String {
    let to = program.path(name);
    copied(Path::new(&lab().path("base/plain")), &to);
    std::fs::remove_file(to.join("backup_manifest")).unwrap();
    let auto = std::fs::read_to_string(to.join("postgresql.auto.conf")).unwrap();
    std::fs::write(to.join("postgresql.auto.conf"), format!("{auto}archive_command = '{command}'\n")).unwrap();
    to.display().to_string()
}

#[test]
fn a_server_that_archives_elsewhere_fails_and_commands_that_lose_wal_are_findings() {
    let program = Program::new();
    for (name, command, exit, texts) in [
        ("other", "pgbackrest --stanza=main archive-push %p", 1, &["check archiving:", "pgBackRest (main)"][..]),
        (
            "true",
            "cp %p /srv/wal/%f || true",
            0,
            &["archive_command succeeds even where nothing was archived", "replaces"][..],
        ),
        ("good", "test ! -f /srv/wal/%f && cp %p /srv/wal/%f", 0, &[][..]),
    ] {
        let base = archiving_by(&program, name, command);
        let scenario = format!(
            "version: 1\ndrills:\n  - name: archiving\n    runtime: local\n    source:\n      base_backup: {{ path: {base}, wal: {}, \
             tablespaces: {{ {}: {} }} }}\n    checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
            lab().path("wal"),
            lab().path("base/plain-ts"),
            lab().path("base/plain-ts"),
        );
        let ran = program.drill(&scenario, &[]);
        assert_eq!(ran.exit, Some(exit), "{name}: {}", ran.stdout);
        let text = ran.folded();
        assert!(texts.iter().all(|it| text.contains(it)), "{name}: {text}");
        assert!(exit == 1 || !text.contains("pgBackRest"), "{name}: {text}");
        assert_eq!(text.contains("archive_command"), name == "true", "{name}: {text}");
        // Whoever knows better says so.
        let waived = format!(
            "{scenario}    waivers: [{{ check: archiving, reason: pg_receivewal fills it, until: 2099-12-31 }}]\n"
        );
        program.drill(&waived, &[]).expect(0);
    }
}
