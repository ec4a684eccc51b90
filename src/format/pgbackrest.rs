//! What pgBackRest writes: its information files and manifests, its encryption, and files that hold only the blocks that changed.
//!
//! Layouts are those of pgBackRest's `info/manifest.c`, `common/crypto/cipherBlock.c`, `common/io/chunkedRead.c`,
//! `command/backup/blockMap.c` and `blockIncr.h`. What surprises: every backup's manifest names all of its files, wherever they lie, so
//! that no chain has to be followed; and each encrypted file holds the pass of those beneath it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use aes::Aes256;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha1::{Digest, Sha1};

use super::lsn::Lsn;
use super::{Compression, decode};

/// An information file or a manifest: sections of `key=value`, values as JSON.
pub type Sections = BTreeMap<String, Vec<(String, serde_json::Value)>>;

pub fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut open = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            name.clone_into(&mut open);
        } else if let Some((key, _, value)) = split(line) {
            sections.entry(open.clone()).or_default().push((key.to_owned(), value));
        }
    }
    sections
}

/// Whether a text is what its own checksum says. None: it has none.
///
/// `infoLoad` of pgBackRest's `info/info.c`: the SHA-1 of the sections as JSON, without white space and without that key.
pub fn is_whole(text: &str) -> Option<bool> {
    let (mut sum, mut told) = (Sha1::new_with_prefix("{"), None);
    let (mut section, mut last) = ("", None);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value, IgnoredAny)) = split(line) {
            if (section, key) == ("backrest", "backrest-checksum") {
                told = serde_json::from_str::<String>(value).ok();
                continue;
            }
            let key = serde_json::to_string(key).unwrap_or_default();
            match last {
                Some(last) if last == section => sum.update(","),
                Some(_) => sum.update(format!("}},\"{section}\":{{")),
                None => sum.update(format!("\"{section}\":{{")),
            }
            last = Some(section);
            sum.update(format!("{key}:{value}"));
        } else if !line.is_empty() {
            return Some(false);
        }
    }
    sum.update("}}");
    let sum = super::manifest::in_hex(&sum.finalize());
    told.map(|it| it == sum)
}

/// Names of files may have a `=`, too: the value is what is JSON behind one.
fn split<'a, T: Deserialize<'a>>(line: &'a str) -> Option<(&'a str, &'a str, T)> {
    let mut parts = line.match_indices('=').map(|(at, _)| (&line[..at], &line[at + 1..]));
    parts.find_map(|(key, value)| Some((key, value, serde_json::from_str(value).ok()?)))
}

pub fn get<'a>(sections: &'a Sections, section: &str, key: &str) -> Option<&'a serde_json::Value> {
    Some(&sections.get(section)?.iter().find(|it| it.0 == key)?.1)
}

pub fn text<'a>(sections: &'a Sections, section: &str, key: &str) -> Option<&'a str> {
    get(sections, section, key)?.as_str()
}

/// A backup, as `backup.info` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    pub backup_archive_start: Option<String>,
    pub backup_archive_stop: Option<String>,
    pub backup_lsn_start: Option<Lsn>,
    pub backup_lsn_stop: Option<Lsn>,
    /// Seconds since 1970.
    pub backup_timestamp_start: i64,
    pub backup_timestamp_stop: i64,
    pub db_id: u32,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// `pg_data/base/5/1259`
    pub name: String,
    pub size: u64,
    /// As stored; of a bundle, its part.
    pub repo_size: u64,
    /// SHA-1, in hexadecimal. None of an empty file.
    pub checksum: Option<String>,
    /// The backup that it lies in, where that is another one.
    pub reference: Option<String>,
    /// Number of the bundle, and where in it.
    pub bundle: Option<(u64, u64)>,
    pub blocks: Option<Blocks>,
}

/// Of a file that holds only blocks that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    pub size: u64,
    /// Of the map, at the file's end.
    pub map: u64,
    pub checksum: usize,
}

