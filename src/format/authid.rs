//! Who the bootstrap superuser of a data directory is: the only role that is sure to be there, under whatever name.
//!
//! Nobody can ask a server before connecting to it, and connecting takes a name. So the name is read from `pg_authid`
//! itself, whose file the shared relation map names (`RelMapFile` in PostgreSQL's relmapper.c; pages as in bufpage.h,
//! tuples as in htup_details.h).

const MAP_MAGIC: u32 = 0x0059_2717;
/// `pg_authid`, by the number that it has had in every version.
const AUTHID: u32 = 1260;
/// `BOOTSTRAP_SUPERUSERID`
const BOOTSTRAP: u32 = 10;
const PAGE: usize = 8192;
const PAGE_HEADER: usize = 24;
const NAME_BYTES: usize = 64;
/// The deleting transaction, if any, did not commit.
const XMAX_INVALID: u16 = 0x0800;

/// The file number of `pg_authid` in `global/`, by the contents of `global/pg_filenode.map`.
pub fn authid_file(map: &[u8]) -> Option<u32> {
    if number(map, 0)? != MAP_MAGIC {
        return None;
    }
    let count = usize::try_from(number(map, 4)?).ok()?;
    let entry = |index: usize| Some((number(map, 8 + 8 * index)?, number(map, 12 + 8 * index)?));
    (0..count.min(64)).filter_map(entry).find(|(relation, _)| *relation == AUTHID).map(|(_, file)| file)
}

/// The name of the bootstrap superuser, from the pages of `pg_authid`. None where no live row is found.
pub fn bootstrap_superuser(pages: &[u8]) -> Option<String> {
    let mut found = None;
    for page in pages.chunks_exact(PAGE) {
        let lower = usize::from(short(page, 12)?).clamp(PAGE_HEADER, PAGE);
        for pointer in page[PAGE_HEADER..lower].chunks_exact(4) {
            let Some((name, live)) = row(page, number(pointer, 0)?) else { continue };
            // An update leaves the old row behind, marked as deleted.
            if live || found.is_none() {
                found = Some(name);
            }
        }
    }
    found
}

/// The row's name and whether nothing deleted it, if it is the bootstrap superuser's.
fn row(page: &[u8], pointer: u32) -> Option<(String, bool)> {
    let (offset, flags) = ((pointer & 0x7fff) as usize, (pointer >> 15) & 3);
    let tuple = page.get(offset..).filter(|_| flags == 1)?;
    let (xmax, infomask) = (number(tuple, 4)?, short(tuple, 20)?);
    let data = tuple.get(usize::from(*tuple.get(22)?)..)?;
    if number(data, 0)? != BOOTSTRAP {
        return None;
    }
    let name = data.get(4..4 + NAME_BYTES)?;
    let name = name.split(|it| *it == 0).next().unwrap_or_default();
    Some((String::from_utf8_lossy(name).into_owned(), xmax == 0 || infomask & XMAX_INVALID != 0))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
