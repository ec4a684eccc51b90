//! When a dump was made, by its own header: a few kilobytes are read, and nothing of its data.

use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use super::dump::{head, unwrapped};
use super::find::toc_of;
use super::tap::Tap;
use super::{OnBytes, Reading};
use crate::fault::{Blame, Fault};
use crate::format::archive::{self, Archive};
use crate::format::plain::Scanner;
use crate::format::sniff::{self, Kind};
use crate::format::{Compression, DumpFormat};
use crate::recipe::HeaderSeen;

/// The headers of several dumps, in their order. One that cannot be read says why, and keeps nobody from reading the others.
pub fn headers(paths: &[String], reading: &Reading) -> Vec<HeaderSeen> {
    let read = |path: &String| {
        let seen = HeaderSeen { path: path.clone(), created: None, database: None, unreadable: None };
        match header(Path::new(path), reading, &mut |_| ()) {
            Ok((created, database)) => HeaderSeen { created, database, ..seen },
            Err(fault) => HeaderSeen { unreadable: Some(fault), ..seen },
        }
    };
    paths.iter().take_while(|_| !reading.is_stopped()).map(read).collect()
}

type Dated = (Option<String>, Option<String>);

fn header(path: &Path, reading: &Reading, on_bytes: OnBytes) -> Result<Dated, Fault> {
    let file = if reading.is_dir(path) {
        let lacking = || Fault::new(Blame::Backup, "read the dump").cause("it is a directory without toc.dat");
        toc_of(path, reading).ok_or_else(lacking)?
    } else {
        path.to_owned()
    };
    let mut tap = Tap::open(&file, reading, on_bytes)?;
    let damaged = |it: std::io::Error| {
        let sealed = reading.vault.blame(&file, &it, reading);
        sealed.unwrap_or_else(|| Fault::new(Blame::Backup, "read the dump").cause(it.to_string()))
    };
    let mut plain = tap.plain().map_err(damaged)?;
    let mut input = unwrapped(&mut *plain).map_err(damaged)?;
    let start = head(&mut input).map_err(damaged)?;
    let kind = sniff::kind(&start)?;
    let whole = BufReader::new(Cursor::new(start.clone()).chain(input));
    let archive = match kind {
        Kind::Text => {
            let mut scanner = Scanner::default();
            scanner.push(&start);
            return Ok((scanner.created(), None));
        }
        Kind::Custom => Archive::read(whole)?,
        Kind::Tar => archive::read_tar(whole)?,
    };
    let facts = archive.facts(DumpFormat::Custom, Compression::None);
    Ok((facts.created, facts.database))
}
