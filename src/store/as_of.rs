//! An object store as it was at a moment, for those who only read it.
//!
//! What surprises: which version stood then only a listing of versions tells, and the `object_store` crate has none. So requests for
//! those are made here, and what they told is kept: the past does not change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpErrorKind, HttpRequest, HttpRequestBody};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::objects::{CREDENTIALS, FIRST_PAUSE, LONGEST_PAUSE, RETRIES, RETRY_TIMEOUT, Trouble, said_by_google, words};
use super::versions::{
    Gathered, Page, Version, Was, error_of_s3, keeps_of_google, keeps_of_s3, page_of_google, page_of_s3, was_at,
};
use crate::target::postgres_time;

/// How many versions are asked for where one key, or anything at all, is looked for.
const FEW: &str = "16";
/// Directories that are looked into at once.
const AT_ONCE: usize = 8;
/// Pages of a bucket that keeps no versions now that are searched for one from when it did.
const PAGES: usize = 100;

/// Where the versions of a bucket are listed, and as whom.
pub(super) enum Place {
    S3 {
        /// Of the bucket.
        url: String,
        region: String,
        /// None: without.
        credentials: Option<AwsCredentialProvider>,
        requester_pays: bool,
    },
    Google {
        /// Of the bucket, in the JSON API.
        url: String,
        credentials: Option<GcpCredentialProvider>,
    },
}

impl Place {
    pub(super) fn s3(builder: &AmazonS3Builder, store: &AmazonS3, bucket: &str) -> Place {
        let told = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
        let region = told(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = told(AmazonS3ConfigKey::S3Endpoint).or_else(|| told(AmazonS3ConfigKey::Endpoint));
        // As the crate makes them.
        let url = match (endpoint, is_on(told(AmazonS3ConfigKey::VirtualHostedStyleRequest))) {
            (Some(endpoint), true) => endpoint,
            (Some(endpoint), false) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
            (None, false) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        };
        let anonymous = is_on(told(AmazonS3ConfigKey::SkipSignature));
        let credentials = (!anonymous).then(|| Arc::clone(store.credentials()));
        Place::S3 { url, region, credentials, requester_pays: is_on(told(AmazonS3ConfigKey::RequestPayer)) }
    }

    pub(super) fn google(builder: &GoogleCloudStorageBuilder, store: &GoogleCloudStorage, bucket: &str) -> Place {
        let told = |key: GoogleConfigKey| builder.get_config_value(&key);
        let base = told(GoogleConfigKey::BaseUrl).unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
        let url = format!("{}/storage/v1/b/{}", base.trim_end_matches('/'), encoded(bucket));
        let anonymous = is_on(told(GoogleConfigKey::SkipSignature));
        Place::Google { url, credentials: (!anonymous).then(|| Arc::clone(store.credentials())) }
    }

    /// The URL of a request for versions of keys that begin with a prefix.
    fn listing(&self, listing: &Listing) -> String {
        let (url, fixed, few) = match self {
            Place::S3 { url, .. } => (url.clone(), vec![("versions", "")], "max-keys"),
            Place::Google { url, .. } => {
                let fields = "prefixes,nextPageToken,items(name,generation,size,timeCreated,timeDeleted)";
                (format!("{url}/o"), vec![("versions", "true"), ("fields", fields)], "maxResults")
            }
        };
        let plain =
            [("prefix", listing.prefix.as_str())].into_iter().chain(listing.by_directory.then_some(("delimiter", "/")));
        let few = listing.few.then_some((few, FEW));
        let next = listing.next.iter().flatten().map(|(name, value)| (*name, value.as_str()));
        let pairs = fixed.into_iter().chain(plain).chain(few).chain(next);
        let query: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        format!("{url}?{}", query.join("&"))
    }

    fn page(&self, text: &str) -> Result<Page, String> {
        match self {
            Place::S3 { .. } => page_of_s3(text),
            Place::Google { .. } => page_of_google(text),
        }
    }

    async fn signed(&self, url: &str) -> Result<HttpRequest> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.parse().map_err(|_| generic(format!("{url} is no URL")))?;
        match self {
            Place::S3 { credentials: Some(credentials), region, requester_pays, .. } => {
                let credential = credentials.get_credential().await?;
                let authorizer = AwsAuthorizer::new(&credential, "s3", region);
                authorizer.with_request_payer(*requester_pays).try_authorize(&mut request, None)?;
            }
            Place::Google { credentials: Some(credentials), .. } => {
                let bearer = credentials.get_credential().await?;
                let value = format!("Bearer {}", bearer.bearer).parse();
                let value = value.map_err(|_| generic("the token cannot be sent".to_owned()))?;
                request.headers_mut().insert(http::header::AUTHORIZATION, value);
            }
            Place::S3 { credentials: None, .. } | Place::Google { credentials: None, .. } => {}
        }
        Ok(request)
    }