/// Of a file in blocks, bytes that are read at once.
const SMALL: u64 = 1 << 20;

/// What a manifest says.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    pub files: Vec<File>,
    pub directories: Vec<String>,
    /// OID and location.
    pub tablespaces: Vec<(u32, String)>,
    pub compression: Compression,
    /// Of its files.
    pub pass: Option<String>,
    /// The backups that blocks may lie in, by number.
    pub references: Vec<String>,
    /// OIDs by their names.
    pub databases: BTreeMap<String, u32>,
}

impl Manifest {
    pub fn parse(text_of: &str) -> Result<Manifest, String> {
        let mut sections = sections(text_of);
        let none = || "it lacks what every manifest has: it was cut, or is none".to_owned();
        let kind = text(&sections, "backup:option", "option-compress-type");
        let plain = get(&sections, "backup:option", "option-compress").is_none_or(|it| it == false);
        let compression = match kind {
            // Before 2.27 there was gzip alone.
            None if plain => Compression::None,
            None | Some("gz") => Compression::Gzip,
            Some("none") => Compression::None,
            Some("lz4") => Compression::Lz4,
            Some("zst") => Compression::Zstd,
            Some("bz2") => Compression::Bzip2,
            Some(other) => return Err(format!("it is compressed with {other}, which is not known")),
        };
        let pass = text(&sections, "cipher", "cipher-pass").map(str::to_owned);
        let references = text(&sections, "backup", "backup-reference").unwrap_or_default();
        let label = text(&sections, "backup", "backup-label").ok_or_else(none)?;
        let references = if references.is_empty() { label } else { references };
        let references = references.split(',').map(str::to_owned).collect();
        let spaces = sections.get("backup:target").into_iter().flatten().filter_map(|(_, it)| {
            Some((it.get("tablespace-id")?.as_str()?.parse().ok()?, it.get("path")?.as_str()?.to_owned()))
        });
        let tablespaces = spaces.collect();
        let databases = sections.remove("db").into_iter().flatten().filter_map(|(name, it)| {
            let oid = u32::try_from(it.get("db-id")?.as_u64()?).ok()?;
            Some((name, oid))
        });
        let databases = databases.collect();
        let directories = sections.remove("target:path").into_iter().flatten().map(|it| it.0).collect();
        let files = sections.remove("target:file").ok_or_else(none)?;
        let files = files.into_iter().map(|(name, it)| file(name, &it)).collect::<Result<_, _>>()?;
        Ok(Manifest { files, directories, tablespaces, compression, pass, references, databases })
    }
}

/// Bytes of a block's checksum, where a manifest does not say (`BLOCK_INCR_CHECKSUM_SIZE_MIN`).
const CHECKSUM: usize = 6;

fn file(name: String, told: &serde_json::Value) -> Result<File, String> {
    let number = |key: &str| told.get(key).and_then(serde_json::Value::as_u64);
    let word = |key: &str| told.get(key).and_then(|it| it.as_str()).map(str::to_owned);
    let size = number("size").ok_or_else(|| format!("it does not say how large {name} is"))?;
    let blocks = number("bim").map(|map| Blocks {
        size: number("bi").unwrap_or(1) * 8192,
        map,
        checksum: number("bic").and_then(|it| usize::try_from(it).ok()).unwrap_or(CHECKSUM),
    });
    Ok(File {
        size,
        repo_size: number("repo-size").unwrap_or(size),
        checksum: word("checksum"),
        reference: word("reference"),
        bundle: number("bni").map(|bundle| (bundle, number("bno").unwrap_or_default())),
        blocks,
        name,
    })
}

impl File {
    /// Where it belongs in a data directory.
    pub fn place(&self) -> &str {
        self.name.strip_prefix("pg_data/").unwrap_or(&self.name)
    }

