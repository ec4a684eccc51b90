//! Objects of S3, Google Cloud Storage and Azure, as files that are read from start to end or from anywhere.
//!
//! Read in ranges, some of them ahead and at once, so that neither memory nor a slow connection bounds a large backup; every
//! range is of the same version of the object, or reading fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use http::StatusCode;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    Certificate, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpService, ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::Reading;
use super::as_of::{AsOf, Place};
use super::bundle::Bundle;
use super::files::{Entry, FileKind, Part, Stat, sought};
use crate::evidence::Fetched;
use crate::fault::{Blame, Fault};
use crate::source::service::Service;

/// What is asked for first: most readers want a header and no more.
const FIRST: u64 = 128 << 10;
/// What is asked for by those who go on reading.
const RANGE: u64 = 4 << 20;
/// What is asked for of each of many files before it is their turn: it bounds the memory, and most files are smaller.
const FIRST_OF_PART: u64 = 1 << 20;
/// Ranges on their way at once: with [`RANGE`], they bound the memory.
const AHEAD: usize = 3;
/// How often somebody who waits looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(100);
const CONNECT: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(60);
/// How often, and for how long, what failed is tried again.
pub(super) const RETRIES: usize = 5;
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(8);
pub(super) const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// `s3://BUCKET/KEY`
#[derive(Clone, Debug)]
pub(super) struct Address {
    service: Service,
    bucket: String,
    key: Key,
    url: String,
}

/// None: the path of a file.
pub(super) fn address(path: &Path) -> Option<io::Result<Address>> {
    let url = path.to_str()?;
    let service = Service::of(url)?;
    let rest = &url[service.scheme().len()..];
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    // Behind the name by which a scenario tells two stores apart.
    let bucket = bucket.rsplit_once('@').map_or(bucket, |it| it.1);
    let key = Key::parse(key.trim_end_matches('/')).map_err(|it| {
        let cause = format!("it is no name of an object: {it}");
        Trouble { kind: Why::Unusable, cause }.into_error()
    });
    Some(key.map(|key| Address { service, bucket: bucket.to_owned(), key, url: url.to_owned() }))
}

/// Whether it lies in an object store.
pub(super) fn is_remote(path: &Path) -> bool {
    path.to_str().is_some_and(|it| Service::of(it).is_some())
}

/// How a store is reached, and as whom. Nothing of it is ever printed.
#[derive(Clone, Default)]
pub struct StoreConfig {
    /// By the names that the `object_store` crate has for them: `aws_endpoint`, `azure_storage_account_name`.
    pub options: BTreeMap<String, String>,
    /// Certificates of authorities to believe besides the system's, as PEM.
    pub authorities: Vec<Vec<u8>>,
    /// It is read as it was then, by the versions that it keeps.
    pub as_of: Option<jiff::Timestamp>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig").field("options", &self.options.keys()).finish_non_exhaustive()
    }
}

/// How stores are reached, by the URLs that they begin with; and what the environment says for all others.
#[derive(Clone, Debug, Default)]
pub struct Access {
    named: Vec<(String, Result<StoreConfig, Fault>)>,
    /// Variables of the environment that speak of object stores.
    environment: BTreeMap<String, String>,
    /// What lies in files that the environment points to.
    general: StoreConfig,
}

impl Access {
    /// `environment`: variables, of which those count that the services' own tools read.
    pub fn new(mut environment: BTreeMap<String, String>, general: StoreConfig) -> Access {
        environment.retain(|name, _| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|it| name.starts_with(it)));
        Access { named: Vec::new(), environment, general }
    }

    /// What begins with `root` is reached like this; or why it cannot be.
    pub fn add(&mut self, root: impl Into<String>, config: Result<StoreConfig, Fault>) {
        self.named.push((root.into(), config));
    }

    fn of(&self, url: &str) -> Option<&Result<StoreConfig, Fault>> {
        let above = self.named.iter().filter(|(root, _)| Path::new(url).starts_with(root));
        above.max_by_key(|(root, _)| root.len()).map(|it| &it.1)
    }
}

/// The stores that one drill reads, and what that took.
#[derive(Debug, Default)]
pub(super) struct Objects {
    access: Arc<Access>,
    clients: Mutex<BTreeMap<String, Client>>,
    /// What a store could not show to somebody who did not ask why.
    unseen: Mutex<Option<Trouble>>,
    meter: Arc<Meter>,
    room: Room,
    pub(super) hints: Mutex<Hints>,
}

