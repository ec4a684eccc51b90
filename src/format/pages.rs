//! The pages of a data directory, while its files pass: each page's checksum, where the cluster has them.
//!
//! What surprises: a wrong checksum is no proof before replay. A page that was written while it was copied may be half old and
//! half new, and the WAL holds it whole. So a page that looks wrong is a [`Suspect`] that is looked at again once the
//! server has replayed; and whether the cluster has checksums at all is known last, since `pg_control` is copied last.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inspect::Inspector;
use super::page::{self, PAGE, Page};

/// Suspects that are remembered, at most.
const REMEMBERED: usize = 1000;
/// `RELSEG_SIZE`: blocks in a file of a relation.
const SEGMENT_BLOCKS: u32 = 131_072;
/// Of `pg_control`, what is used.
const CONTROL_BYTES: usize = 512;
/// `INCREMENTAL_MAGIC` of basebackup_incremental.h
const INCREMENTAL_MAGIC: u32 = 0xd3ae_1f0d;

/// What came of looking at the pages of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PagesChecked {
    /// Whether the cluster has checksums, by its pg_control. None: it has no pg_control that could be read.
    pub enabled: Option<bool>,
    /// Pages with a right checksum.
    pub verified: u64,
    /// Pages that were never used, and have none.
    pub new: u64,
    /// The first of the pages that look wrong before replay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Suspect>,
    pub suspects_total: u64,
}

/// A page that looks wrong in the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspect {
    /// Within the data directory.
    pub file: String,
    /// Of the relation: files of one relation count on.
    pub block: u32,
    pub how: Damage,
    /// By its own word it was changed after the backup began, so it may have been copied while it was written.
    pub perhaps_torn: bool,
}

/// In what way a page is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    Checksum {
        stored: u16,
        computed: u16,
    },
    /// It calls itself unused, and is not empty.
    NotZero,
    /// The file ends within it.
    Cut {
        bytes: u32,
    },
}

/// A suspect, once the server had replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Again {
    pub file: String,
    pub block: u32,
    pub now: Now,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Now {
    /// Replay wrote it anew, or what it belonged to is gone.
    Mended,
    Wrong(Damage),
    Unknown {
        because: String,
    },
}

impl Damage {
    /// `has the checksum 1a2b, and its contents have 3c4d`
    pub fn words(&self) -> String {
        match self {
            Damage::Checksum { stored, computed } => {
                format!("has the checksum {stored:04x}, and its contents have {computed:04x}")
            }
            Damage::NotZero => "is marked as never used, and is not empty".to_owned(),
            Damage::Cut { bytes } => format!("ends after {bytes} of {PAGE} bytes"),
        }
    }
}

impl Suspect {
    /// Where the page begins in its file.
    pub fn offset(&self) -> u64 {
        u64::from(self.block % SEGMENT_BLOCKS) * PAGE as u64
    }

    /// Its state by the bytes that are there now. None: the file is gone.
    pub fn again(&self, bytes: Option<&[u8]>) -> Now {
        let Some(bytes) = bytes.filter(|it| !it.is_empty()) else { return Now::Mended };
        let Ok(bytes) = bytes.try_into() else {
            return Now::Wrong(Damage::Cut { bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) });
        };
        damage(page::judge(bytes, self.block)).map_or(Now::Mended, Now::Wrong)
    }
}

fn damage(page: Page) -> Option<Damage> {
    match page {
        Page::New | Page::Right => None,
        Page::NotZero => Some(Damage::NotZero),
        Page::Wrong { stored, computed } => Some(Damage::Checksum { stored, computed }),
    }
}

/// An [`Inspector`] of pages.
pub struct Pages {
    /// Where the WAL of the backup begins.
    start: Option<u64>,
    open: Open,
    /// The block that the open file begins with.
    first: u32,
    /// What is left of a page between two chunks.
    part: Vec<u8>,
    control: Vec<u8>,
    /// With the page's LSN.
    suspects: Vec<(Suspect, Option<u64>)>,
    checked: PagesChecked,
}

enum Open {
    Nothing,
    Control,
    Relation {
        file: String,
        block: u32,
    },
    /// Of an incremental backup: first which blocks, then those blocks.
    Incremental {
        file: String,
        first: u32,
        head: Vec<u8>,
        blocks: Option<std::vec::IntoIter<u32>>,
    },
}

impl Pages {
    /// `start`: see `backup_label`; None where the backup has none.
    pub fn new(start: Option<u64>) -> Pages {
        Pages {
            start,
            open: Open::Nothing,
            first: 0,
            part: Vec::new(),
            control: Vec::new(),
            suspects: Vec::new(),
            checked: PagesChecked::default(),
        }
    }

