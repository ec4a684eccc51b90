//! What pgdrill does in a container whose engine does not see its files, by streams into programs that the engine runs:
//! `guard relay SOCKET`, `guard receive DIRECTORY`, `guard disarm DATA ASIDE [SIGNAL]`, `guard hex FILE`, `guard read FILE BYTES`,
//! `guard renew LEASE COUNTER`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{symlink, DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use super::disarm;

const CHUNK: usize = 64 * 1024;

/// Joins standard input and output with a server's socket until the server hangs up.
pub fn relay(socket: &Path) -> ExitCode {
    told("connect", UnixStream::connect(socket).and_then(join))
}

fn join(server: UnixStream) -> io::Result<()> {
    let mut to_server = server.try_clone()?;
    // Left behind when the server hangs up first: it waits for a client that has nothing more to say.
    thread::spawn(move || {
        let done = pass(&mut io::stdin().lock(), &mut to_server);
        drop(to_server.shutdown(std::net::Shutdown::Write));
        done
    });
    pass(&mut &server, &mut io::stdout().lock())
}

/// Passes on what has come without waiting for more: this is a conversation.
fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
        to.flush()?;
    }
}

/// Makes what standard input says in a directory: see [`take_all`].
pub fn receive(directory: &Path) -> ExitCode {
    told("receive", take_all(directory, &mut io::stdin().lock()))
}

/// A line each, with what follows it; paths are relative, and without line feeds. Nothing that lies there is written over.
///
/// - `dir PATH`, `link PATH` and a line with where it leads to
/// - `file MODE PATH` (octal): a new one is open from here on; `open SIZE PATH`: one that is there, with that length
/// - `bytes N` and as many bytes: on where the last ones ended; `at OFFSET N`: there
/// - `size N`: the length of what is open
/// - `move FROM TO`, which may not have spaces; `end`, which proves that the stream was not cut
pub fn take_all(directory: &Path, from: &mut impl BufRead) -> io::Result<()> {
    let mut open: Option<File> = None;
    loop {
        let line = line(from)?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "end" => return Ok(()),
            "dir" => DirBuilder::new().recursive(true).mode(0o700).create(within(directory, rest)?)?,
            "link" => {
                let to = self::line(from)?;
                let path = within(directory, rest)?;
                make_parent(&path)?;
                symlink(to, path)?;
            }
            "file" => {
                let (mode, name) = rest.split_once(' ').ok_or_else(cut)?;
                let path = within(directory, name)?;
                make_parent(&path)?;
                let mode = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
                open = Some(OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?);
            }
            "open" => {
                let (size, name) = rest.split_once(' ').ok_or_else(cut)?;
                let file = OpenOptions::new().write(true).open(within(directory, name)?)?;
                file.set_len(number(size)?)?;
                open = Some(file);
            }
            "bytes" | "at" => {
                let file = open.as_mut().ok_or_else(cut)?;
                let (offset, bytes) = rest.split_once(' ').map_or((None, rest), |it| (Some(it.0), it.1));
                if let Some(offset) = offset {
                    file.seek(SeekFrom::Start(number(offset)?))?;
                }
                let bytes = number(bytes)?;
                if io::copy(&mut from.take(bytes), file)? != bytes {
                    return Err(cut());
                }
            }
            "size" => open.as_ref().ok_or_else(cut)?.set_len(number(rest)?)?,
            "move" => {
                let (from, to) = rest.split_once(' ').ok_or_else(cut)?;
                open = None;
                fs::rename(within(directory, from)?, within(directory, to)?)?;
            }
            _ => return Err(cut()),
        }
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.take(CHUNK as u64).read_line(&mut line)?;
    if line.pop() == Some('\n') {
        Ok(line)
    } else {
        Err(cut())
    }
}

fn cut() -> io::Error {
    io::Error::other("the stream was cut")
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

fn within(directory: &Path, name: &str) -> io::Result<PathBuf> {
    if name.is_empty() || Path::new(name).components().any(|it| !matches!(it, Component::Normal(_))) {
        return Err(io::Error::other(format!("{name} leads out of the directory")));
    }
    Ok(directory.join(name))
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |it| DirBuilder::new().recursive(true).mode(0o700).create(it))
}

/// See [`disarm::disarm`].
pub fn disarm(data: &Path, aside: &Path, signal: Option<&str>) -> ExitCode {
    told("disarm", disarm::disarm(data, aside, signal, None))
}

/// Prints a small file of the restored data in hexadecimal digits.
pub fn hex(path: &Path) -> ExitCode {
    told("read", fs::read(path).and_then(|bytes| print_hex(&bytes)))
}

fn print_hex(bytes: &[u8]) -> io::Result<()> {
    let mut text = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|it| text.push_str(&format!("{it:02x}")));
    io::stdout().lock().write_all(text.as_bytes())
}

/// Prints a regular file: all of it, or its beginning and its end when it is longer than that many bytes.
pub fn read(path: &Path, bytes: &str) -> ExitCode {
    let limit = bytes.parse::<u64>().unwrap_or(0);
    told("read", print(path, limit))
}

fn print(path: &Path, limit: u64) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut stdout = io::stdout().lock();
    if length <= limit {
        return io::copy(&mut file.take(limit), &mut stdout).map(drop);
    }
    io::copy(&mut Read::by_ref(&mut file).take(limit / 2), &mut stdout)?;
    stdout.write_all("\n…\n".as_bytes())?;
    file.seek(SeekFrom::Start(length - limit / 2))?;
    io::copy(&mut file.take(limit / 2), &mut stdout).map(drop)
}

/// Writes a lease anew, whole: the guard reads it at any moment.
pub fn renew(lease: &Path, counter: &str) -> ExitCode {
    let partial = lease.with_extension("new");
    told("renew", fs::write(&partial, counter).and_then(|()| fs::rename(&partial, lease)))
}

pub fn told(what: &str, done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot {what}: {error}");
            ExitCode::FAILURE
        }
    }
}
