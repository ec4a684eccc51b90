//! A scripted runtime: answers from a table, records of what was called. For tests of everything above it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Keep, Lease, Progress, Runtime, Sandbox, Watcher};
use crate::check::{Answer, Probe, Table};
use crate::evidence::Guarantee;
use crate::fault::{Blame, Fault};
use crate::format::DumpFacts;
use crate::plan::SandboxSpec;
use crate::recipe::{
    FileSeen, HeaderSeen, HostFacts, Learnt, Output, Question, RoomUser, RuntimeKind, ServerFacts, Step,
};

/// What the fake answers, and what it was asked.
#[derive(Clone)]
pub struct Fake {
    /// Files that a listing gives, whatever the pattern.
    pub files: Vec<FileSeen>,
    /// What the file looks like when it is looked at again. None: as it was listed.
    pub looks_later: Option<FileSeen>,
    /// What every dump is. An error is what the survey would say of a bad one.
    pub dump: Result<DumpFacts, Fault>,
    /// By path: when a dump was made, where that is not what `dump` says.
    pub created: BTreeMap<String, Option<String>>,
    /// By path: dumps whose header cannot be read.
    pub unreadable: BTreeMap<String, Fault>,
    /// Majors that have a server.
    pub majors: Vec<u32>,
    pub create_takes: Duration,
    pub create_fails: Option<Blame>,
    pub keep_fails: Option<Blame>,
    /// Every step takes this long.
    pub step_takes: Duration,
    /// By the step's `what`: what comes of it, instead of success.
    pub outputs: BTreeMap<String, Output>,
    /// By a part of the SQL: what is answered, instead of one row with `1`.
    pub answers: BTreeMap<String, Answer>,
    /// Sandboxes that the "engine" believes to exist; grows even if the caller stopped listening.
    pub engine: Arc<Mutex<Vec<String>>>,
    pub calls: Arc<Mutex<Vec<String>>>,
    creating: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

impl Fake {
    pub fn new(file: FileSeen, dump: DumpFacts) -> Fake {
        Fake {
            files: vec![file],
            looks_later: None,
            dump: Ok(dump),
            created: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            majors: vec![13, 15, 17, 18],
            create_takes: Duration::from_secs(1),
            create_fails: None,
            keep_fails: None,
            step_takes: Duration::from_secs(10),
            outputs: BTreeMap::new(),
            answers: BTreeMap::new(),
            engine: Arc::default(),
            calls: Arc::default(),
            creating: Arc::default(),
        }
    }

    /// What was called so far.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What exists now.
    pub fn engine(&self) -> Vec<String> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn call(&self, call: impl Into<String>) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.into());
    }

    fn header(&self, path: &str) -> HeaderSeen {
        let facts = self.dump.as_ref();
        let own = facts.ok().and_then(|it| it.created.clone());
        let unreadable = self.unreadable.get(path).or(facts.err()).cloned();
        HeaderSeen {
            path: path.to_owned(),
            created: self.created.get(path).cloned().unwrap_or(own).filter(|_| unreadable.is_none()),
            database: facts.ok().and_then(|it| it.database.clone()),
            unreadable,
        }
    }

    fn server(&self, major: u32) -> Learnt {
        if !self.majors.contains(&major) {
            let reason = Fault::new(Blame::Host, format!("find PostgreSQL {major}")).cause("the fake has none");
            return Learnt::NoServer { reasons: vec![reason] };
        }
        let names = ["plpgsql", "pg_trgm", "btree_gist", "citext", "hstore", "uuid-ossp"];
        Learnt::Server(Box::new(ServerFacts {
            runtime: RuntimeKind::Fake,
            major,
            version: format!("{major}.30"),
            bindir: format!("/usr/lib/postgresql/{major}/bin"),
            image: None,
            user: RoomUser { name: "postgres".to_owned(), uid: 999, gid: 999 },
            extensions: names.map(|name| (name.to_owned(), vec!["1.0".to_owned()])).into(),
            locales: ["C", "C.UTF-8", "POSIX", "en_US.utf8"].map(str::to_owned).into(),
            disk_free: Some(100 << 30),
            filesystem: Some("ext4".to_owned()),
            streams: false,
            tools: BTreeMap::new(),
            because: "it is scripted".to_owned(),
            passed_over: Vec::new(),
        }))
    }
}

#[async_trait]
impl Runtime for Fake {
    async fn prepare(&self, _: &Lease) -> Result<(), Fault> {
        self.call("prepare");
        Ok(())
    }

