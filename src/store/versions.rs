//! The versions that a store keeps of its objects: what its listings say, and which one stood at a moment.
//!
//! What surprises: S3 has entries for deletions, and Google Cloud Storage has times at which generations ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quick_xml::events::Event;
use serde::Deserialize;

/// A version of an object, or of its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) key: String,
    /// By which it is asked for.
    pub(super) id: String,
    pub(super) made: Timestamp,
    /// When it was replaced or deleted, where the store tells.
    pub(super) ended: Option<Timestamp>,
    /// Of Google: the greater, the newer.
    generation: Option<u64>,
    is_latest: bool,
    /// None: a delete marker.
    pub(super) bytes: Option<u64>,
    pub(super) e_tag: Option<String>,
}

/// What one answer holds of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) versions: Vec<Version>,
    /// With the delimiter at their end.
    pub(super) directories: Vec<String>,
    /// What to ask with for the next one: parameters. None: it is the last.
    pub(super) next: Option<Vec<(&'static str, String)>>,
}

/// What stood at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Was {
    There(Version),
    /// Deleted by then, or no version of it is known at all.
    Absent,
    /// All of its versions were made after the moment, this one first: it was made later, or its version from then is gone.
    Later(Version),
    /// It was written after the moment, while the bucket kept no versions: what it replaced cannot be seen.
    Unseen(Version),
}

/// What S3 calls an object that was written while its bucket kept no versions. The next such one replaces it.
const NULL: &str = "null";

/// `versions`: all of one key, in the order of the listing.
pub(super) fn was_at(versions: &[Version], moment: Timestamp) -> Was {
    if let Some(it) = versions.iter().find(|it| it.id == NULL && it.made > moment) {
        return Was::Unseen(it.clone());
    }
    let made: Vec<&Version> = versions.iter().filter(|it| it.made <= moment).collect();
    if made.is_empty() {
        let first = versions.iter().min_by_key(|it| it.made);
        return first.map_or(Was::Absent, |it| Was::Later(it.clone()));
    }
    let lasting: Vec<&Version> = made.into_iter().filter(|it| it.ended.is_none_or(|it| it > moment)).collect();
    match newest(&lasting) {
        Some(it) if it.bytes.is_some() => Was::There(it.clone()),
        Some(_) | None => Was::Absent,
    }
}

/// Where two have one time, stores list the newer one first. An upload in parts has the time at which it began: one that is listed
/// before another is newer, whatever their times say.
fn newest<'a>(versions: &[&'a Version]) -> Option<&'a Version> {
    let age = |at: &usize| versions.get(*at).map(|it| (it.made, it.generation, it.is_latest));
    let at = (0..versions.len()).rev().max_by_key(age)?;
    let by_time = versions.get(at).copied()?;
    let before = versions.iter().take(at).find(|it| it.is_in_parts() && !by_time.is_latest);
    Some(before.copied().unwrap_or(by_time))
}

impl Version {
    /// Whether S3 got it in parts: `"…-3"`.
    fn is_in_parts(&self) -> bool {
        self.e_tag.as_deref().is_some_and(|it| it.contains('-'))
    }
}

/// Gathers versions by their keys, page by page.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    open: BTreeMap<String, Vec<Version>>,
}

impl Gathered {
    /// Pages come in the order of keys, so all but the last key of a page are complete: those are given, each with all of its versions.
    /// `is_last`: of the listing; then that one is as well.
    pub(super) fn add(&mut self, versions: Vec<Version>, is_last: bool) -> BTreeMap<String, Vec<Version>> {
        for version in versions {
            self.open.entry(version.key.clone()).or_default().push(version);
        }
        let mut complete = std::mem::take(&mut self.open);
        if !is_last && let Some((key, versions)) = complete.pop_last() {
            self.open.insert(key, versions);
        }
        complete
    }
}