    /// Whether it belongs to one of these databases, and is none of the files without which a server does not start.
    pub fn is_of(&self, databases: &[u32]) -> bool {
        let mut parts = self.place().split('/');
        let oid = match parts.next() {
            Some("base") => parts.next(),
            Some("pg_tblspc") => parts.nth(2),
            Some(_) | None => None,
        };
        let named = parts.next().is_some_and(|it| it != "PG_VERSION");
        named && oid.and_then(|it| it.parse().ok()).is_some_and(|it| databases.contains(&it))
    }

    /// Where that begins which is read of it. A file in blocks ends with their map: of a large one, only that is read before it
    /// is known which blocks are wanted.
    pub fn start(&self) -> u64 {
        let start = self.bundle.map_or(0, |it| it.1);
        start.saturating_add(self.repo_size.saturating_sub(self.bytes_to_read()))
    }

    pub fn bytes_to_read(&self) -> u64 {
        let map = self.blocks.filter(|_| self.repo_size > SMALL).map(|it| it.map);
        map.unwrap_or(self.repo_size)
    }

    /// Where that ends.
    pub fn end(&self) -> u64 {
        self.start().saturating_add(self.bytes_to_read())
    }

    /// Whether the next one lies right behind it in a bundle.
    pub fn is_followed_by(&self, next: &File) -> bool {
        let bundle = |it: &File| (it.reference.clone(), it.bundle.map(|it| it.0));
        self.bundle.is_some() && bundle(self) == bundle(next) && self.end() == next.start()
    }

    /// Where it lies among the backups of its stanza.
    pub fn path(&self, label: &str, compression: Compression) -> String {
        let backup = self.reference.as_deref().unwrap_or(label);
        stored(backup, &self.name, self.bundle.map(|it| it.0), self.blocks.is_some(), compression)
    }
}

/// The file that holds another, or the bundle.
pub fn stored(backup: &str, name: &str, bundle: Option<u64>, blocks: bool, compression: Compression) -> String {
    let ending = match compression {
        _ if blocks => ".pgbi",
        Compression::Gzip => ".gz",
        Compression::Lz4 => ".lz4",
        Compression::Zstd => ".zst",
        Compression::Bzip2 => ".bz2",
        Compression::None | Compression::Xz | Compression::Lzma | Compression::Brotli | Compression::Snappy => "",
    };
    match bundle {
        Some(bundle) => format!("{backup}/bundle/{bundle}"),
        None => format!("{backup}/{name}{ending}"),
    }
}

const MAGIC: &[u8; 8] = b"Salted__";
const BLOCK: usize = 16;

/// AES-256 in CBC mode, with a key made of the pass as OpenSSL's `EVP_BytesToKey` makes it, with SHA-1 and one round.
pub struct Decrypt<R> {
    input: R,
    cipher: cbc::Decryptor<Aes256>,
    /// Decrypted, and not given yet; the last block is held until it is known not to be the end.
    ready: Vec<u8>,
    used: usize,
    held: Option<[u8; BLOCK]>,
}

