//! A program's output while it passes: the ends of it, and its lines.

use std::collections::VecDeque;

/// A longer line is cut: what is beyond helps nobody, and one line can be a whole table.
const LONGEST_LINE: usize = 64 * 1024;

/// The first and the last bytes of a stream, within a limit.
pub(super) struct Ends {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Ends {
    /// Keeps at most `limit` bytes, half of them from the start.
    pub(super) fn new(limit: usize) -> Ends {
        Ends { half: limit / 2, head: Vec::new(), tail: VecDeque::new(), cut: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.half - self.head.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        // Of a chunk longer than the tail only its end can stay.
        let (skipped, rest) = rest.split_at(rest.len().saturating_sub(self.half));
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..excess);
        self.cut += (skipped.len() + excess) as u64;
    }

    /// As text; what was left out is said in a line of its own.
    pub(super) fn into_text(self) -> String {
        let tail: Vec<u8> = self.tail.into();
        if self.cut == 0 {
            return String::from_utf8_lossy(&[self.head, tail].concat()).into_owned();
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&tail));
        format!("{head}\n[{} bytes left out]\n{tail}", self.cut)
    }
}

/// Splits a stream into lines.
#[derive(Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Calls `on_line` for every line that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8], on_line: &mut (dyn FnMut(&str) + Send)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.keep(&rest[..end]);
            self.flush(on_line);
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    /// The stream has ended: a last line without an end is a line too.
    pub(super) fn finish(&mut self, on_line: &mut (dyn FnMut(&str) + Send)) {
        if !self.pending.is_empty() {
            self.flush(on_line);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST_LINE.saturating_sub(self.pending.len());
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn flush(&mut self, on_line: &mut (dyn FnMut(&str) + Send)) {
        let line = self.pending.strip_suffix(b"\r").unwrap_or(&self.pending);
        on_line(&String::from_utf8_lossy(line));
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_keep_what_fits_and_say_what_was_left_out() {
        let cases: [(&[&str], &str); 5] = [
            (&[], ""),
            (&["abcdefgh"], "abcdefgh"),
            (&["ab", "cd", "ef", "gh"], "abcdefgh"),
            (&["abcdefghi"], "abcd\n[1 bytes left out]\nfghi"),
            (&["ab", "cdefghijklm", "n", "op"], "abcd\n[8 bytes left out]\nmnop"),
        ];
        for (chunks, expected) in cases {
            let mut ends = Ends::new(8);
            for chunk in chunks {
                ends.push(chunk.as_bytes());
            }
            assert_eq!(ends.into_text(), expected, "{chunks:?}");
        }
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_were_cut() {
        let text = "one\r\ntwo\n\nf\u{fc}nf\nlast".as_bytes();
        for size in 1..=text.len() {
            let mut seen = Vec::new();
            let mut lines = Lines::default();
            for chunk in text.chunks(size) {
                lines.push(chunk, &mut |line| seen.push(line.to_owned()));
            }
            lines.finish(&mut |line| seen.push(line.to_owned()));
            assert_eq!(seen, ["one", "two", "", "f\u{fc}nf", "last"], "in chunks of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for _ in 0..40 {
            lines.push(&[b'x'; 4096], &mut |line| seen.push(line.len()));
        }
        lines.push(b"\nnext\n", &mut |line| seen.push(line.len()));
        assert_eq!(seen, [LONGEST_LINE, 4]);
    }
}