    /// What came of it, after the last file.
    pub fn finish(mut self) -> PagesChecked {
        let control = Control::read(&self.control);
        self.checked.enabled = control.as_ref().map(|it| it.checksums);
        if self.checked.enabled == Some(false) || control.as_ref().is_some_and(|it| it.page != PAGE) {
            return PagesChecked { enabled: self.checked.enabled.map(|_| false), ..PagesChecked::default() };
        }
        let start = self.start.or(control.map(|it| it.redo));
        let torn = |lsn: Option<u64>| lsn.zip(start).is_none_or(|(lsn, start)| lsn >= start);
        self.checked.suspects =
            self.suspects.into_iter().map(|(suspect, lsn)| Suspect { perhaps_torn: torn(lsn), ..suspect }).collect();
        self.checked
    }

    fn suspect(&mut self, file: String, block: u32, how: Damage, lsn: Option<u64>) {
        self.checked.suspects_total += 1;
        if self.suspects.len() < REMEMBERED {
            self.suspects.push((Suspect { file, block, how, perhaps_torn: true }, lsn));
        }
    }

    fn page(&mut self, bytes: &[u8; PAGE]) {
        let (file, block) = match &mut self.open {
            Open::Nothing | Open::Control => return,
            Open::Relation { file, block } => {
                let this = *block;
                *block = block.wrapping_add(1);
                (file, this)
            }
            Open::Incremental { file, first, blocks, .. } => match blocks.as_mut().and_then(Iterator::next) {
                Some(block) => (file, first.wrapping_add(block)),
                None => return,
            },
        };
        match page::judge(bytes, block) {
            Page::New => self.checked.new += 1,
            Page::Right => self.checked.verified += 1,
            wrong @ (Page::NotZero | Page::Wrong { .. }) => {
                let file = file.clone();
                if let Some(how) = damage(wrong) {
                    self.suspect(file, block, how, Some(page::lsn(bytes)));
                }
            }
        }
    }

    /// Pages out of bytes that may begin and end anywhere.
    fn pages(&mut self, mut bytes: &[u8]) {
        if !self.part.is_empty() {
            let (more, rest) = bytes.split_at(bytes.len().min(PAGE - self.part.len()));
            self.part.extend_from_slice(more);
            bytes = rest;
            let mut part = std::mem::take(&mut self.part);
            if let Ok(page) = part.as_slice().try_into() {
                self.page(page);
                part.clear();
            }
            self.part = part;
        }
        let (pages, rest) = bytes.as_chunks::<PAGE>();
        for page in pages {
            self.page(page);
        }
        self.part.extend_from_slice(rest);
    }

    /// The head of an incremental file: magic, number of blocks, truncation length, block numbers, zeros up to a page.
    fn incremental<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Open::Incremental { head, blocks, .. } = &mut self.open else { return bytes };
        if blocks.is_some() {
            return bytes;
        }
        let word =
            |head: &[u8], at: usize| head.get(at..at + 4).and_then(|it| it.try_into().ok()).map(u32::from_le_bytes);
        let length = |head: &[u8]| match (word(head, 0), word(head, 4)) {
            (Some(INCREMENTAL_MAGIC), Some(count)) if count <= SEGMENT_BLOCKS => {
                let bytes = 12 + 4 * count as usize;
                Some(if count == 0 { bytes } else { bytes.next_multiple_of(PAGE) })
            }
            (Some(INCREMENTAL_MAGIC), None) | (None, _) => None,
            (Some(_), _) => Some(usize::MAX),
        };
        let mut rest = bytes;
        while blocks.is_none() && !rest.is_empty() {
            let wanted = length(head).unwrap_or(12);
            if wanted == usize::MAX {
                *blocks = Some(Vec::new().into_iter());
                return &[];
            }
            let (more, left) = rest.split_at(rest.len().min(wanted.saturating_sub(head.len())));
            head.extend_from_slice(more);
            rest = left;
            if length(head).is_some_and(|it| it <= head.len()) {
                let count = word(head, 4).unwrap_or(0) as usize;
                let numbers: Vec<u32> = (0..count).filter_map(|it| word(head, 12 + 4 * it)).collect();
                *blocks = Some(numbers.into_iter());
            }
        }
        rest
    }
}

