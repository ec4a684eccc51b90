use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};

use super::*;
use crate::format::base::BaseLayout;
use crate::format::verify::{ManifestChecked, Wrong};
use crate::store::base_facts;

/// The small backup among the fixtures, as pg_basebackup wrote it.
fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/backups/base/2026-11-27")
}

/// Its members, by name.
fn members() -> Vec<(String, Vec<u8>)> {
    let packed = File::open(fixture().join("base.tar.zst")).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    archive.entries().unwrap().map(read).filter(|(name, _)| !name.ends_with('/')).collect()
}

/// In both layouts: a data directory, and an archive with gzip.
fn lay_out(at: &Path, members: &[(String, Vec<u8>)], manifest: Option<&[u8]>) -> [std::path::PathBuf; 2] {
    let (plain, tar) = (at.join("plain"), at.join("tar"));
    for (name, bytes) in members {
        let path = plain.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir_all(plain.join("pg_tblspc")).unwrap();
    fs::create_dir_all(&tar).unwrap();
    let packed =
        flate2::write::GzEncoder::new(File::create(tar.join("base.tar.gz")).unwrap(), flate2::Compression::fast());
    archive(members, packed).finish().unwrap();
    for directory in [&plain, &tar] {
        if let Some(manifest) = manifest {
            fs::write(directory.join("backup_manifest"), manifest).unwrap();
        }
    }
    [plain, tar]
}

fn archive<W: Write>(members: &[(String, Vec<u8>)], to: W) -> W {
    let mut builder = tar::Builder::new(to);
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(backup: &Path) -> (Written, ManifestSeen, PagesChecked) {
    let directory = tempfile::tempdir().unwrap();
    let to = Destination {
        data: directory.path().join("data"),
        tablespaces: Some(directory.path().join("tblspc")),
        ground: Ground::Here { owner: None },
        hollow: Vec::new(),
    };
    fs::create_dir(&to.data).unwrap();
    fs::create_dir(directory.path().join("tblspc")).unwrap();
    let facts = base_facts(backup, &BTreeMap::new(), &Reading::default()).unwrap();
    let mut told = 0;
    let done = unpack_checked((backup, &facts), &[], &to, &Reading::default(), &mut |bytes| told = bytes).unwrap();
    assert!(told <= facts.bytes, "progress is told in stored bytes: {told} of {}", facts.bytes);
    assert_eq!(told, done.0.stored);
    done
}

fn checked(seen: ManifestSeen) -> ManifestChecked {
    let ManifestSeen::Checked(checked) = seen else { panic!("{seen:?}") };
    checked
}

fn manifest() -> Vec<u8> {
    fs::read(fixture().join("backup_manifest")).unwrap()
}

#[test]
fn a_whole_backup_is_intact_and_read_once() {
    let (written, manifest, pages) = unpacked(&fixture());
    let checked = checked(manifest);
    assert_eq!((checked.files, checked.bytes, checked.wrong_total), (1267, 30_586_957, 0));
    assert_eq!((pages.enabled, pages.verified, pages.suspects_total), (Some(true), 3725, 0));
    let BaseLayout::Tar { members } = base_facts(&fixture(), &BTreeMap::new(), &Reading::default()).unwrap().layout
    else {
        panic!("it is in tar format")
    };
    assert_eq!(written.stored, members.iter().map(|it| it.bytes).sum::<u64>());
}

/// What is done to the members, which file is named, and how it differs.
type Damage = (&'static str, fn(&mut Vec<(String, Vec<u8>)>), fn(&Wrong) -> bool);

fn index(members: &[(String, Vec<u8>)], name: &str) -> usize {
    members.iter().position(|(it, _)| it == name).unwrap()
}

const DAMAGES: [Damage; 4] = [
    (
        "global/1260",
        |it| it.iter_mut().find(|(name, _)| name == "global/1260").unwrap().1[4000] ^= 1,
        |it| matches!(it, Wrong::Checksum { .. }),
    ),
    ("base/5/2619", |it| drop(it.remove(index(it, "base/5/2619"))), |it| *it == Wrong::Missing),
    ("base/5/99999", |it| it.insert(9, ("base/5/99999".to_owned(), vec![0; 8192])), |it| *it == Wrong::Extra),
    (
        "base/5/1255",
        |it| it.iter_mut().find(|(name, _)| name == "base/5/1255").unwrap().1.truncate(16384),
        |it| matches!(it, Wrong::Size { found: 16384, .. }),
    ),
];

#[test]
fn each_damage_of_a_file_names_it_in_both_layouts() {
    for (name, damage, expected) in DAMAGES {
        let mut members = members();
        damage(&mut members);
        let directory = tempfile::tempdir().unwrap();
        for backup in lay_out(directory.path(), &members, Some(&manifest())) {
            let (_, manifest, pages) = unpacked(&backup);
            let checked = checked(manifest);
            assert_eq!(checked.wrong_total, 1, "{name} in {}: {:?}", backup.display(), checked.wrong);
            assert!(checked.wrong[0].path == name && expected(&checked.wrong[0].how), "{:?}", checked.wrong);
            assert_eq!(pages.suspects_total, u64::from(name == "global/1260"), "{:?}", pages.suspects);
        }
    }
}

#[test]
fn a_damaged_page_is_noticed_without_a_manifest() {
    let mut members = members();
    DAMAGES[0].1(&mut members);
    let directory = tempfile::tempdir().unwrap();
    for backup in lay_out(directory.path(), &members, None) {
        let (_, manifest, pages) = unpacked(&backup);
        assert_eq!(manifest, ManifestSeen::Absent);
        let [suspect] = pages.suspects.as_slice() else { panic!("{:?}", pages.suspects) };
        assert_eq!((suspect.file.as_str(), suspect.block, suspect.perhaps_torn), ("global/1260", 0, false));
    }
}

#[test]
fn a_manifest_at_the_end_of_the_archive_is_used() {
    let mut members = members();
    members.push(("backup_manifest".to_owned(), manifest()));
    DAMAGES[0].1(&mut members);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("one.tar");
    archive(&members, File::create(&path).unwrap());
    let checked = checked(unpacked(&path).1);
    assert_eq!((checked.files, checked.wrong_total, checked.wrong[0].path.as_str()), (1266, 1, "global/1260"));
}

#[test]
fn a_manifest_that_was_changed_or_cut_is_not_believed() {
    let whole = manifest();
    let mut changed = whole.clone();
    changed[200] ^= 1;
    let directory = tempfile::tempdir().unwrap();
    for (at, bad) in [&changed[..], &whole[..whole.len() / 2], b""].into_iter().enumerate() {
        let at = directory.path().join(at.to_string());
        for backup in lay_out(&at, &members(), Some(bad)) {
            assert!(matches!(unpacked(&backup).1, ManifestSeen::Unreadable { .. }), "{}", backup.display());
        }
    }
}