/// What is asked of a store.
#[derive(Clone, Debug)]
struct Client {
    store: Arc<dyn ObjectStore>,
    /// The same, where it is read as it was.
    past: Option<AsOf>,
}

/// What may be on its way at once, in units of 64 KiB: on a slow line, a request that shares it with too many others would not come
/// to its end in time.
#[derive(Clone, Debug)]
struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(AHEAD * usize::try_from(Room::units(RANGE)).unwrap_or(1))))
    }
}

impl Room {
    fn units(bytes: u64) -> u32 {
        u32::try_from(bytes.min(RANGE).div_ceil(64 << 10)).unwrap_or(1)
    }
}

/// What was found before, so that fewer questions have to be asked.
#[derive(Default)]
pub(super) struct Hints {
    /// By their files.
    pub(super) bundles: BTreeMap<PathBuf, Arc<Bundle>>,
    /// Of the WAL in a directory of an encrypted archive of pgBackRest.
    pub(super) passes: BTreeMap<PathBuf, Option<String>>,
    /// The newest cluster's directory of an archive of pgBackRest, or that it is none.
    pub(super) clusters: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Which of the usual names the last segment had.
    pub(super) ending: usize,
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").finish_non_exhaustive()
    }
}

impl Objects {
    pub(super) fn with(access: Arc<Access>) -> Objects {
        Objects { access, ..Objects::default() }
    }

    /// None: nothing was asked of any store.
    pub(super) fn fetched(&self) -> Option<Fetched> {
        self.meter.read()
    }

    fn client(&self, address: &Address) -> io::Result<Arc<dyn ObjectStore>> {
        Ok(self.reach(address)?.store)
    }