impl Inspector for Pages {
    fn begin(&mut self, path: &Path) {
        self.part.clear();
        self.open = match path.to_str() {
            Some("global/pg_control") => Open::Control,
            Some(path) => relation(path),
            None => Open::Nothing,
        };
        self.first = if let Open::Relation { block, .. } = &self.open { *block } else { 0 };
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match &self.open {
            Open::Nothing => {}
            Open::Control => {
                let room = CONTROL_BYTES - self.control.len().min(CONTROL_BYTES);
                self.control.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Open::Relation { .. } => self.pages(bytes),
            Open::Incremental { .. } => {
                let bytes = self.incremental(bytes);
                self.pages(bytes);
            }
        }
    }

    fn block(&mut self, number: u32, bytes: &[u8]) {
        let first = self.first;
        let Open::Relation { file, block } = &mut self.open else { return };
        *block = first.wrapping_add(number);
        // What was wrong with it in the layer beneath is gone.
        let (file, block) = (file.clone(), *block);
        let before = self.suspects.len();
        self.suspects.retain(|(it, _)| it.block != block || it.file != file);
        self.checked.suspects_total -= (before - self.suspects.len()) as u64;
        self.pages(bytes);
    }

    fn end(&mut self) {
        let left = u32::try_from(self.part.len()).unwrap_or(u32::MAX);
        self.part.clear();
        if let Open::Relation { file, block } = std::mem::replace(&mut self.open, Open::Nothing)
            && left > 0
        {
            self.suspect(file, block, Damage::Cut { bytes: left }, None);
        }
    }
}

/// A file of a relation, in whichever fork: `base/5/16384_vm.1`, `global/1260`, `pg_tblspc/16385/PG_15_202209061/5/16390`.
fn relation(path: &str) -> Open {
    let Some((directory, name)) = path.rsplit_once('/') else { return Open::Nothing };
    let number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    let parts: Vec<&str> = directory.split('/').collect();
    let holds_relations = match parts.as_slice() {
        ["global"] => true,
        ["base", database] => number(database),
        ["pg_tblspc", space, version, database] => number(space) && version.starts_with("PG_") && number(database),
        _ => false,
    };
    let (incremental, plain) = match name.strip_prefix("INCREMENTAL.") {
        Some(plain) => (true, plain),
        None => (false, name),
    };
    let (stem, segment) = plain.split_once('.').unwrap_or((plain, "0"));
    let (node, fork) = stem.split_once('_').unwrap_or((stem, "main"));
    let first = segment.parse::<u32>().ok().and_then(|it| it.checked_mul(SEGMENT_BLOCKS));
    match first.filter(|_| holds_relations && number(node) && matches!(fork, "main" | "fsm" | "vm" | "init")) {
        // After the parts are put together it has this name.
        Some(first) if incremental => {
            Open::Incremental { file: format!("{directory}/{plain}"), first, head: Vec::new(), blocks: None }
        }
        Some(first) => Open::Relation { file: path.to_owned(), block: first },
        None => Open::Nothing,
    }
}

/// Of `ControlFileData` in pg_control.h, what pages need; the same from 13 to 18.
struct Control {
    checksums: bool,
    page: usize,
    redo: u64,
}

impl Control {
    fn read(bytes: &[u8]) -> Option<Control> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        // `floatFormat` stands before what is read here, and shows that all of it stands where it should.
        if long(208)? != 1_234_567.0_f64.to_bits() {
            return None;
        }
        Some(Control { checksums: word(252)? > 0, page: word(216)? as usize, redo: long(40)? })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn control(checksums: u32) -> Vec<u8> {
        let mut control = vec![0; 8192];
        control[40..48].copy_from_slice(&1000u64.to_le_bytes());
        control[208..216].copy_from_slice(&1_234_567.0f64.to_le_bytes());
        control[216..220].copy_from_slice(&8192u32.to_le_bytes());
        control[252..256].copy_from_slice(&checksums.to_le_bytes());
        control
    }

    /// A page that was last changed at this place of the WAL.
    fn page(block: u32, lsn: u32) -> Vec<u8> {
        let mut page = [0; PAGE];
        page[4..8].copy_from_slice(&lsn.to_le_bytes());
        page[12..20].copy_from_slice(&[24, 0, 0, 32, 0, 32, 4, 32]);
        let sum = page::checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page.to_vec()
    }

    fn flipped(mut page: Vec<u8>) -> Vec<u8> {
        page[5000] ^= 1;
        page
    }

    fn pass(pages: &mut Pages, path: &str, bytes: &[u8], chunk: usize) {
        pages.begin(Path::new(path));
        bytes.chunks(chunk).for_each(|it| pages.bytes(it));
        pages.end();
    }

    fn checked(files: &[(&str, Vec<u8>)], checksums: u32, chunk: usize) -> PagesChecked {
        let mut pages = Pages::new(None);
        for (path, bytes) in files {
            pass(&mut pages, path, bytes, chunk);
        }
        pass(&mut pages, "global/pg_control", &control(checksums), chunk);
        pages.finish()
    }