impl<R: Read> Decrypt<R> {
    pub fn new(mut input: R, pass: &str) -> io::Result<Decrypt<R>> {
        let mut salt = [0; 8];
        input.read_exact(&mut salt)?;
        // Within bundles and blocks, the magic is left out.
        if &salt == MAGIC {
            input.read_exact(&mut salt)?;
        }
        let mut derived = Vec::new();
        let mut last: Vec<u8> = Vec::new();
        while derived.len() < 48 {
            last = Sha1::new().chain_update(&last).chain_update(pass.as_bytes()).chain_update(salt).finalize().to_vec();
            derived.extend_from_slice(&last);
        }
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&derived[..32], &derived[32..48]);
        let cipher = cipher.map_err(|it| io::Error::other(it.to_string()))?;
        Ok(Decrypt { input, cipher, ready: Vec::new(), used: 0, held: None })
    }

    fn more(&mut self) -> io::Result<()> {
        let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let mut chunk = Vec::new();
        (&mut self.input).take(1 << 16).read_to_end(&mut chunk)?;
        (self.ready, self.used) = (Vec::new(), 0);
        if chunk.is_empty() {
            let last = self.held.take().ok_or_else(|| damaged("an encrypted file is empty"))?;
            let padding = usize::from(last[BLOCK - 1]);
            if !(1..=BLOCK).contains(&padding) || last[BLOCK - padding..].iter().any(|it| usize::from(*it) != padding) {
                return Err(damaged("it does not end as an encrypted file does: it was cut, or the pass is wrong"));
            }
            self.ready.extend_from_slice(&last[..BLOCK - padding]);
            return Ok(());
        }
        let (blocks, rest) = chunk.as_chunks::<BLOCK>();
        if !rest.is_empty() {
            return Err(damaged("it ends within a block of its encryption: it was cut"));
        }
        for block in blocks {
            let mut block = (*block).into();
            self.cipher.decrypt_block(&mut block);
            if let Some(held) = self.held.replace(block.into()) {
                self.ready.extend_from_slice(&held);
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Decrypt<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.used == self.ready.len() {
            if buffer.is_empty() || (self.held.is_none() && !self.ready.is_empty()) {
                return Ok(0);
            }
            let before = self.held.is_some();
            self.more()?;
            if before && self.held.is_none() && self.ready.is_empty() {
                return Ok(0);
            }
        }
        let length = buffer.len().min(self.ready.len() - self.used);
        buffer[..length].copy_from_slice(&self.ready[self.used..self.used + length]);
        self.used += length;
        Ok(length)
    }
}

/// The plain bytes of what was stored. Within bundles, gzip comes without its header.
pub fn unpacked<'a>(
    input: impl Read + 'a,
    pass: Option<&str>,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    let mut plain: Box<dyn Read + 'a> = match pass {
        Some(pass) => Box::new(Decrypt::new(input, pass)?),
        None => Box::new(input),
    };
    if compression != Compression::Gzip {
        return decode::decoder(compression, plain);
    }
    let mut head = Vec::new();
    (&mut plain).take(2).read_to_end(&mut head)?;
    let whole = head == [0x1f, 0x8b];
    let plain = io::Cursor::new(head).chain(plain);
    if whole { decode::decoder(compression, plain) } else { Ok(Box::new(flate2::read::DeflateDecoder::new(plain))) }
}

/// Seven bits a byte, the lowest first.
fn number(input: &mut dyn Read) -> io::Result<u64> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f).checked_shl(shift).unwrap_or_default();
        shift += 7;
        if byte[0] < 0x80 {
            return Ok(value);
        }
        if shift > 63 {
            return Err(garbled("a number without an end"));
        }
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn garbled(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Where one block of a file lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Of the manifest's references.
    pub reference: usize,
    pub bundle: u64,
    /// Of the super block that holds it, and how many bytes that has.
    pub offset: u64,
    pub bytes: u64,
    /// Its number within the super block.
    pub block: u64,
}

