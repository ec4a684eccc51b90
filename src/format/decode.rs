//! Decoders of whole files. Each reads all concatenated members or frames, and makes an error of a cut file.

use std::io::{self, BufReader, Cursor, Read};

use lz4_flex::frame::FrameDecoder;

use super::Compression;

const BUFFER: usize = 64 * 1024;

/// The decoded bytes of `input`.
///
/// A cut or garbled input surfaces as an error of a read; errors of `input` itself pass through as they are.
pub fn decoder<'a, R: Read + 'a>(compression: Compression, input: R) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, input))),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, input))?;
            // As much as zstd itself takes with --long=31: who compressed with a long window must not need to say so.
            decoder.window_log_max(31)?;
            Box::new(decoder)
        }
        Compression::Lz4 => Box::new(Lz4::new(input)),
        Compression::Snappy => Box::new(snap::read::FrameDecoder::new(BufReader::with_capacity(BUFFER, input))),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(BufReader::with_capacity(BUFFER, input))),
        Compression::Lzma => {
            let stream = liblzma::stream::Stream::new_lzma_decoder(u64::MAX)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(BufReader::with_capacity(BUFFER, input), stream))
        }
        Compression::Brotli => Box::new(brotli_decompressor::Decompressor::new(input, BUFFER)),
        Compression::Xz => {
            Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(BufReader::with_capacity(BUFFER, input)))
        }
    })
}

/// lz4 frames, one after another.
///
/// `lz4_flex` ends at the first frame's end, and takes an input that ends between blocks for a whole one. So we look
/// ourselves at whether the input goes on after a frame, and whether a frame ended because its input did. Each frame gets
/// a decoder of its own: a used one keeps the buffer size of the frame before.
enum Lz4<R: Read> {
    Between(Watched<R>),
    Within(Box<FrameDecoder<Watched<R>>>),
    Ended,
}

/// Remembers that the end of the input was hit.
struct Watched<R> {
    input: BufReader<R>,
    /// Bytes that were looked at and are still to be read.
    ahead: Cursor<Vec<u8>>,
    ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = self.ahead.read(buffer)?;
        if read == 0 {
            read = self.input.read(buffer)?;
        }
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

impl<R: Read> Watched<R> {
    /// Whether another frame follows; skippable frames are passed over.
    fn another(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = Vec::new();
            self.input.by_ref().take(4).read_to_end(&mut magic)?;
            match magic.as_slice() {
                [] => return Ok(false),
                [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                    let mut length = [0; 4];
                    self.input.read_exact(&mut length)?;
                    let length = u64::from(u32::from_le_bytes(length));
                    if io::copy(&mut self.input.by_ref().take(length), &mut io::sink())? < length {
                        return Err(cut());
                    }
                }
                _ => {
                    self.ahead = Cursor::new(magic);
                    return Ok(true);
                }
            }
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the lz4 frame ends before its end mark")
}

impl<R: Read> Lz4<R> {
    fn new(input: R) -> Lz4<R> {
        let input = BufReader::with_capacity(BUFFER, input);
        Lz4::Between(Watched { input, ahead: Cursor::default(), ended: false })
    }
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            *self = match std::mem::replace(self, Lz4::Ended) {
                Lz4::Ended => return Ok(0),
                Lz4::Between(mut input) => {
                    if input.another()? {
                        Lz4::Within(Box::new(FrameDecoder::new(input)))
                    } else {
                        return Ok(0);
                    }
                }
                Lz4::Within(mut frame) => {
                    let read = frame.read(buffer)?;
                    if read > 0 || buffer.is_empty() {
                        *self = Lz4::Within(frame);
                        return Ok(read);
                    }
                    let input = frame.into_inner();
                    if input.ended {
                        return Err(cut());
                    }
                    Lz4::Between(input)
                }
            };
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::format::sniff;

    const ALL: [Compression; 5] =
        [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Xz, Compression::Bzip2];

    fn packed(compression: Compression, data: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => data.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(data, 1).unwrap(),
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Xz => liblzma::encode_all(data, 1).unwrap(),
            Compression::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
                let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Brotli => {
                let mut out = Vec::new();
                brotli::BrotliCompress(&mut &*data, &mut out, &brotli::enc::BrotliEncoderParams::default()).unwrap();
                out
            }
            Compression::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(data).unwrap();
                encoder.into_inner().unwrap()
            }
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn unpacked(compression: Compression, data: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoded = Vec::new();
        decoder(compression, data)?.read_to_end(&mut decoded)?;
        Ok(decoded)
    }