    fn reach(&self, address: &Address) -> io::Result<Client> {
        let named = self.access.of(&address.url);
        // Access may differ from prefix to prefix.
        let id = format!("{:?} {} {:?}", address.service, address.bucket, named.map(std::ptr::from_ref));
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&id) {
            return Ok(client.clone());
        }
        let config = match named {
            Some(Ok(config)) => Some(config),
            Some(Err(fault)) => {
                return Err(Trouble { kind: Why::Config(fault.clone()), cause: fault.line() }.into_error());
            }
            None => None,
        };
        let client = connect(address, config, &self.access, &self.meter)
            .map_err(|it| Trouble { kind: Why::Unusable, cause: words(&it) }.into_error())?;
        clients.insert(id, client.clone());
        Ok(client)
    }

    /// With its first bytes, whose answer tells how many there are.
    pub(super) fn open(&self, address: &Address, reading: &Reading) -> io::Result<Object> {
        let mut object = self.object(address, 0..u64::MAX, None, reading)?;
        object.ask(FIRST);
        match object.arrive()? {
            Ok(()) => Ok(object),
            Err(error) if is_of_no_range(&error) => {
                let stat = self.stat(address, reading)?;
                if !stat.is_file() || stat.bytes > 0 {
                    return Err(trouble(&error));
                }
                object.end = 0;
                Ok(object)
            }
            Err(error) => Err(self.absent_or(&error, address, reading)?),
        }
    }

    /// What is known to be there. The answer comes while others are read.
    pub(super) fn open_part(
        &self,
        address: &Address,
        part: &Part,
        whole: bool,
        reading: &Reading,
    ) -> io::Result<Object> {
        let mut object = self.object(address, part.start..part.start.saturating_add(part.bytes), part.size, reading)?;
        object.goes_on = whole;
        object.ask(if whole { FIRST_OF_PART } else { FIRST });
        Ok(object)
    }

    fn object(
        &self,
        address: &Address,
        bytes: std::ops::Range<u64>,
        size: Option<u64>,
        reading: &Reading,
    ) -> io::Result<Object> {
        Ok(Object {
            store: self.client(address)?,
            meter: Arc::clone(&self.meter),
            room: self.room.clone(),
            reading: reading.clone(),
            address: address.clone(),
            end: bytes.end,
            size,
            version: None,
            at: bytes.start,
            chunk: Vec::new(),
            used: 0,
            next: bytes.start,
            goes_on: false,
            ahead: VecDeque::new(),
        })
    }

    pub(super) fn stat(&self, address: &Address, reading: &Reading) -> io::Result<Stat> {
        let (store, key) = (self.client(address)?, address.key.clone());
        if key.as_ref().is_empty() {
            return self.prefix(address, reading);
        }
        match wait(reading, async move { store.head(&key).await })? {
            Ok(meta) => Ok(stat(&meta)),
            Err(object_store::Error::NotFound { .. }) => self.prefix(address, reading),
            Err(error) => Err(self.why(&error, address, reading)),
        }
    }

    /// In one request, so that of a bucket that is not there it says the same as of an object.
    pub(super) fn has(&self, address: &Address, reading: &Reading) -> io::Result<bool> {
        let (store, key) = (self.client(address)?, address.key.clone());
        if key.as_ref().is_empty() {
            return Ok(false);
        }
        match wait(reading, async move { store.head(&key).await })? {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.why(&error, address, reading)),
        }
    }

    /// Why an object cannot be had: one that is not there in a bucket that is, or something else.
    fn absent_or(&self, error: &object_store::Error, address: &Address, reading: &Reading) -> io::Result<io::Error> {
        if !matches!(error, object_store::Error::NotFound { .. }) {
            return Ok(self.why(error, address, reading));
        }
        self.prefix(address, reading)?;
        Ok(Trouble { kind: Why::Unusable, cause: "it is a prefix, and no object".to_owned() }.into_error())
    }

    /// An answer to HEAD has no words: where it was a refusal, a listing is asked for, which says more.
    fn why(&self, error: &object_store::Error, address: &Address, reading: &Reading) -> io::Error {
        let wordless = words(error).starts_with(STATUS);
        let told = || self.prefix(address, reading).err().filter(|it| it.kind() != io::ErrorKind::NotFound);
        wordless.then(told).flatten().unwrap_or_else(|| trouble(error))
    }

    /// Whether something lies beneath.
    fn prefix(&self, address: &Address, reading: &Reading) -> io::Result<Stat> {
        let (Client { store, past }, key) = (self.reach(address)?, address.key.clone());
        let any = wait(reading, async move {
            match past {
                Some(past) => past.is_directory(&key).await,
                None => Ok(store.list(Some(&key)).try_next().await?.is_some()),
            }
        })?;
        match any {
            Ok(any) if any || address.key.as_ref().is_empty() => Ok(Stat::DIRECTORY),
            Ok(_) => {
                let absent = || Trouble::absent("there is no such object".to_owned());
                Err(self.doubt(address, &|_| true)?.unwrap_or_else(absent).into_error())
            }
            Err(error @ object_store::Error::NotFound { .. }) => {
                let cause = format!("there is no {} {}: {}", address.service.noun(), address.bucket, words(&error));
                Err(Trouble { kind: Why::NoStore, cause }.into_error())
            }
            Err(error) => Err(trouble(&error)),
        }
    }

    /// Why it cannot be said that nothing was there, at an address or beneath it, of what matches; by what was listed before.
    pub(super) fn doubt(&self, address: &Address, matches: &dyn Fn(&Path) -> bool) -> io::Result<Option<Trouble>> {
        let root = Service::root(&address.url).unwrap_or_default();
        let of_key = |key: &str| matches(Path::new(&format!("{root}/{key}")));
        Ok(self.reach(address)?.past.and_then(|it| it.doubt(&address.key, &of_key)))
    }

    /// Keeps that a store cannot show what it held, where an error counts as that nothing is there.
    pub(super) fn note(&self, error: &io::Error) {
        if let Some(trouble @ Trouble { kind: Why::Unversioned, .. }) = Trouble::of(error) {
            self.unseen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| trouble.clone());
        }
    }

    pub(super) fn noted(&self) -> Option<Trouble> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn entries(&self, directory: &Path, address: &Address, reading: &Reading) -> io::Result<Vec<Entry>> {
        let (store, key) = (self.client(address)?, address.key.clone());
        let listed = wait(reading, async move { store.list_with_delimiter(Some(&key)).await })?;
        let listed = listed.map_err(|it| self.absent_or(&it, address, reading).unwrap_or_else(|it| it))?;
        let named = |key: &Key| key.filename().filter(|_| *key != address.key).map(|it| directory.join(it));
        let directories = listed.common_prefixes.iter().filter_map(|it| Some(Entry::told(named(it)?, Stat::DIRECTORY)));
        let objects = listed.objects.iter().filter_map(|it| Some(Entry::told(named(&it.location)?, stat(it))));
        let mut found: Vec<Entry> = directories.chain(objects).collect();
        if found.is_empty() {
            // A prefix without anything is no directory, but for a bucket.
            self.prefix(address, reading)?;
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    pub(super) fn beneath(&self, directory: &Path, address: &Address, reading: &Reading) -> io::Result<Vec<Entry>> {
        let (store, key) = (self.client(address)?, address.key.clone());
        let listed: Vec<ObjectMeta> =
            wait(reading, async move { store.list(Some(&key)).try_collect().await })?.map_err(|it| trouble(&it))?;
        let entry = |it: &ObjectMeta| {
            let rest: PathBuf = it.location.prefix_match(&address.key)?.map(|it| it.as_ref().to_owned()).collect();
            (!rest.as_os_str().is_empty()).then(|| Entry::told(directory.join(rest), stat(it)))
        };
        // What some tools write for a directory, of no bytes.
        let parents: BTreeSet<String> = listed.iter().filter_map(|it| parent(&it.location)).collect();
        let marks = |it: &&ObjectMeta| it.size == 0 && parents.contains(it.location.as_ref());
        Ok(listed.iter().filter(|it| !marks(it)).filter_map(entry).collect())
    }
}

fn parent(key: &Key) -> Option<String> {
    key.as_ref().rsplit_once('/').map(|it| it.0.to_owned())
}

fn stat(meta: &ObjectMeta) -> Stat {
    let version = meta.e_tag.as_deref().or(meta.version.as_deref()).unwrap_or_default();
    let digest = Sha256::digest(version.as_bytes());
    let identity = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    Stat { kind: FileKind::File, bytes: meta.size, modified: meta.last_modified.timestamp(), identity, mode: None }
}

/// An object that is open.
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
    room: Room,
    reading: Reading,
    address: Address,
    /// Where what is to be read ends.
    end: u64,
    /// Of the whole object, once that is known: one of another size is another one.
    size: Option<u64>,
    /// Its ETag, once that is known: every range is to have it.
    version: Option<String>,
    at: u64,
    chunk: Vec<u8>,
    used: usize,
    /// Where the next range begins that nobody has asked for.
    next: u64,
    /// One range was read to its end: whoever does that goes on.
    goes_on: bool,
    ahead: VecDeque<Range>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("url", &self.address.url).field("at", &self.at).finish_non_exhaustive()
    }
}