    /// The code of an error that came as an answer like any other.
    fn error_in(&self, text: &str) -> Option<String> {
        match self {
            Place::S3 { .. } => error_of_s3(text),
            Place::Google { .. } => None,
        }
    }

    /// What an account has to be allowed to.
    fn rights(&self) -> &'static str {
        match self {
            Place::S3 { .. } => "s3:GetBucketVersioning, s3:ListBucketVersions and s3:GetObjectVersion",
            Place::Google { .. } => "storage.buckets.get, storage.objects.list and storage.objects.get",
        }
    }
}

fn is_on(value: Option<String>) -> bool {
    value.is_some_and(|it| matches!(it.to_ascii_lowercase().as_str(), "true" | "1" | "on" | "yes" | "y"))
}

/// As it stands in a query.
fn encoded(text: &str) -> String {
    let one = |it: u8| {
        let plain = it.is_ascii_alphanumeric() || b"-_.~".contains(&it);
        if plain { char::from(it).to_string() } else { format!("%{it:02X}") }
    };
    text.bytes().map(one).collect()
}

/// See the module. Whatever would write is refused.
#[derive(Clone)]
pub(super) struct AsOf(Arc<Past>);

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// What does not is seen from the versions themselves.
    Yes,
    /// It did once: what was deleted since then left no trace.
    NoMore,
    Never,
}

struct Past {
    store: Arc<dyn ObjectStore>,
    place: Place,
    client: HttpClient,
    bucket: String,
    moment: Timestamp,
    keeps: OnceCell<Keeps>,
    known: Mutex<Known>,
}

/// What was listed before.
#[derive(Default)]
struct Known {
    keys: BTreeMap<String, Was>,
    /// Prefixes of which every key is known that lies directly within, with the directories there.
    within: BTreeMap<String, Vec<String>>,
    /// Prefixes of which every key is known.
    beneath: BTreeSet<String>,
}

impl Known {
    fn of(&self, key: &str) -> Option<Was> {
        let parent = key.rfind('/').map_or("", |at| &key[..=at]);
        let is_listed = self.within.contains_key(parent) || self.is_listed(key);
        self.keys.get(key).cloned().or_else(|| is_listed.then_some(Was::Absent))
    }

    /// Whether all is known that begins with this.
    fn is_listed(&self, prefix: &str) -> bool {
        let mut directories = prefix.match_indices('/').map(|(at, _)| &prefix[..=at]).chain([""]);
        directories.any(|it| self.beneath.contains(it))
    }

    /// None: that is not known.
    fn is_directory(&self, prefix: &str) -> Option<bool> {
        let is_one = self.that_begin_with(prefix).any(|it| it.1.may_be());
        (is_one || self.is_listed(prefix)).then_some(is_one)
    }

    /// The directories directly within, where those are known, and what is known to lie beside them.
    fn within(&self, prefix: &str) -> (Option<Vec<String>>, Vec<Was>) {
        let (mut direct, mut directories) = (Vec::new(), BTreeSet::new());
        for (key, was) in self.that_begin_with(prefix) {
            match key[prefix.len()..].find('/') {
                Some(at) if was.may_be() => {
                    directories.insert(key[..=prefix.len() + at].to_owned());
                }
                Some(_) => {}
                None => direct.push(was.clone()),
            }
        }
        let all = || self.is_listed(prefix).then(|| directories.into_iter().collect());
        (self.within.get(prefix).cloned().or_else(all), direct)
    }