    #[test]
    fn right_and_new_pages_of_all_forks_and_segments_are_counted() {
        let two = [page(0, 1), page(1, 2), vec![0; PAGE]].concat();
        let later = page(2 * SEGMENT_BLOCKS, 1);
        let files = [
            ("base/5/16384", two.clone()),
            ("base/5/16384.2", later),
            ("base/5/16384_vm", page(0, 0)),
            ("global/1260_fsm", page(0, 0)),
            ("pg_tblspc/16390/PG_15_202209061/5/16391_init", page(0, 0)),
            // None of these is a relation that outlives a restart.
            ("base/5/PG_VERSION", b"15\n".to_vec()),
            ("base/5/t3_16400", b"temporary".to_vec()),
            ("base/5/pg_internal.init", b"cache".to_vec()),
            ("pg_wal/000000010000000000000001", b"wal".to_vec()),
        ];
        for chunk in [PAGE, 1000, 100_000, 8191] {
            let checked = checked(&files, 1, chunk);
            assert_eq!((checked.enabled, checked.verified, checked.new), (Some(true), 6, 1), "{checked:?}");
            assert_eq!(checked.suspects, []);
        }
    }

    #[test]
    fn a_wrong_page_names_its_file_and_block_and_may_be_torn_after_the_start() {
        let files = [
            ("base/5/16384.1", [page(SEGMENT_BLOCKS, 1), flipped(page(SEGMENT_BLOCKS + 1, 999))].concat()),
            ("base/5/16385", flipped(page(0, 1000))),
            ("base/5/16386", page(0, 1)[..5000].to_vec()),
        ];
        let checked = checked(&files, 1, 4096);
        let found: Vec<(&str, u32, bool)> =
            checked.suspects.iter().map(|it| (it.file.as_str(), it.block, it.perhaps_torn)).collect();
        let first = SEGMENT_BLOCKS + 1;
        assert_eq!(found, [("base/5/16384.1", first, false), ("base/5/16385", 0, true), ("base/5/16386", 0, true)]);
        assert_eq!(checked.suspects[0].offset(), PAGE as u64);
        assert!(checked.suspects[2].how.words().contains("ends after 5000 of 8192 bytes"));
    }

    #[test]
    fn without_checksums_nothing_is_judged() {
        let files = [("base/5/16384", flipped(page(0, 1)))];
        assert_eq!(checked(&files, 0, PAGE), PagesChecked { enabled: Some(false), ..PagesChecked::default() });
    }

    #[test]
    fn a_suspect_is_looked_at_again_after_replay() {
        let checked = checked(&[("base/5/16384", flipped(page(0, 1)))], 1, PAGE);
        let suspect = &checked.suspects[0];
        assert_eq!(suspect.again(None), Now::Mended);
        assert_eq!(suspect.again(Some(&page(0, 2000))), Now::Mended);
        assert!(matches!(suspect.again(Some(&flipped(page(0, 1)))), Now::Wrong(Damage::Checksum { .. })));
        assert_eq!(suspect.again(Some(&[1, 2])), Now::Wrong(Damage::Cut { bytes: 2 }));
    }

    #[test]
    fn blocks_of_an_incremental_file_have_the_numbers_that_its_head_says() {
        let head = |blocks: &[u32]| {
            let words = [&[INCREMENTAL_MAGIC, u32::try_from(blocks.len()).unwrap(), 9][..], blocks].concat();
            let mut head: Vec<u8> = words.iter().flat_map(|it| it.to_le_bytes()).collect();
            let length = if blocks.is_empty() { head.len() } else { head.len().next_multiple_of(PAGE) };
            head.resize(length, 0);
            head
        };
        let files = [
            ("base/5/INCREMENTAL.16384", [head(&[3, 7]), page(3, 1), flipped(page(7, 1))].concat()),
            ("base/5/INCREMENTAL.16385", head(&[])),
            ("base/5/INCREMENTAL.16386", b"not one".to_vec()),
        ];
        for chunk in [1, 7, PAGE, 100_000] {
            let checked = checked(&files, 1, chunk);
            assert_eq!((checked.verified, checked.suspects_total), (1, 1));
            assert_eq!((checked.suspects[0].file.as_str(), checked.suspects[0].block), ("base/5/16384", 7));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_inspector(bytes in proptest::collection::vec(any::<u8>(), 0..30_000), chunk in 1usize..9000) {
            let mut pages = Pages::new(Some(7));
            for path in ["base/5/16384", "base/5/INCREMENTAL.16384", "global/pg_control", "x/../y"] {
                pass(&mut pages, path, &bytes, chunk);
            }
            drop(pages.finish());
        }
    }
}