struct Arrived {
    bytes: Vec<u8>,
    version: Option<String>,
    /// Of the whole object.
    size: u64,
}

/// A part of an object that is on its way.
struct Range {
    /// None: of another version.
    receive: mpsc::Receiver<object_store::Result<Option<Arrived>>>,
    task: AbortHandle,
}

impl Drop for Range {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Object {
    fn ask(&mut self, most: u64) {
        let (start, end) = (self.next, self.end.min(self.next.saturating_add(most)));
        if start == end {
            return;
        }
        let version = self.version.clone();
        let options = GetOptions {
            range: Some(GetRange::Bounded(start..end)),
            if_match: version.clone(),
            ..GetOptions::default()
        };
        let (store, key, meter) = (Arc::clone(&self.store), self.address.key.clone(), Arc::clone(&self.meter));
        let (send, receive) = mpsc::channel();
        let (room, units) = (Arc::clone(&self.room.0), Room::units(end - start));
        let task = io_runtime().spawn(async move {
            // Nobody closes it.
            let _room = room.acquire_many(units).await.ok();
            let got = async {
                let answer = store.get_opts(&key, options).await?;
                // Not every server heeds the condition.
                let (found, size) = (answer.meta.e_tag.clone(), answer.meta.size);
                if version.is_some() && found != version {
                    return Ok(None);
                }
                let bytes: Vec<u8> = answer.bytes().await?.into();
                let length = size.min(end).saturating_sub(start);
                if bytes.len() as u64 != length {
                    let source = format!("it sent {} bytes of a range of {length}", bytes.len()).into();
                    return Err(object_store::Error::Generic { store: "range", source });
                }
                meter.bytes.fetch_add(length, Ordering::Relaxed);
                Ok(Some(Arrived { bytes, version: found, size }))
            };
            let _ = send.send(got.await);
        });
        self.ahead.push_back(Range { receive, task: task.abort_handle() });
        self.next = end;
    }