    fn that_begin_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Was)> {
        self.keys.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

impl Was {
    /// Whether something was there, as far as can be seen.
    fn may_be(&self) -> bool {
        matches!(self, Was::There(_) | Was::Unseen(_))
    }
}

/// A listing that goes on page by page.
struct Listing {
    prefix: String,
    by_directory: bool,
    few: bool,
    gathered: Gathered,
    /// One may lie on two pages.
    directories: BTreeSet<String>,
    /// The greatest key so far.
    last: String,
    next: Option<Vec<(&'static str, String)>>,
    is_over: bool,
}

impl Listing {
    fn of(prefix: &str) -> Listing {
        Listing {
            prefix: prefix.to_owned(),
            by_directory: false,
            few: false,
            gathered: Gathered::default(),
            directories: BTreeSet::new(),
            last: String::new(),
            next: None,
            is_over: false,
        }
    }
}

impl AsOf {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        place: Place,
        client: HttpClient,
        bucket: &str,
        moment: Timestamp,
    ) -> AsOf {
        let (keeps, known) = (OnceCell::new(), Mutex::default());
        AsOf(Arc::new(Past { store, place, client, bucket: bucket.to_owned(), moment, keeps, known }))
    }
}

impl Past {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stood under the keys of the next page. None: there is none.
    async fn next(&self, listing: &mut Listing) -> Result<Option<Vec<Was>>> {
        self.must_keep_versions().await?;
        let Some(versions) = self.page(listing).await? else { return Ok(None) };
        let complete = listing.gathered.add(versions, listing.is_over);
        let mut known = self.known();
        let mut found = Vec::new();
        for (key, versions) in complete {
            let was = was_at(&versions, self.moment);
            known.keys.insert(key, was.clone());
            found.push(was);
        }
        if listing.is_over && !listing.by_directory {
            known.beneath.extend(Some(&listing.prefix).filter(|it| it.is_empty() || it.ends_with('/')).cloned());
        }
        Ok(Some(found))
    }

    async fn page(&self, listing: &mut Listing) -> Result<Option<Vec<Version>>> {
        if listing.is_over {
            return Ok(None);
        }
        let text = self.ask(&self.place.listing(listing)).await?;
        let page = self.place.page(&text).map_err(|it| odd(format!("its versions cannot be read: {it}")))?;
        if page.next.is_some() && page.next == listing.next {
            return Err(odd("it lists the same versions over and over".to_owned()));
        }
        // After the first page, somebody goes on.
        (listing.few, listing.is_over, listing.next) = (false, page.next.is_none(), page.next);
        listing.directories.extend(page.directories);
        listing.last = page.versions.iter().map(|it| &it.key).chain([&listing.last]).max().cloned().unwrap_or_default();
        Ok(Some(page.versions))
    }

    /// Of what was found, what was there.
    fn there(&self, found: impl IntoIterator<Item = Was>) -> Result<Vec<Version>> {
        let mut there = Vec::new();
        for was in found {
            match was {
                Was::There(version) => there.push(version),
                Was::Absent | Was::Later(_) => {}
                Was::Unseen(version) => return Err(self.unseen(&version)),
            }
        }
        Ok(there)
    }

    async fn was(&self, key: &str) -> Result<Was> {
        if let Some(was) = self.known().of(key) {
            return Ok(was);
        }
        let mut listing = Listing { few: true, ..Listing::of(key) };
        while self.next(&mut listing).await?.is_some() {
            if let Some(was) = self.known().keys.get(key) {
                return Ok(was.clone());
            }
            // Of all keys that begin with it, it comes first.
            if listing.last.as_str() > key {
                break;
            }
        }
        self.known().keys.insert(key.to_owned(), Was::Absent);
        Ok(Was::Absent)
    }

    /// Whether anything was there beneath a directory, or may have been: one that holds only what was deleted, or came later, is
    /// listed all the same.
    async fn is_directory(&self, prefix: &str) -> Result<bool> {
        if let Some(is_one) = self.known().is_directory(prefix) {
            return Ok(is_one);
        }
        let mut listing = Listing { few: true, ..Listing::of(prefix) };
        while let Some(found) = self.next(&mut listing).await? {
            if found.iter().any(Was::may_be) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why it cannot be said of something that it was not there, by what was listed before.
    fn doubt(&self, key: &str, matches: &dyn Fn(&str) -> bool) -> Option<Trouble> {
        let beneath = directory_of(key);
        let known = self.known();
        let itself = known.keys.get_key_value(key);
        let later = itself.into_iter().chain(known.that_begin_with(&beneath)).find_map(|(key, was)| match was {
            Was::Later(it) if matches(key) => Some(it),
            Was::Later(_) | Was::There(_) | Was::Absent | Was::Unseen(_) => None,
        });
        let moment = postgres_time(self.moment);
        if self.keeps.get() == Some(&Keeps::NoMore) {
            let bucket = &self.bucket;
            return Some(Trouble::later(format!(
                "the bucket {bucket} keeps no versions any more: what was overwritten or deleted in it since cannot be seen, nor \
                 that it was there at {moment}"
            )));
        }
        later.map(|it| {
            let (key, made) = (&it.key, postgres_time(it.made));
            Trouble::later(format!(
                "what was there at {moment} cannot be seen: {key} has versions only from {made} on, so that it was made later, or its \
                 version was removed since"
            ))
        })
    }

    fn known_beneath(&self, prefix: &str) -> Vec<Was> {
        self.known().that_begin_with(prefix).map(|it| it.1.clone()).collect()
    }

    async fn within(&self, prefix: &str) -> Result<(Vec<String>, Vec<Version>)> {
        let (listed, direct) = self.known().within(prefix);
        if let Some(directories) = listed {
            return Ok((directories, self.there(direct)?));
        }
        let mut listing = Listing { by_directory: true, ..Listing::of(prefix) };
        let mut there = Vec::new();
        while let Some(found) = self.next(&mut listing).await? {
            there.extend(self.there(found)?);
        }
        let looked = stream::iter(listing.directories);
        let looked = looked.map(|it| async move { Ok::<_, Error>(self.is_directory(&it).await?.then_some(it)) });
        let directories: Vec<Option<String>> = looked.buffered(AT_ONCE).try_collect().await?;
        let directories: Vec<String> = directories.into_iter().flatten().collect();
        self.known().within.insert(prefix.to_owned(), directories.clone());
        Ok((directories, there))
    }

    /// A bucket that keeps no versions can neither show what it held nor lack it.
    async fn must_keep_versions(&self) -> Result<()> {
        if *self.keeps.get_or_try_init(|| self.keeps()).await? != Keeps::Never {
            return Ok(());
        }
        Err(unversioned(format!(
            "the bucket {} keeps no versions: what was overwritten or deleted in it since {} cannot be seen",
            self.bucket,
            postgres_time(self.moment)
        )))
    }

    async fn keeps(&self) -> Result<Keeps> {
        let keeps = match &self.place {
            Place::S3 { url, .. } => keeps_of_s3(&self.ask(&format!("{url}?versioning=")).await?),
            Place::Google { url, .. } => keeps_of_google(&self.ask(&format!("{url}?fields=versioning")).await?),
        };
        let keeps = keeps.map_err(|it| odd(format!("whether it keeps versions cannot be read: {it}")))?;
        if keeps {
            return Ok(Keeps::Yes);
        }
        // It has a word for buckets that did.
        if matches!(self.place, Place::S3 { .. }) {
            return Ok(Keeps::Never);
        }
        let mut listing = Listing::of("");
        for _ in 0..PAGES {
            let Some(versions) = self.page(&mut listing).await? else { break };
            if versions.iter().any(|it| it.ended.is_some()) {
                return Ok(Keeps::NoMore);
            }
        }
        Ok(Keeps::Never)
    }

    fn unseen(&self, version: &Version) -> Error {
        unversioned(format!(
            "{} was written at {}, while the bucket {} kept no versions: what was there at {} cannot be seen",
            version.key,
            postgres_time(version.made),
            self.bucket,
            postgres_time(self.moment)
        ))
    }

    /// The text of an answer. What may pass is tried again, as the crate does for its own requests.
    async fn ask(&self, url: &str) -> Result<String> {
        let (began, mut left, mut pause) = (Instant::now(), RETRIES, FIRST_PAUSE);
        loop {
            let request = self.place.signed(url).await?;
            let (error, may_pass) = match self.once(request).await {
                Ok((status, text)) => match (status.is_success(), self.place.error_in(&text)) {
                    (true, None) => return Ok(text),
                    (is_fine, code) => {
                        let may_pass = is_passing(status) || is_fine && code.is_some_and(|it| PASSING.contains(&&*it));
                        (self.refusal(status, &text), may_pass)
                    }
                },
                Err((error, may_pass)) => (error, may_pass),
            };
            if !may_pass || left == 0 || began.elapsed() > RETRY_TIMEOUT {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            (left, pause) = (left - 1, (pause * 2).min(LONGEST_PAUSE));
        }
    }

    async fn once(&self, request: HttpRequest) -> Result<(StatusCode, String), (Error, bool)> {
        let failed = |error: object_store::client::HttpError| {
            use HttpErrorKind::{Connect, Interrupted, Request, Timeout};
            let may_pass = matches!(error.kind(), Connect | Interrupted | Request | Timeout);
            (Error::Generic { store: "versions", source: Box::new(error) }, may_pass)
        };
        let answer = self.client.execute(request).await.map_err(failed)?;
        let status = answer.status();
        let bytes = answer.into_body().bytes().await.map_err(failed)?;
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn refusal(&self, status: StatusCode, text: &str) -> Error {
        let told = said_by_google(text).map(|it| format!("{}: {it}", status.as_u16()));
        let text = told.unwrap_or_else(|| format!("the store answers {status}: {text}"));
        let error = generic(text.clone());
        let said = words(&error);
        let refused = |cause| Error::Generic { store: "versions", source: Box::new(Trouble::refused(cause)) };
        let code = said.split(':').next().unwrap_or_default();
        match status.as_u16() {
            404 => Error::NotFound { path: self.bucket.clone(), source: text.into() },
            _ if CREDENTIALS.contains(&code) => refused(said),
            it if it == 403 || code == "AccessDenied" => {
                refused(format!("{said} (`as_of` needs the rights to {})", self.place.rights()))
            }
            401 => refused(said),
            405 | 501 => unversioned(format!("the store lists no versions: {said}")),
            _ => error,
        }
    }
}

/// Errors that may pass, whatever status they come with.
const PASSING: [&str; 3] = ["InternalError", "SlowDown", "ServiceUnavailable"];

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429) || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

fn generic(text: String) -> Error {
    Error::Generic { store: "versions", source: text.into() }
}

/// The store answers, and not as stores do.
fn odd(cause: String) -> Error {
    Error::Generic { store: "versions", source: Box::new(Trouble::other(cause)) }
}

fn unversioned(cause: String) -> Error {
    Error::Generic { store: "versions", source: Box::new(Trouble::unversioned(cause)) }
}

/// As the crate means a prefix: whole names of directories.
fn directory(prefix: Option<&Key>) -> String {
    prefix.map_or_else(String::new, |it| directory_of(it.as_ref()))
}

fn directory_of(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}/") }
}

/// Not every server heeds what version is asked for, and not every one tells which it gives.
fn is_of(version: &Version, meta: &ObjectMeta) -> bool {
    if let Some(given) = &meta.version {
        return *given == version.id;
    }
    let plain = |it: &str| it.trim_matches('"').to_owned();
    let tags = version.e_tag.as_deref().map(plain).zip(meta.e_tag.as_deref().map(plain));
    version.bytes == Some(meta.size) && tags.is_none_or(|(listed, given)| listed == given)
}

fn meta(version: &Version) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: Key::parse(&version.key)?,
        last_modified: SystemTime::from(version.made).into(),
        size: version.bytes.unwrap_or_default(),
        e_tag: version.e_tag.clone(),
        version: Some(version.id.clone()),
    })
}