    /// Some 150 kB that compress, but not to nothing: more than one block of each format.
    fn sample() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..6_000).flat_map(|row| format!("{row}\t{}\n", random.u64(..)).into_bytes()).collect()
    }

    #[test]
    fn what_was_packed_comes_back_and_is_recognised() {
        for compression in ALL {
            for data in [sample(), Vec::new()] {
                let file = packed(compression, &data);
                assert_eq!(sniff::compression(&file), compression);
                assert!(unpacked(compression, &file).unwrap() == data, "{compression:?}");
            }
        }
    }

    #[test]
    fn what_has_no_magic_comes_back_and_is_an_error_when_it_was_cut() {
        for compression in [Compression::Lzma, Compression::Brotli] {
            let data = sample();
            let file = packed(compression, &data);
            assert!(unpacked(compression, &file).unwrap() == data, "{compression:?}");
            for end in (1..24).chain((40..file.len()).step_by(file.len() / 20)) {
                assert!(unpacked(compression, &file[..end]).is_err(), "{compression:?} cut at {end} of {}", file.len());
            }
        }
    }

    /// As python-snappy packed it, which barman-cloud uses.
    const BY_PYTHON: &[u8] = include_bytes!("../../fixtures/compression/python.snappy");

    #[test]
    fn snappy_as_barman_writes_it_comes_back_and_damage_of_a_chunk_is_an_error() {
        assert_eq!(sniff::compression(BY_PYTHON), Compression::Snappy);
        let lines: Vec<u8> = (0..20_000).flat_map(|it| format!("line {it}\n").into_bytes()).collect();
        assert!(unpacked(Compression::Snappy, BY_PYTHON).unwrap() == lines);
        let data = sample();
        let file = packed(Compression::Snappy, &data);
        assert!(unpacked(Compression::Snappy, &file).unwrap() == data);
        for end in (11..24).chain((40..file.len()).step_by(file.len() / 20)) {
            assert!(unpacked(Compression::Snappy, &file[..end]).is_err(), "cut at {end} of {}", file.len());
        }
        for at in (10..file.len()).step_by(file.len() / 20) {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(unpacked(Compression::Snappy, &flipped).is_err(), "{at}");
        }
    }

    #[test]
    fn concatenated_frames_give_all_data() {
        for compression in ALL {
            let data = sample();
            let (first, second) = data.split_at(100_000);
            let file = [packed(compression, first), packed(compression, &[]), packed(compression, second)].concat();
            assert!(unpacked(compression, &file).unwrap() == data, "{compression:?}");
        }
    }

    #[test]
    fn skippable_frames_are_passed_over() {
        let skippable = [0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5];
        for compression in [Compression::Zstd, Compression::Lz4] {
            let frame = packed(compression, b"rows");
            let file = [&skippable[..], &frame, &skippable, &frame, &skippable].concat();
            assert_eq!(sniff::compression(&file), compression);
            assert_eq!(unpacked(compression, &file).unwrap(), b"rowsrows", "{compression:?}");
        }
    }

    #[test]
    fn a_cut_file_is_an_error_wherever_it_was_cut() {
        for compression in ALL {
            let file = packed(compression, &sample());
            let cuts = (1..24).chain(file.len() - 24..file.len()).chain((40..file.len()).step_by(file.len() / 20));
            for end in cuts {
                assert!(unpacked(compression, &file[..end]).is_err(), "{compression:?} cut at {end} of {}", file.len());
            }
        }
    }

    #[test]
    fn a_second_frame_that_is_cut_is_an_error() {
        for compression in ALL {
            let frame = packed(compression, &sample());
            let file = [&frame[..], &frame[..frame.len() / 2]].concat();
            assert!(unpacked(compression, &file).is_err(), "{compression:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn flipped_bits_never_panic(at in 0usize..4000, bit in 0u8..8) {
            for compression in ALL {
                let mut file = packed(compression, &sample()[..9000]);
                let at = at % file.len();
                file[at] ^= 1 << bit;
                let _ = unpacked(compression, &file);
            }
        }
    }
}
