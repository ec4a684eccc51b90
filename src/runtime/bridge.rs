//! WAL on its way to a container whose engine does not see our files: questions that are asked there are asked in the spool here,
//! and what it answers goes back by the same conversation with `helper/spool.rs`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::task::AbortOnDropHandle;

use super::container::remote::Helper;
use super::spool::{Spool, is_wal_name};
use crate::fault::{Blame, Fault};
use crate::store;

/// How often it is looked whether an open question has been answered.
const PAUSE: Duration = Duration::from_millis(2);
/// Of a line: the names of WAL files are shorter, and who writes them is not trusted.
const LINE: usize = 4096;
/// With a helper that is being started.
const PATIENCE: Duration = Duration::from_secs(60);
const WHAT: &str = "take WAL into the container";

/// Ends when it is dropped.
pub(crate) struct Bridge {
    _task: AbortOnDropHandle<()>,
}

impl Bridge {
    /// `there`: a directory of the container. `here`: that of the spool, which is told when the conversation breaks off.
    pub(super) async fn start(helper: &Helper, there: &str, here: PathBuf, spool: Spool) -> Result<Bridge, Fault> {
        let broken = |error: io::Error| Fault::new(Blame::Host, WHAT).cause(error.to_string());
        let (output, input) = tokio::io::split(helper.converse(&["spool", there]).await.map_err(broken)?);
        let mut questions = Questions { output, read: Vec::new() };
        // Its directories are made by then.
        let ready = tokio::time::timeout(PATIENCE, questions.next()).await;
        ready.unwrap_or_else(|_| Err(io::Error::other("the helper does not answer"))).map_err(broken)?;
        let task = tokio::spawn(async move {
            if let Err(error) = carry(questions, input, &here).await {
                spool.fail(broken(error));
            }
        });
        Ok(Bridge { _task: AbortOnDropHandle::new(task) })
    }
}

async fn carry(
    mut questions: Questions<impl AsyncRead + Unpin>,
    mut answers: impl AsyncWrite + Unpin,
    here: &Path,
) -> io::Result<()> {
    let mut open = BTreeSet::new();
    let mut glances = tokio::time::interval(PAUSE);
    glances.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            line = questions.next() => {
                let line = line?;
                let Some((sign, name)) = line.split_at_checked(1).filter(|it| is_wal_name(it.1)) else { continue };
                let question = here.join("want").join(name);
                if sign == "+" {
                    fs::write(question, []).await?;
                    open.insert(name.to_owned());
                } else {
                    open.remove(name);
                    drop(fs::remove_file(question).await);
                }
            }
            _ = glances.tick(), if !open.is_empty() => {
                for name in open.clone() {
                    if answer(&name, here, &mut answers).await? {
                        open.remove(&name);
                    }
                }
            }
        }
    }
}

/// False: there is no answer yet.
async fn answer(name: &str, here: &Path, answers: &mut (impl AsyncWrite + Unpin)) -> io::Result<bool> {
    for kind in ["have", "absent", "failed"] {
        let Ok(file) = fs::File::open(here.join(kind).join(name)).await else { continue };
        let bytes = file.metadata().await?.len();
        let (before, after) = store::answer(kind, name, bytes);
        answers.write_all(before.as_bytes()).await?;
        let sent = tokio::io::copy(&mut file.take(bytes), answers).await?;
        if sent != bytes {
            return Err(io::Error::other(format!("{name} has {sent} bytes of {bytes}")));
        }
        answers.write_all(after.as_bytes()).await?;
        answers.flush().await?;
        return Ok(true);
    }
    Ok(false)
}

/// Lines of the helper.
struct Questions<R> {
    output: R,
    read: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Questions<R> {
    /// Nothing is lost when this is dropped before it is done.
    async fn next(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.read.iter().position(|it| *it == b'\n') {
                let line = self.read.drain(..=end).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.read.len() > LINE {
                return Err(io::Error::other("the helper asks for what is no name"));
            }
            if self.output.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::other("the helper in the container ended"));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_are_asked_here_and_answered_there() {
        let here = tempfile::tempdir().unwrap();
        for name in ["want", "have", "absent", "failed"] {
            std::fs::create_dir(here.path().join(name)).unwrap();
        }
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let (output, input) = tokio::io::split(ours);
        let at = here.path().to_owned();
        let carrying =
            tokio::spawn(async move { carry(Questions { output, read: Vec::new() }, input, &at).await.unwrap_err() });
        theirs.write_all(b"+../../etc/passwd\n+0000000200000000").await.unwrap();
        theirs.write_all(b"00000003\n").await.unwrap();
        let question = here.path().join("want/000000020000000000000003");
        while !question.exists() {
            tokio::time::sleep(PAUSE).await;
        }
        assert_eq!(std::fs::read_dir(here.path().join("want")).unwrap().count(), 1);
        std::fs::write(here.path().join("have/000000020000000000000003.new"), "segment").unwrap();
        std::fs::rename(
            here.path().join("have/000000020000000000000003.new"),
            here.path().join("have/000000020000000000000003"),
        )
        .unwrap();
        let expected = "file 600 ahead/000000020000000000000003\nbytes 7\nsegment\
                        move ahead/000000020000000000000003 have/000000020000000000000003\n";
        let mut answer = vec![0; expected.len()];
        theirs.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
        theirs.write_all(b"-000000020000000000000003\n").await.unwrap();
        while question.exists() {
            tokio::time::sleep(PAUSE).await;
        }
        theirs.write_all(&[b'x'; LINE + 1]).await.unwrap();
        assert!(carrying.await.unwrap().to_string().contains("no name"));
    }
}