/// An answer of S3 to `?versions`, as XML: [ListObjectVersions][1].
///
/// [1]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
pub(super) fn page_of_s3(text: &str) -> Result<Page, String> {
    must_be(text, "Versions", "the server does not list versions")?;
    let listed: S3Page = quick_xml::de::from_str(text).map_err(|it| it.to_string())?;
    let mut page = Page::default();
    let (mut key, mut id, mut goes_on) = (None, None, None);
    for part in listed.parts {
        match part {
            S3Part::Version(it) => page.versions.push(it.version(true)?),
            S3Part::DeleteMarker(it) => page.versions.push(it.version(false)?),
            S3Part::CommonPrefixes(it) => page.directories.push(it.prefix),
            S3Part::IsTruncated(it) => goes_on = it.trim().to_ascii_lowercase().parse().ok(),
            S3Part::NextKeyMarker(it) => key = Some(it).filter(|it| !it.is_empty()),
            S3Part::NextVersionIdMarker(it) => id = Some(it).filter(|it| !it.is_empty()),
            S3Part::Other => {}
        }
    }
    if goes_on.ok_or("the listing does not say whether it goes on")? {
        let key = key.ok_or("the listing goes on, and does not say where")?;
        let id = id.map(|it| ("version-id-marker", it));
        page.next = Some([("key-marker", key)].into_iter().chain(id).collect());
    }
    Ok(page)
}

/// The name of the outermost element.
fn root(text: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(it) | Event::Empty(it) => {
                return std::str::from_utf8(it.local_name().as_ref()).ok().map(str::to_owned);
            }
            Event::Eof => return None,
            Event::End(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
}

/// Servers that know nothing of versions answer with something else. S3's names are `ListVersionsResult` and
/// `VersioningConfiguration`; some servers have names like `GetBucketVersioningResponse`.
fn must_be(text: &str, part: &str, otherwise: &str) -> Result<(), String> {
    match root(text) {
        Some(it) if it.contains(part) => Ok(()),
        Some(it) => Err(format!("{otherwise}: it answers with <{it}>")),
        None => Err(format!("{otherwise}: its answer is no XML")),
    }
}

/// The code of an error of S3, which may come with any status.
pub(super) fn error_of_s3(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        #[serde(rename = "Code")]
        code: Option<String>,
    }
    let is_error = root(text).is_some_and(|it| it == "Error");
    let told: Option<Told> = if is_error { quick_xml::de::from_str(text).ok() } else { None };
    is_error.then(|| told.and_then(|it| it.code).unwrap_or_default().trim().to_owned())
}

#[derive(Deserialize)]
struct S3Page {
    /// Versions and delete markers are mixed, and each has its place.
    #[serde(rename = "$value", default)]
    parts: Vec<S3Part>,
}

