//! One page of a relation: whether its checksum is right, and when it was last changed.
//!
//! Sources: checksum_impl.h and bufpage.h of PostgreSQL. The algorithm is FNV-1a with a shift, on 32 words side by side, which
//! compilers turn into vector instructions.

/// `BLCKSZ`, as every distribution builds it.
pub const PAGE: usize = 8192;

const SUMS: usize = 32;
const PRIME: u32 = 16_777_619;
const OFFSETS: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What a page says of itself, against what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Never used: all zeros, which carry no checksum.
    New,
    Right,
    /// Marked as never used, and not empty.
    NotZero,
    Wrong {
        stored: u16,
        computed: u16,
    },
}

/// Judges a page of the relation's block `block`, in a cluster that has checksums.
pub fn judge(page: &[u8; PAGE], block: u32) -> Page {
    // `pd_upper`
    if page[14..16] == [0, 0] {
        return if page.iter().all(|it| *it == 0) { Page::New } else { Page::NotZero };
    }
    let (stored, computed) = (u16::from_le_bytes([page[8], page[9]]), checksum(page, block));
    if stored == computed { Page::Right } else { Page::Wrong { stored, computed } }
}

/// `pd_lsn`: the end of the WAL record that last changed the page.
pub fn lsn(page: &[u8; PAGE]) -> u64 {
    let word = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    (word(0) << 32) | word(4)
}

/// `pg_checksum_page`
pub fn checksum(page: &[u8; PAGE], block: u32) -> u16 {
    let mut sums = OFFSETS;
    let (rows, _) = page.as_chunks::<{ SUMS * 4 }>();
    let mut first = words(&rows[0]);
    // The checksum itself counts as zero.
    first[2] &= 0xFFFF_0000;
    mix(&mut sums, &first);
    for row in &rows[1..] {
        mix(&mut sums, &words(row));
    }
    mix(&mut sums, &[0; SUMS]);
    mix(&mut sums, &[0; SUMS]);
    let sum = sums.iter().fold(0, |all, it| all ^ it) ^ block;
    u16::try_from(sum % 65_535 + 1).unwrap_or(u16::MAX)
}

fn words(row: &[u8; SUMS * 4]) -> [u32; SUMS] {
    let (words, _) = row.as_chunks::<4>();
    std::array::from_fn(|at| u32::from_le_bytes(words[at]))
}

fn mix(sums: &mut [u32; SUMS], words: &[u32; SUMS]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ word;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page of pg_database's free space map, as initdb of PostgreSQL 15 with checksums wrote it: nearly all zeros.
    fn page() -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 32, 0, 32, 4, 32, 0, 0, 0, 0]);
        page
    }

    #[test]
    fn a_page_without_contents_is_new_and_needs_no_checksum() {
        assert_eq!(judge(&[0; PAGE], 7), Page::New);
        let mut page = [0; PAGE];
        page[8000] = 1;
        assert_eq!(judge(&page, 7), Page::NotZero);
    }

    #[test]
    fn the_block_number_is_part_of_the_checksum() {
        let mut sealed = page();
        let sum = checksum(&sealed, 7);
        sealed[8..10].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(judge(&sealed, 7), Page::Right);
        assert!(matches!(judge(&sealed, 8), Page::Wrong { .. }));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(at in 0usize..PAGE, bit in 0u8..8, block in any::<u32>()) {
            let mut sealed = page();
            let sum = checksum(&sealed, block);
            sealed[8..10].copy_from_slice(&sum.to_le_bytes());
            sealed[at] ^= 1 << bit;
            prop_assert!(!matches!(judge(&sealed, block), Page::Right | Page::New));
        }
    }
}
