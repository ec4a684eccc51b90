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

use super::objects::{FIRST_PAUSE, LONGEST_PAUSE, RETRIES, RETRY_TIMEOUT, Trouble, words};
use super::versions::{Gathered, Page, Version, Was, keeps_of_google, keeps_of_s3, page_of_google, page_of_s3, was_at};
use crate::target::postgres_time;

/// How many versions are asked for where one key, or anything at all, is looked for.
const FEW: &str = "16";
/// Directories that are looked into at once.
const AT_ONCE: usize = 8;

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
pub(super) struct AsOf(Arc<Past>);

struct Past {
    store: Arc<dyn ObjectStore>,
    place: Place,
    client: HttpClient,
    bucket: String,
    moment: Timestamp,
    keeps: OnceCell<bool>,
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
        let directories = || key.match_indices('/').map(|(at, _)| &key[..=at]).chain([""]);
        let parent = key.rfind('/').map_or("", |at| &key[..=at]);
        let is_listed = self.within.contains_key(parent) || directories().any(|it| self.beneath.contains(it));
        self.keys.get(key).cloned().or_else(|| is_listed.then_some(Was::Absent))
    }

    fn that_begin_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Was)> {
        self.keys.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// A listing that goes on page by page.
struct Listing {
    prefix: String,
    by_directory: bool,
    few: bool,
    gathered: Gathered,
    directories: Vec<String>,
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
            directories: Vec::new(),
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
        if listing.is_over {
            return Ok(None);
        }
        self.must_keep_versions().await?;
        let text = self.ask(&self.place.listing(listing)).await?;
        let page = self.place.page(&text).map_err(|it| generic(format!("it lists versions as nobody knows: {it}")))?;
        if page.next.is_some() && page.next == listing.next {
            return Err(generic("it lists the same versions over and over".to_owned()));
        }
        // After the first page, somebody goes on.
        (listing.few, listing.is_over, listing.next) = (false, page.next.is_none(), page.next);
        listing.directories.extend(page.directories);
        let complete = listing.gathered.add(page.versions, listing.is_over);
        let mut known = self.known();
        let mut found = Vec::new();
        for (key, versions) in complete {
            let was = was_at(&versions, self.moment);
            known.keys.insert(key, was.clone());
            found.push(was);
        }
        Ok(Some(found))
    }

    /// Of what was found, what was there.
    fn there(&self, found: impl IntoIterator<Item = Was>) -> Result<Vec<Version>> {
        let mut there = Vec::new();
        for was in found {
            match was {
                Was::There(version) => there.push(version),
                Was::Absent => {}
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
            if !listing.gathered.holds(key) {
                break;
            }
        }
        self.known().keys.insert(key.to_owned(), Was::Absent);
        Ok(Was::Absent)
    }

    /// Whether anything was there beneath a directory: one that holds only what was deleted, or came later, is listed all the same.
    async fn is_directory(&self, prefix: &str) -> Result<bool> {
        if self.known().that_begin_with(prefix).any(|it| matches!(it.1, Was::There(_))) {
            return Ok(true);
        }
        let mut listing = Listing { few: true, ..Listing::of(prefix) };
        while let Some(found) = self.next(&mut listing).await? {
            if !self.there(found)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn within(&self, prefix: &str) -> Result<(Vec<String>, Vec<Version>)> {
        let listed = self.known().within.get(prefix).cloned();
        if let Some(directories) = listed {
            let known = self.known();
            let direct = known.that_begin_with(prefix).filter(|(key, _)| !key[prefix.len()..].contains('/'));
            let found: Vec<Was> = direct.map(|it| it.1.clone()).collect();
            return Ok((directories, self.there(found)?));
        }
        let mut listing = Listing { by_directory: true, ..Listing::of(prefix) };
        let mut there = Vec::new();
        while let Some(found) = self.next(&mut listing).await? {
            there.extend(self.there(found)?);
        }
        let looked = stream::iter(std::mem::take(&mut listing.directories));
        let looked = looked.map(|it| async move { Ok::<_, Error>(self.is_directory(&it).await?.then_some(it)) });
        let directories: Vec<Option<String>> = looked.buffered(AT_ONCE).try_collect().await?;
        let directories: Vec<String> = directories.into_iter().flatten().collect();
        self.known().within.insert(prefix.to_owned(), directories.clone());
        Ok((directories, there))
    }

    /// A bucket that keeps no versions can neither show what it held nor lack it.
    async fn must_keep_versions(&self) -> Result<()> {
        let keeps = self.keeps.get_or_try_init(|| async {
            let keeps = match &self.place {
                Place::S3 { url, .. } => keeps_of_s3(&self.ask(&format!("{url}?versioning=")).await?),
                Place::Google { url, .. } => keeps_of_google(&self.ask(&format!("{url}?fields=versioning")).await?),
            };
            keeps.map_err(|it| generic(format!("whether it keeps versions cannot be read: {it}")))
        });
        if *keeps.await? {
            return Ok(());
        }
        Err(unversioned(format!(
            "the bucket {} keeps no versions: what was overwritten or deleted in it since {} cannot be seen",
            self.bucket,
            postgres_time(self.moment)
        )))
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
                Ok((status, text)) if status.is_success() => return Ok(text),
                Ok((status, text)) => (self.refusal(status, &text), is_passing(status)),
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
        // Google's words lie in JSON.
        let told: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let told = told.and_then(|it| it["error"]["message"].as_str().map(|it| format!("{}: {it}", status.as_u16())));
        let text = told.unwrap_or_else(|| format!("the store answers {status}: {text}"));
        let error = generic(text.clone());
        match status.as_u16() {
            404 => Error::NotFound { path: self.bucket.clone(), source: text.into() },
            401 | 403 => {
                let told = words(&error);
                let cause = format!("{told} (`as_of` needs the rights to {})", self.place.rights());
                Error::Generic { store: "versions", source: Box::new(Trouble::refused(cause)) }
            }
            405 | 501 => unversioned(format!("the store lists no versions: {}", words(&error))),
            _ => error,
        }
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429) || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

fn generic(text: String) -> Error {
    Error::Generic { store: "versions", source: text.into() }
}

fn unversioned(cause: String) -> Error {
    Error::Generic { store: "versions", source: Box::new(Trouble::unversioned(cause)) }
}

/// As the crate means a prefix: whole names of directories.
fn directory(prefix: Option<&Key>) -> String {
    prefix.filter(|it| !it.as_ref().is_empty()).map_or_else(String::new, |it| format!("{it}/"))
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
        options.version = Some(version.id);
        match self.0.store.get_opts(location, options).await {
            // A rule for old versions may have removed it since it was listed.
            Err(Error::NotFound { path, source }) => Err(Error::Precondition { path, source }),
            other => other,
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (past, within) = (Arc::clone(&self.0), prefix.cloned());
        let listing = Listing::of(&directory(prefix));
        let pages = stream::try_unfold((past, listing), |(past, mut listing)| async move {
            let Some(found) = past.next(&mut listing).await? else {
                past.known().beneath.insert(listing.prefix);
                return Ok::<_, Error>(None);
            };
            let metas: Vec<Result<ObjectMeta>> = past.there(found)?.iter().map(meta).collect();
            Ok(Some((stream::iter(metas), (past, listing))))
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