#[derive(Deserialize)]
enum S3Part {
    Version(S3Version),
    DeleteMarker(S3Version),
    CommonPrefixes(S3Prefix),
    IsTruncated(String),
    NextKeyMarker(String),
    NextVersionIdMarker(String),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Version {
    key: String,
    version_id: Option<String>,
    #[serde(default)]
    is_latest: bool,
    last_modified: String,
    size: Option<u64>,
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Prefix {
    prefix: String,
}

impl S3Version {
    fn version(self, is_object: bool) -> Result<Version, String> {
        let made = time(&self.last_modified)?;
        let bytes = if is_object { Some(self.size.ok_or_else(|| format!("{} has no size", self.key))?) } else { None };
        let id = self.version_id.filter(|it| !it.is_empty()).unwrap_or_else(|| NULL.to_owned());
        let (ended, generation) = (None, None);
        Ok(Version { key: self.key, id, made, ended, generation, is_latest: self.is_latest, bytes, e_tag: self.e_tag })
    }
}

/// Whether a bucket of S3 keeps versions, or did at some time: [GetBucketVersioning][1].
///
/// [1]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html
pub(super) fn keeps_of_s3(text: &str) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Setting {
        #[serde(rename = "Status")]
        status: Option<String>,
    }
    must_be(text, "Versioning", "the server knows of none")?;
    let setting: Setting = quick_xml::de::from_str(text).map_err(|it| it.to_string())?;
    Ok(setting.status.is_some_and(|it| matches!(it.trim(), "Enabled" | "Suspended")))
}

/// An answer of Google Cloud Storage to `versions=true`, as JSON: [Objects: list][1].
///
/// [1]: https://cloud.google.com/storage/docs/json_api/v1/objects/list
pub(super) fn page_of_google(text: &str) -> Result<Page, String> {
    let listed: GooglePage = serde_json::from_str(text).map_err(|it| it.to_string())?;
    let versions = listed.items.into_iter().map(GoogleVersion::version).collect::<Result<_, _>>()?;
    let next = listed.next_page_token.filter(|it| !it.is_empty()).map(|it| vec![("pageToken", it)]);
    Ok(Page { versions, directories: listed.prefixes, next })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GooglePage {
    #[serde(default)]
    items: Vec<GoogleVersion>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoogleVersion {
    name: String,
    generation: String,
    /// Bytes, as digits in a string.
    size: String,
    time_created: String,
    time_deleted: Option<String>,
}

impl GoogleVersion {
    fn version(self) -> Result<Version, String> {
        let bytes = self.size.parse().map_err(|_| format!("{} has a size of `{}`", self.name, self.size))?;
        let ended = self.time_deleted.as_deref().map(time).transpose()?;
        Ok(Version {
            made: time(&self.time_created)?,
            is_latest: ended.is_none(),
            generation: self.generation.parse().ok(),
            key: self.name,
            id: self.generation,
            ended,
            bytes: Some(bytes),
            e_tag: None,
        })
    }
}

/// Whether a bucket of Google Cloud Storage keeps versions: [Buckets: get][1].
///
/// [1]: https://cloud.google.com/storage/docs/json_api/v1/buckets/get
pub(super) fn keeps_of_google(text: &str) -> Result<bool, String> {
    let setting: serde_json::Value = serde_json::from_str(text).map_err(|it| it.to_string())?;
    Ok(setting["versioning"]["enabled"] == true)
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is no time"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(second: u32) -> Timestamp {
        format!("2026-11-20T10:00:{second:02}Z").parse().unwrap()
    }

    /// `v2` of 3 bytes, or `-v3`, a delete marker: newest first, as S3 lists them.
    fn version(id: &str, second: u32, is_latest: bool) -> Version {
        let bytes = (!id.starts_with('-')).then_some(3);
        Version {
            key: "a".to_owned(),
            id: id.trim_start_matches('-').to_owned(),
            made: at(second),
            ended: None,
            generation: None,
            is_latest,
            bytes,
            e_tag: None,
        }
    }

    fn was(versions: &[Version], second: u32) -> String {
        match was_at(versions, at(second)) {
            Was::There(it) => it.id,
            Was::Absent => "absent".to_owned(),
            Was::Later(it) => format!("later {}", it.id),
            Was::Unseen(it) => format!("unseen {}", it.id),
        }
    }

    #[test]
    fn the_newest_version_at_or_before_the_moment_stood_then() {
        let all =
            [version("v4", 40, true), version("-v3", 30, false), version("v2", 20, false), version("v1", 10, false)];
        for (second, expect) in [
            (9, "later v1"),
            (10, "v1"),
            (19, "v1"),
            (20, "v2"),
            (29, "v2"),
            (30, "absent"),
            (39, "absent"),
            (40, "v4"),
        ] {
            assert_eq!(was(&all, second), expect, "at {second}");
            let turned: Vec<Version> = all.iter().rev().cloned().collect();
            assert_eq!(was(&turned, second), expect, "in another order, at {second}");
        }
    }

    #[test]
    fn of_two_versions_of_one_second_the_latest_counts_then_the_one_that_is_listed_first() {
        assert_eq!(was(&[version("v2", 10, false), version("v1", 10, false)], 10), "v2");
        assert_eq!(was(&[version("v1", 10, false), version("-v2", 10, true)], 10), "absent");
    }

    #[test]
    fn what_was_written_without_versions_after_the_moment_hides_what_was_there() {
        assert_eq!(was(&[version("null", 20, true)], 10), "unseen null");
        assert_eq!(was(&[version("-null", 20, true), version("v1", 5, false)], 10), "unseen null");
        assert_eq!(was(&[version("v2", 20, true), version("null", 10, false)], 10), "null");
    }

    #[test]
    fn what_was_made_later_proves_no_absence() {
        assert_eq!(was(&[version("v2", 20, true)], 10), "later v2");
        assert_eq!(was(&[version("-v3", 30, true), version("v2", 20, false)], 10), "later v2");
        assert_eq!(was(&[version("-v2", 20, true)], 10), "later v2");
        assert_eq!(was(&[version("v2", 20, true), version("-v1", 5, false)], 10), "absent");
        assert_eq!(was(&[], 10), "absent");
    }

    #[test]
    fn an_upload_in_parts_is_as_new_as_its_place_in_the_listing() {
        let in_parts = |id, second| Version { e_tag: Some("\"9b2c-3\"".to_owned()), ..version(id, second, false) };
        assert_eq!(was(&[in_parts("v3", 5), version("v2", 10, false), version("v1", 1, false)], 20), "v3");
        assert_eq!(was(&[in_parts("v3", 5), version("-v2", 10, false)], 20), "v3");
        assert_eq!(was(&[version("-v3", 10, false), in_parts("v2", 5)], 20), "absent");
        assert_eq!(was(&[in_parts("v3", 25), version("v2", 10, false)], 20), "v2");
        // Some servers list markers after all else.
        assert_eq!(was(&[version("v1", 5, false), version("-v2", 10, true)], 20), "absent");
    }

    #[test]
    fn of_generations_of_one_moment_the_greatest_that_had_not_ended_counts() {
        let of = |id: &str, ended: Option<u32>| Version {
            generation: id.parse().ok(),
            ended: ended.map(at),
            ..version(id, 10, ended.is_none())
        };
        assert_eq!(was(&[of("9", Some(30)), of("10", Some(40))], 20), "10");
        assert_eq!(was(&[of("10", Some(10)), of("9", Some(30))], 20), "9");
        assert_eq!(was(&[of("10", Some(10)), of("9", Some(10))], 20), "absent");
    }

    const S3: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix/><KeyMarker/><VersionIdMarker/>
  <MaxKeys>3</MaxKeys><IsTruncated>true</IsTruncated><NextKeyMarker>d/b&amp;c</NextKeyMarker><NextVersionIdMarker>x1</NextVersionIdMarker>
  <Version><Key>d/a</Key><VersionId>v2</VersionId><IsLatest>false</IsLatest><LastModified>2026-11-20T10:00:20.000Z</LastModified>
    <ETag>&quot;e2&quot;</ETag><Size>3</Size><Owner><ID>7</ID><DisplayName>x</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Version>
  <DeleteMarker><Key>d/b&amp;c</Key><VersionId>x2</VersionId><IsLatest>true</IsLatest><LastModified>2026-11-20T10:00:30.000Z</LastModified>
    <Owner><ID>7</ID></Owner></DeleteMarker>
  <Version><Key>d/b&amp;c</Key><IsLatest>false</IsLatest><LastModified>2026-11-20T10:00:10Z</LastModified>
    <ETag>"e1"</ETag><Size>0</Size></Version>
  <CommonPrefixes><Prefix>d/e/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>d/f/</Prefix></CommonPrefixes>
</ListVersionsResult>"#;

    #[test]
    fn a_page_of_s3_is_read_with_markers_between_versions() {
        let page = page_of_s3(S3).unwrap();
        let of = |it: &Version| (it.key.clone(), it.id.clone(), it.bytes, it.e_tag.clone(), it.is_latest);
        let owned = |key: &str, id: &str, bytes, tag: Option<&str>, latest| {
            (key.to_owned(), id.to_owned(), bytes, tag.map(str::to_owned), latest)
        };
        assert_eq!(
            page.versions.iter().map(of).collect::<Vec<_>>(),
            [
                owned("d/a", "v2", Some(3), Some("\"e2\""), false),
                owned("d/b&c", "x2", None, None, true),
                owned("d/b&c", "null", Some(0), Some("\"e1\""), false),
            ]
        );
        assert_eq!(page.versions[1].made, at(30));
        assert_eq!(page.directories, ["d/e/", "d/f/"]);
        let next = [("key-marker", "d/b&c".to_owned()), ("version-id-marker", "x1".to_owned())];
        assert_eq!(page.next.as_deref(), Some(&next[..]));
        let last = S3.replace("<IsTruncated>true", "<IsTruncated>false");
        assert_eq!(page_of_s3(&last).unwrap().next, None);
        let empty = "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>";
        assert_eq!(page_of_s3(empty).unwrap(), Page::default());
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        for text in
            ["", "<html>", "nothing", &S3.replace("<Size>3</Size>", ""), &S3.replace("2026-11-20T", "yesterday ")]
        {
            assert!(page_of_s3(text).is_err(), "{text}");
        }
        let other = S3.replace("ListVersionsResult", "ListBucketResult");
        assert_eq!(
            page_of_s3(&other).unwrap_err(),
            "the server does not list versions: it answers with <ListBucketResult>"
        );
        let mute = "<ListVersionsResult><Name>b</Name></ListVersionsResult>";
        assert!(page_of_s3(mute).unwrap_err().contains("whether it goes on"));
        assert!(keeps_of_s3("<ListBucketResult/>").is_err());
        let error = "<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>x</Message></Error>";
        assert_eq!(error_of_s3(error).as_deref(), Some("SlowDown"));
        assert_eq!(error_of_s3("<Error/>").as_deref(), Some(""));
        assert_eq!(error_of_s3(S3), None);
        let endless = "<ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>";
        assert!(page_of_s3(endless).unwrap_err().contains("does not say where"));
        for text in ["", "null", "[1]", r#"{"items":[{"name":"a"}]}"#] {
            assert!(page_of_google(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_generation_of_google_ends_where_it_was_replaced_or_deleted() {
        let text = r#"{"kind":"storage#objects","nextPageToken":"CgE=","prefixes":["d/e/"],"items":[
            {"name":"d/a","generation":"2","size":"5","timeCreated":"2026-11-20T10:00:20.5Z","timeDeleted":"2026-11-20T10:00:30Z"},
            {"name":"d/a","generation":"1","size":"3","timeCreated":"2026-11-20T10:00:10Z","timeDeleted":"2026-11-20T10:00:20.5Z"}]}"#;
        let page = page_of_google(text).unwrap();
        for (second, expect) in
            [(9, "later 1"), (10, "1"), (20, "1"), (21, "2"), (29, "2"), (30, "absent"), (59, "absent")]
        {
            assert_eq!(was(&page.versions, second), expect, "at {second}");
        }
        assert_eq!(page.directories, ["d/e/"]);
        assert_eq!(page.next, Some(vec![("pageToken", "CgE=".to_owned())]));
        assert_eq!(page_of_google(r#"{"kind":"storage#objects"}"#).unwrap(), Page::default());
    }

    #[test]
    fn versions_of_a_key_may_lie_on_two_pages() {
        let of = |key: &str, id: &str| Version { key: key.to_owned(), ..version(id, 10, false) };
        let mut gathered = Gathered::default();
        let given = |it: BTreeMap<String, Vec<Version>>| -> Vec<(String, usize)> {
            it.into_iter().map(|(key, versions)| (key, versions.len())).collect()
        };
        let owned = |pairs: &[(&str, usize)]| pairs.iter().map(|it| (it.0.to_owned(), it.1)).collect::<Vec<_>>();
        assert_eq!(given(gathered.add(vec![of("a", "1"), of("b", "1")], false)), owned(&[("a", 1)]));
        assert_eq!(given(gathered.add(vec![of("b", "2"), of("b", "3")], false)), owned(&[]));
        assert_eq!(given(gathered.add(vec![of("c", "1")], false)), owned(&[("b", 3)]));
        assert_eq!(given(gathered.add(Vec::new(), true)), owned(&[("c", 1)]));
    }

    #[test]
    fn whether_a_bucket_keeps_versions_is_its_own_word() {
        let s3 = |status: &str| keeps_of_s3(&format!("<VersioningConfiguration>{status}</VersioningConfiguration>"));
        assert_eq!(s3("<Status>Enabled</Status>"), Ok(true));
        assert_eq!(s3("<Status>Suspended</Status><MfaDelete>Disabled</MfaDelete>"), Ok(true));
        assert_eq!(s3(""), Ok(false));
        let other = "<GetBucketVersioningResponse><Status>Enabled</Status></GetBucketVersioningResponse>";
        assert_eq!(keeps_of_s3(other), Ok(true));
        assert_eq!(keeps_of_s3("<VersioningConfiguration xmlns=\"x\"/>"), Ok(false));
        assert_eq!(keeps_of_google(r#"{"versioning":{"enabled":true}}"#), Ok(true));
        assert_eq!(keeps_of_google(r#"{"versioning":{"enabled":false}}"#), Ok(false));
        assert_eq!(keeps_of_google("{}"), Ok(false));
    }
}