    /// Several ranges may be on their way before the first one tells the version.
    fn is_same(&self, arrived: &Arrived) -> bool {
        self.size.is_none_or(|it| it == arrived.size)
            && self.version.as_ref().is_none_or(|it| arrived.version.as_ref() == Some(it))
    }

    /// Waits for the next range. The inner error: what the store says.
    fn arrive(&mut self) -> io::Result<Result<(), object_store::Error>> {
        let Some(range) = self.ahead.pop_front() else { return Ok(Ok(())) };
        let arrived = match receive(&range.receive, &self.reading)? {
            Ok(Some(arrived)) if self.is_same(&arrived) => arrived,
            Ok(_) => return Err(Trouble::changed().into_error()),
            Err(error) => return Ok(Err(error)),
        };
        let is_open = self.end == u64::MAX;
        if !is_open && self.end > arrived.size {
            let why = format!("it has {} bytes, and {} are to be there", arrived.size, self.end);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.end = self.end.min(arrived.size);
        self.size = Some(arrived.size);
        self.version = self.version.take().or(arrived.version);
        (self.chunk, self.used) = (arrived.bytes, 0);
        Ok(Ok(()))
    }
}

/// Of an empty object there is no range to be had, and every server has its own way to say so.
fn is_of_no_range(error: &object_store::Error) -> bool {
    let text = words(error);
    [&format!("{STATUS} 416"), "InvalidRange", "Received non-partial response"].iter().any(|it| text.starts_with(*it))
}

impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            if self.at >= self.end || buffer.is_empty() {
                return Ok(0);
            }
            // Whoever has read what came first goes on.
            self.goes_on |= !self.chunk.is_empty();
            let (wanted, most) = if self.goes_on { (AHEAD, RANGE) } else { (1, FIRST) };
            while self.ahead.len() < wanted && self.next < self.end {
                self.ask(most);
            }
            match self.arrive()? {
                Ok(()) => {}
                // It is shorter than the part that was to be read.
                Err(error) if is_of_no_range(&error) && self.size.is_none() => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before"));
                }
                // It was there when it was opened, or listed.
                Err(error)
                    if self.size.is_some()
                        && (is_of_no_range(&error) || matches!(error, object_store::Error::NotFound { .. })) =>
                {
                    return Err(Trouble::changed().into_error());
                }
                Err(error) => return Err(trouble(&error)),
            }
        }
        let length = buffer.len().min(self.chunk.len() - self.used);
        buffer[..length].copy_from_slice(&self.chunk[self.used..self.used + length]);
        self.used += length;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Object {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = sought(to, self.at, self.end)?;
        let begins = self.at - self.used as u64;
        if (begins..=begins + self.chunk.len() as u64).contains(&to) && !self.chunk.is_empty() {
            self.used = usize::try_from(to - begins).unwrap_or_default();
        } else {
            self.ahead.clear();
            (self.chunk, self.used, self.next, self.goes_on) = (Vec::new(), 0, to, false);
        }
        self.at = to;
        Ok(to)
    }
}

/// Where requests are made: callers block, on threads of which there may be none that drives a request.
fn io_runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let made = Builder::new_multi_thread().worker_threads(2).thread_name("objects").enable_all().build();
        made.unwrap_or_else(|it| panic!("threads for requests cannot be had: {it}"))
    })
}

fn receive<T>(receive: &mpsc::Receiver<T>, reading: &Reading) -> io::Result<T> {
    loop {
        match receive.recv_timeout(GLANCE) {
            Ok(it) => return Ok(it),
            Err(RecvTimeoutError::Timeout) if !reading.is_stopped() => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(Trouble { kind: Why::Other, cause: "the drill was stopped".to_owned() }.into_error());
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Trouble { kind: Why::Other, cause: "the request was lost".to_owned() }.into_error());
            }
        }
    }
}

fn wait<T: Send + 'static>(reading: &Reading, future: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (send, receiver) = mpsc::channel();
    let task = io_runtime().spawn(async move {
        let _ = send.send(future.await);
    });
    let range = receive(&receiver, reading);
    task.abort();
    range
}

/// What a store refused, within an [`io::Error`].
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    kind: Why,
    cause: String,
}