    async fn learn(&self, _: &Lease, question: &Question, _: &Watcher) -> Result<Learnt, Fault> {
        match question {
            Question::List { .. } => {
                self.call("list");
                Ok(Learnt::Files(self.files.clone()))
            }
            Question::Dump { path, .. } => {
                self.call(format!("dump {path}"));
                self.dump.clone().map(|facts| Learnt::Dump(Box::new(facts)))
            }
            Question::Base { path, .. } => {
                Err(Fault::new(Blame::Harness, format!("survey {path}")).cause("the fake has dumps only"))
            }
            Question::Archive { .. } | Question::Window(_) | Question::Stops { .. } => {
                Err(Fault::new(Blame::Harness, "survey a WAL archive").cause("the fake has dumps only"))
            }
            Question::Search(_) => Err(Fault::new(Blame::Harness, "search WAL").cause("the fake has dumps only")),
            Question::Bases { .. } => {
                Err(Fault::new(Blame::Harness, "survey base backups").cause("the fake has dumps only"))
            }
            Question::Headers { paths } => Ok(Learnt::Headers(paths.iter().map(|it| self.header(it)).collect())),
            Question::Text { path } => Ok(Learnt::Text(format!("-- {path}"))),
            Question::Server { major, .. } => {
                self.call(format!("server {major}"));
                Ok(self.server(*major))
            }
            Question::Host => Ok(Learnt::Host(HostFacts {
                hostname: "host".to_owned(),
                os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
                kernel: "6.1.0".to_owned(),
                architecture: "x86_64".to_owned(),
                cpus: 2,
                memory_bytes: 24 << 30,
                fsync_micros: Some(900),
            })),
        }
    }

    async fn look(&self, _: &Lease, path: &str) -> Result<FileSeen, Fault> {
        let found = self.looks_later.as_ref().or_else(|| self.files.iter().find(|it| it.path == path));
        found.cloned().ok_or_else(|| Fault::new(Blame::Backup, format!("look at {path}")).cause("it is gone"))
    }

    async fn create(&self, lease: &Lease, _: &SandboxSpec, _: &Watcher) -> Result<Box<dyn Sandbox>, Fault> {
        self.call("create");
        // The engine goes on creating even if this future is dropped.
        let (engine, name, takes) = (Arc::clone(&self.engine), lease.drill.clone(), self.create_takes);
        let (tell, told) = tokio::sync::oneshot::channel();
        let creating = tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            engine.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            let _ = tell.send(());
        });
        self.creating.lock().unwrap_or_else(PoisonError::into_inner).push(creating);
        let _ = told.await;
        match self.create_fails {
            Some(blame) => Err(Fault::new(blame, "start the sandbox")),
            None => Ok(Box::new(self.clone())),
        }
    }

    async fn keep(&self, _: &Lease, keep: &Keep) -> Result<Timestamp, Fault> {
        self.call(format!("keep {} for {} s", keep.name, keep.length.as_secs()));
        match self.keep_fails {
            Some(blame) => Err(Fault::new(blame, "keep the sandbox")),
            None => Ok(Timestamp::UNIX_EPOCH),
        }
    }

    async fn release(&self, lease: &Lease, _: bool) -> Vec<String> {
        self.call("release");
        let creating = std::mem::take(&mut *self.creating.lock().unwrap_or_else(PoisonError::into_inner));
        for task in creating {
            let _ = task.await;
        }
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).retain(|name| *name != lease.drill);
        Vec::new()
    }
}

#[async_trait]
impl Sandbox for Fake {
    async fn perform(&self, step: &Step, watch: &Watcher) -> Result<Output, Fault> {
        self.call(&step.what);
        watch(Progress::Said(format!("{} is under way", step.what)));
        tokio::time::sleep(self.step_takes).await;
        Ok(self.outputs.get(&step.what).cloned().unwrap_or_default())
    }

    async fn ask(&self, probe: &Probe) -> Answer {
        self.call(format!("ask {}", probe.sql));
        let scripted = self.answers.iter().find(|(part, _)| probe.sql.contains(part.as_str()));
        if let Some((_, answer)) = scripted {
            return answer.clone();
        }
        let rows = vec![vec![Some("1".to_owned())]];
        Answer::Rows(Table { columns: vec!["value".to_owned()], rows, total: 1 })
    }

    async fn observe(&self) -> Result<Vec<Guarantee>, Fault> {
        Ok(Vec::new())
    }

    async fn server_log(&self) -> String {
        String::new()
    }
}