impl AsOf {
    /// Whether something was there beneath it, or may have been.
    pub(super) async fn is_directory(&self, prefix: &Key) -> Result<bool> {
        self.0.is_directory(&directory(Some(prefix))).await
    }

    /// Why it cannot be said that nothing was there, at a key or beneath it, of what matches.
    pub(super) fn doubt(&self, key: &Key, matches: &dyn Fn(&str) -> bool) -> Option<Trouble> {
        self.0.doubt(key.as_ref(), matches)
    }
}

impl fmt::Debug for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsOf").field("store", &self.0.store).field("moment", &self.0.moment).finish_non_exhaustive()
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as of {}", self.0.store, self.0.moment)
    }
}

#[async_trait]
impl ObjectStore for AsOf {
    async fn get_opts(&self, location: &Key, mut options: GetOptions) -> Result<GetResult> {
        let absent =
            || Error::NotFound { path: location.to_string(), source: "it was not there at that moment".into() };
        let version = self.0.there([self.0.was(location.as_ref()).await?])?.pop().ok_or_else(absent)?;
        if options.head {
            let meta = meta(&version)?;
            let payload = GetResultPayload::Stream(stream::empty().boxed());
            let (attributes, extensions) = Default::default();
            return Ok(GetResult { payload, range: 0..meta.size, meta, attributes, extensions });
        }
        options.version = Some(version.id.clone());
        match self.0.store.get_opts(location, options).await {
            Ok(got) if !is_of(&version, &got.meta) => {
                Err(odd(format!("the store does not give the version that was asked for: {}", version.id)))
            }
            // A rule for old versions may have removed it since it was listed.
            Err(Error::NotFound { path, source }) => Err(Error::Precondition { path, source }),
            other => other,
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (past, within) = (Arc::clone(&self.0), prefix.cloned());
        let mut listing = Listing::of(&directory(prefix));
        listing.is_over = past.known().is_listed(&listing.prefix);
        let known = listing.is_over.then(|| past.known_beneath(&listing.prefix));
        let pages = stream::try_unfold((past, listing, known), |(past, mut listing, known)| async move {
            let found = match known {
                Some(known) => Some(known),
                None => past.next(&mut listing).await?,
            };
            let Some(found) = found else { return Ok::<_, Error>(None) };
            let metas: Vec<Result<ObjectMeta>> = past.there(found)?.iter().map(meta).collect();
            Ok(Some((stream::iter(metas), (past, listing, None))))
        });
        // The directory itself, as some tools write one, does not lie in it.
        let is_within = move |it: &ObjectMeta| within.as_ref() != Some(&it.location);
        pages.try_flatten().try_filter(move |it| std::future::ready(is_within(it))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let (directories, there) = self.0.within(&directory(prefix)).await?;
        let common_prefixes = directories.iter().map(|it| Ok(Key::parse(it)?)).collect::<Result<_>>()?;
        let objects: Vec<ObjectMeta> = there.iter().map(meta).collect::<Result<_>>()?;
        let objects = objects.into_iter().filter(|it| prefix != Some(&it.location)).collect();
        Ok(ListResult { common_prefixes, objects, extensions: http::Extensions::new() })
    }

    async fn put_opts(&self, _: &Key, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(&self, _: &Key, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        stream::once(std::future::ready(Err(read_only()))).boxed()
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}

fn read_only() -> Error {
    Error::NotSupported { source: "the past cannot be written".into() }
}