#[derive(Clone, Debug)]
enum Why {
    /// The bucket is there, and the object is not.
    Absent,
    NoStore,
    Refused,
    Unreachable,
    Changed,
    /// It cannot show what it held at a moment.
    Unversioned,
    /// It is not there as of a moment, and may have been.
    Later,
    /// What was read is not what it is to be.
    Damaged,
    /// What the scenario says of it.
    Config(Fault),
    Unusable,
    Other,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    pub(super) fn absent(cause: String) -> Trouble {
        Trouble { kind: Why::Absent, cause }
    }

    pub(super) fn changed() -> Trouble {
        Trouble { kind: Why::Changed, cause: "it changed while it was read".to_owned() }
    }

    pub(super) fn refused(cause: String) -> Trouble {
        Trouble { kind: Why::Refused, cause }
    }

    pub(super) fn unversioned(cause: String) -> Trouble {
        Trouble { kind: Why::Unversioned, cause }
    }

    pub(super) fn later(cause: String) -> Trouble {
        Trouble { kind: Why::Later, cause }
    }

    pub(super) fn other(cause: String) -> Trouble {
        Trouble { kind: Why::Other, cause }
    }

    pub(super) fn damaged(cause: String) -> Trouble {
        Trouble { kind: Why::Damaged, cause }
    }