impl Placed {
    /// The super block, and what holds it.
    pub fn at(&self) -> (usize, u64, u64) {
        (self.reference, self.bundle, self.offset)
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// A map of blocks, in the order of the file (`blockMapNewRead`).
pub fn block_map(mut input: impl Read, blocks: Blocks) -> io::Result<Vec<Placed>> {
    let input: &mut dyn Read = &mut input;
    if blocks.size == 0 || blocks.checksum == 0 {
        return Err(garbled("its blocks, or their checksums, are of no size"));
    }
    if number(input)? & 1 != 0 {
        return Err(garbled("its map of blocks is of a version that is not known"));
    }
    let mut placed = Vec::new();
    let mut seen: BTreeMap<usize, Reference> = BTreeMap::new();
    // Stored size of the super block before.
    let mut size: u64 = 0;
    loop {
        let encoded = number(input)?;
        let reference = usize::try_from(encoded >> 3).map_err(|_| garbled("a reference out of range"))?;
        let mut at = Placed { reference, ..Placed::default() };
        let mut goes_on = false;
        if let Some(known) = seen.get_mut(&reference) {
            at.bundle = known.bundle;
            if encoded & 2 != 0 {
                (at.offset, at.bytes, goes_on) = (known.offset, known.bytes, true);
            } else {
                at.offset = known.offset.saturating_add(known.bytes);
                if encoded & 4 != 0 {
                    at.offset = at.offset.saturating_add(number(input)?);
                }
                known.offset = at.offset;
            }
        } else {
            at.bundle = if encoded & 2 != 0 { number(input)? } else { 0 };
            at.offset = if encoded & 4 != 0 { number(input)? } else { 0 };
            let known = Reference { bundle: at.bundle, offset: at.offset, plain: blocks.size, ..Reference::default() };
            seen.insert(reference, known);
        }
        let known = seen.get_mut(&reference).ok_or_else(|| garbled("a reference that is not there"))?;
        let mut first = true;
        loop {
            // A super block that goes on says only how many blocks follow.
            let mut head = 4 | u64::from(encoded & 4 != 0);
            if !goes_on {
                head = number(input)?;
                let told = head >> 3;
                at.bytes = if size == 0 { told } else { size.wrapping_add_signed(zigzag(told)) };
                if head & 2 != 0 {
                    let told = number(input)?;
                    let rest = if told & 1 != 0 { number(input)? } else { 0 };
                    known.plain = (told >> 1).saturating_mul(blocks.size).saturating_add(rest);
                }
                known.offset = if first { at.offset } else { known.offset.saturating_add(size) };
                (known.bytes, known.block) = (at.bytes, 0);
            }
            (size, first, goes_on) = (at.bytes, false, false);
            let total = if head & 4 != 0 {
                let told = number(input)?;
                known.block = known.block.saturating_add(if told & 1 != 0 { number(input)? } else { 0 });
                (told >> 1) + 1
            } else {
                known.plain.div_ceil(blocks.size)
            };
            for block in known.block..known.block.saturating_add(total) {
                let mut sum = [0; 64];
                input.read_exact(&mut sum[..blocks.checksum.min(64)])?;
                placed.push(Placed { block, ..at });
            }
            known.block = known.block.saturating_add(total);
            at.offset = at.offset.saturating_add(at.bytes);
            if head & 1 != 0 {
                break;
            }
        }
        if encoded & 1 != 0 {
            return Ok(placed);
        }
    }
}

/// What is known of a reference, so that a map need not say it again.
#[derive(Clone, Copy, Default)]
struct Reference {
    bundle: u64,
    offset: u64,
    /// Of its last super block: as stored, and its contents.
    bytes: u64,
    plain: u64,
    block: u64,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_pgbackrest_2_55_is_read() {
        let map = [
            0x00, 0x07, 0x01, 0xd0, 0x26, 0xc3, 0x0e, 0x04, 0x30, 0xec, 0x76, 0x0c, 0xaf, 0xe2, 0x82, 0xad, 0x1c, 0x46,
            0xf4, 0xaf,
        ];
        let blocks = Blocks { size: 8192, map: 40, checksum: 6 };
        let at = |block| Placed { reference: 0, bundle: 1, offset: 4944, bytes: 232, block };
        assert_eq!(block_map(&map[..], blocks).unwrap(), [at(0), at(1)]);
        for end in 0..map.len() {
            assert!(block_map(&map[..end], blocks).is_err(), "{end}");
        }
    }

    #[test]
    fn names_may_hold_what_separates_them() {
        let text = "[target:file]\npg_data/a=b=1={\"size\":0}\npg_data/c={\"repo-size\":2,\"size\":7,\"bni\":1,\"bno\":9}\n\
                    [backup]\nbackup-label=\"20261127-193100F\"\n[backup:option]\noption-compress-type=\"zst\"\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.files[0].name, "pg_data/a=b=1");
        assert_eq!((manifest.files[1].bundle, manifest.compression), (Some((1, 9)), Compression::Zstd));
        assert!(Manifest::parse("<html>").is_err());
    }
}
