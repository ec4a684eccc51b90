//! What pgdrill does in a container whose engine does not see its files, by streams into programs that the engine runs:
//! `guard relay SOCKET`, `guard receive DIRECTORY`, `guard read FILE BYTES`, `guard renew LEASE COUNTER`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path};
use std::process::ExitCode;
use std::thread;

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

/// Takes files from standard input, each as a line `SIZE MODE PATH` (decimal, octal, relative) and its bytes. The line `end`
/// proves that the stream was not cut. Nothing that lies there is written over.
pub fn receive(directory: &Path) -> ExitCode {
    told("receive", take_all(directory, &mut io::stdin().lock()))
}

fn take_all(directory: &Path, from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.take(CHUNK as u64).read_line(&mut line)?;
        if line == "end\n" {
            return Ok(());
        }
        let cut = || io::Error::other("the stream was cut");
        let mut words = line.strip_suffix('\n').ok_or_else(cut)?.splitn(3, ' ');
        let size = words.next().and_then(|it| it.parse::<u64>().ok()).ok_or_else(cut)?;
        let mode = words.next().and_then(|it| u32::from_str_radix(it, 8).ok()).ok_or_else(cut)?;
        let name = Path::new(words.next().ok_or_else(cut)?);
        if name.components().any(|it| !matches!(it, Component::Normal(_))) {
            return Err(io::Error::other(format!("{} leads out of the directory", name.display())));
        }
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        if io::copy(&mut from.take(size), &mut file)? != size {
            return Err(cut());
        }
    }
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

fn told(what: &str, done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot {what}: {error}");
            ExitCode::FAILURE
        }
    }
}