    pub(super) fn into_error(self) -> io::Error {
        let kind = match self.kind {
            Why::Absent | Why::Later => io::ErrorKind::NotFound,
            Why::Refused => io::ErrorKind::PermissionDenied,
            Why::NoStore
            | Why::Unreachable
            | Why::Changed
            | Why::Unversioned
            | Why::Damaged
            | Why::Config(_)
            | Why::Unusable
            | Why::Other => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    pub(super) fn of(error: &io::Error) -> Option<&Trouble> {
        error.get_ref()?.downcast_ref()
    }

    /// The fault for a file that could not be read.
    pub(super) fn fault(&self, path: &Path, doing: &str) -> Fault {
        let fault = |blame| Fault::new(blame, format!("{doing} {}", path.display())).cause(self.cause.clone());
        let parent = path.parent().unwrap_or(path);
        match &self.kind {
            Why::Absent => {
                let cause = format!("there is no {} in {}", super::tap::file_name(path), parent.display());
                Fault::new(Blame::Backup, format!("{doing} {}", path.display()))
                    .cause(cause)
                    .hint("look whether the backup job still writes there, and whether retention or a lifecycle rule removed it")
            }
            Why::NoStore => fault(Blame::Host).hint("correct the URL, or `store: { endpoint: … }`"),
            Why::Refused => fault(Blame::Host).hint(
                "Let the drill have credentials that may list and read there: in the environment, or as `store:` of the source.",
            ),
            Why::Unreachable if self.cause.contains("CaUsedAsEndEntity") => fault(Blame::Host)
                .hint("The store's certificate is one of an authority: give it one of a server (basicConstraints CA:FALSE)."),
            Why::Unreachable if self.cause.contains("certificate") => {
                fault(Blame::Host).hint("Name the authority that signed it: `store: { ca: FILE }`, or AWS_CA_BUNDLE.")
            }
            Why::Unreachable => {
                fault(Blame::Host).hint("is the store up, and may this machine reach it? See `store: { endpoint: … }`.")
            }
            Why::Changed => fault(Blame::Host)
                .hint("Something writes to the backup meanwhile: drill it when it is complete."),
            Why::Unversioned => fault(Blame::Scenario)
                .hint("Take `as_of` out of `store:`, or give a moment since which the bucket keeps versions."),
            Why::Later => fault(Blame::Scenario).hint(
                "Give `as_of` a moment at which it was there, and look whether a rule for old versions removes them too early.",
            ),
            Why::Damaged => fault(Blame::Backup)
                .hint("the file was cut or damaged: compare its size and checksum with those where it was made"),
            Why::Config(fault) => fault.clone(),
            Why::Unusable => fault(Blame::Scenario).hint("correct the URL and `store:` in the scenario"),
            Why::Other => fault(Blame::Host),
        }
    }
}

/// Whether an error is one of reading, and none of what was read.
pub(super) fn is_medium(error: &io::Error) -> bool {
    error.raw_os_error().is_some() || Trouble::of(error).is_some()
}

/// The same error once more.
pub(super) fn again(error: &io::Error) -> io::Error {
    match (error.raw_os_error(), Trouble::of(error)) {
        (Some(errno), _) => io::Error::from_raw_os_error(errno),
        (None, Some(trouble)) => trouble.clone().into_error(),
        (None, None) => io::Error::new(error.kind(), error.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open set: the crate may add kinds of errors")]
fn trouble(error: &object_store::Error) -> io::Error {
    use object_store::Error;
    if let Error::Generic { source, .. } = error
        && let Some(trouble) = source.downcast_ref::<Trouble>()
    {
        return trouble.clone().into_error();
    }
    let text = words(error);
    // Some services call an old token a bad request.
    let kind = match error {
        Error::NotFound { .. } => Why::Absent,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Why::Refused,
        Error::Precondition { .. } | Error::NotModified { .. } => Why::Changed,
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::UnknownConfigurationKey { .. } => Why::Unusable,
        _ if ["NoSuchBucket", "ContainerNotFound"].iter().any(|it| text.contains(it)) => Why::NoStore,
        _ if CREDENTIALS.iter().any(|it| text.contains(it)) => Why::Refused,
        _ if [401, 403].iter().any(|it| text.starts_with(&format!("{STATUS} {it}"))) => Why::Refused,
        Error::Generic { .. } => Why::Unreachable,
        _ => Why::Other,
    };
    Trouble { kind, cause: text }.into_error()
}

/// Errors of credentials, which no right would mend.
pub(super) const CREDENTIALS: [&str; 7] = [
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "AuthenticationFailed",
    "AuthorizationFailure",
];

const STATUS: &str = "the store answers";

/// Google's errors are JSON.
pub(super) fn said_by_google(text: &str) -> Option<String> {
    let whole: serde_json::Value = serde_json::from_str(text).ok()?;
    whole["error"]["message"].as_str().map(str::to_owned)
}

/// What a store said, without the markup around it; or the innermost reason why it said nothing.
pub(super) fn words(error: &object_store::Error) -> String {
    let whole = error.to_string();
    let within = |tag: &str| {
        let rest = whole.split_once(&format!("<{tag}>"))?.1;
        rest.split_once(&format!("</{tag}>")).map(|it| it.0.lines().next().unwrap_or_default().trim().to_owned())
    };
    if let Some(code) = within("Code") {
        return within("Message").filter(|it| *it != code).map_or(code.clone(), |it| format!("{code}: {it}"));
    }
    let mut texts: Vec<String> = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    let status = texts.iter().find_map(|it| it.strip_prefix("Server returned non-2xx status code: "));
    let said = status.and_then(|it| said_by_google(&it[it.find('{')?..]));
    let told = status.map(|it| match (it.split_once(':'), said) {
        (Some((code, _)), Some(said)) => format!("{STATUS} {code}: {said}"),
        _ => format!("{STATUS} {}", it.trim_end_matches([' ', ':'])),
    });
    told.or_else(|| texts.pop()).unwrap_or(whole).lines().next().unwrap_or_default().to_owned()
}

/// `config` over what the environment says.
fn connect(
    address: &Address,
    config: Option<&StoreConfig>,
    access: &Access,
    meter: &Arc<Meter>,
) -> object_store::Result<Client> {
    // Several providers may be compiled in: one must be chosen, once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authorities = config.into_iter().chain([&access.general]).flat_map(|it| &it.authorities);
    let mut client = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST);
    for bundle in authorities {
        for certificate in Certificate::from_pem_bundle(bundle)? {
            client = client.with_root_certificate(certificate);
        }
    }
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2. },
        max_retries: RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    };
    let connector = Metered { meter: Arc::clone(meter) };
    // What the scenario says comes last, and counts; beside its credentials, no others are wanted.
    let general = access.general.options.iter().chain(&access.environment);
    let own = config.is_some_and(|it| it.options.keys().any(|it| !PLACES.contains(&it.as_str())));
    let general = general.filter(|(key, _)| !own || PLACES.contains(&key.to_ascii_lowercase().as_str()));
    let options: Vec<(String, String)> = general
        .chain(config.iter().flat_map(|it| &it.options))
        .map(|(a, b)| (a.to_ascii_lowercase(), b.clone()))
        .collect();
    let plain = options.iter().any(|(key, value)| ENDPOINTS.contains(&key.as_str()) && value.starts_with("http://"));
    let client = client.with_allow_http(plain);
    let past = config.and_then(|it| it.as_of).map(|moment| (moment, client.clone()));
    // The builders are alike, and have no trait in common.
    macro_rules! built {
        ($builder:expr, $named:ident) => {{
            let mut builder = $builder;
            for (key, value) in options {
                // Variables that mean nothing to this service.
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_client_options(client).with_retry(retry).with_http_connector(connector);
            let builder = builder.$named(&address.bucket);
            (Arc::new(builder.clone().build()?), builder)
        }};
    }
    let (store, place): (Arc<dyn ObjectStore>, Option<Place>) = match address.service {
        Service::S3 => {
            let (store, builder) = built!(AmazonS3Builder::new(), with_bucket_name);
            let place = Place::s3(&builder, &store, &address.bucket);
            (store, Some(place))
        }
        Service::Google => {
            let (store, builder) = built!(GoogleCloudStorageBuilder::new(), with_bucket_name);
            let place = Place::google(&builder, &store, &address.bucket);
            (store, Some(place))
        }
        Service::Azure => (built!(MicrosoftAzureBuilder::new(), with_container_name).0, None),
    };
    let Some((moment, client)) = past else { return Ok(Client { store, past: None }) };
    let source = "Azure does not tell when a blob was deleted";
    let place = place.ok_or(object_store::Error::NotSupported { source: source.into() })?;
    let client = Metered { meter: Arc::clone(meter) }.connect(&client)?;
    let past = AsOf::new(store, place, client, &address.bucket, moment);
    Ok(Client { store: Arc::new(past.clone()), past: Some(past) })
}

/// Options that say where a store is, and not as whom it is asked.
const PLACES: [&str; 10] = [
    "aws_region",
    "aws_default_region",
    "aws_endpoint",
    "aws_endpoint_url",
    "aws_endpoint_url_s3",
    "aws_virtual_hosted_style_request",
    "google_base_url",
    "azure_storage_account_name",
    "azure_storage_endpoint",
    "azure_endpoint",
];

/// Options that name a server.
const ENDPOINTS: [&str; 6] = [
    "aws_endpoint",
    "aws_endpoint_url",
    "aws_endpoint_url_s3",
    "google_base_url",
    "azure_storage_endpoint",
    "azure_endpoint",
];

/// Counts what is asked of the stores: that is what they charge for.
#[derive(Debug, Default)]
struct Meter {
    get: AtomicU64,
    head: AtomicU64,
    list: AtomicU64,
    other: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    reason: Mutex<Option<String>>,
}

impl Meter {
    fn read(&self) -> Option<Fetched> {
        let of = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let fetched = Fetched {
            get: of(&self.get),
            head: of(&self.head),
            list: of(&self.list),
            other: of(&self.other),
            bytes: of(&self.bytes),
            failed: of(&self.failed),
            reason: self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        (fetched.requests() > 0).then_some(fetched)
    }

    fn failed(&self, reason: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

#[derive(Debug)]
struct Metered {
    meter: Arc<Meter>,
}

impl HttpConnector for Metered {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(MeteredService { client, meter: Arc::clone(&self.meter) }))
    }
}

#[derive(Debug)]
struct MeteredService {
    client: HttpClient,
    meter: Arc<Meter>,
}

#[async_trait]
impl HttpService for MeteredService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let query = request.uri().query().unwrap_or_default();
        let is_part = request.headers().contains_key("range");
        let counter = match request.method().as_str() {
            "HEAD" => &self.meter.head,
            "GET" if ["list-type=", "comp=list", "versions="].iter().any(|it| query.contains(it)) => &self.meter.list,
            "GET" => &self.meter.get,
            _ => &self.meter.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut answer = self.client.execute(request).await;
        // rclone, for one, sends the part that was asked for, and says so, and calls it the whole.
        if let Ok(answer) = &mut answer
            && is_part
            && answer.status().as_u16() == 200
            && answer.headers().contains_key("content-range")
        {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        match &answer {
            // What is tried again.
            Ok(answer) if answer.status().is_server_error() || matches!(answer.status().as_u16(), 408 | 429) => {
                self.meter.failed(format!("the store answers {}", answer.status()));
            }
            Ok(_) => {}
            Err(error) => self.meter.failed(innermost(error)),
        }
        // That a server is not who it says will not pass.
        answer.map_err(|error| match innermost(&error) {
            why if why.contains("certificate") => HttpError::new(HttpErrorKind::Unknown, error),
            _ => error,
        })
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
