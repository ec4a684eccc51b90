//! Object stores by the URLs that name them.

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    S3,
    Google,
    Azure,
}

impl Service {
    const ALL: [(Service, &'static str); 3] =
        [(Service::S3, "s3://"), (Service::Google, "gs://"), (Service::Azure, "az://")];

    /// The service of a URL. None: it is a path.
    pub fn of(url: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|it| url.starts_with(it.1)).map(|it| it.0)
    }

    /// What holds the objects of a URL. None: it is a path.
    pub fn bucket(url: &str) -> Option<&str> {
        let rest = &url[Service::of(url)?.scheme().len()..];
        Some(rest.split('/').next().unwrap_or(rest))
    }

    /// A URL's scheme and bucket: what credentials are for.
    pub fn root(url: &str) -> Option<&str> {
        let bucket = Service::bucket(url)?;
        Some(&url[..Service::of(url)?.scheme().len() + bucket.len()])
    }

    /// The same place under another name, where two stores have a bucket of one name: `s3://NAME@BUCKET/…`.
    pub fn named(url: &str, name: &str) -> String {
        let plain = |it: char| if it.is_ascii_alphanumeric() || it == '-' { it } else { '-' };
        let name: String = name.chars().map(plain).collect();
        match Service::of(url) {
            Some(service) => format!("{0}{name}@{1}", service.scheme(), &url[service.scheme().len()..]),
            None => url.to_owned(),
        }
    }

    /// What its URLs begin with.
    pub fn scheme(self) -> &'static str {
        Service::ALL.into_iter().find(|it| it.0 == self).map_or("", |it| it.1)
    }

    /// What holds its objects.
    pub const fn noun(self) -> &'static str {
        match self {
            Service::S3 | Service::Google => "bucket",
            Service::Azure => "container",
        }
    }

    /// The options that mean what a scenario says of a store, by the names that the `object_store` crate has for them.
    /// None: the service knows no such thing.
    pub fn option(self, word: &str) -> Option<&'static str> {
        Some(match (self, word) {
            (Service::S3, "endpoint") => "aws_endpoint_url_s3",
            (Service::S3, "region") => "aws_region",
            (Service::S3, "virtual_hosted") => "aws_virtual_hosted_style_request",
            (Service::S3, "anonymous") => "aws_skip_signature",
            (Service::S3, "access_key") => "aws_access_key_id",
            (Service::S3, "secret_key") => "aws_secret_access_key",
            (Service::S3, "session_token") => "aws_session_token",
            (Service::Google, "endpoint") => "google_base_url",
            (Service::Google, "anonymous") => "google_skip_signature",
            (Service::Google, "service_account") => "google_service_account_key",
            (Service::Google, "token") => "google_bearer_token",
            (Service::Azure, "endpoint") => "azure_storage_endpoint",
            (Service::Azure, "anonymous") => "azure_skip_signature",
            (Service::Azure, "account") => "azure_storage_account_name",
            (Service::Azure, "account_key") => "azure_storage_account_key",
            (Service::Azure, "sas_token") => "azure_storage_sas_key",
            (Service::Azure, "token") => "azure_storage_token",
            _ => return None,
        })
    }

    /// The words that this service knows.
    pub fn words(self) -> Vec<&'static str> {
        WORDS.into_iter().filter(|it| self.option(it).is_some()).collect()
    }
}

/// What a scenario can say of a store, besides its certificates.
pub const WORDS: [&str; 12] = [
    "endpoint",
    "region",
    "virtual_hosted",
    "anonymous",
    "access_key",
    "secret_key",
    "session_token",
    "account",
    "account_key",
    "sas_token",
    "service_account",
    "token",
];

/// The path that a `file://` URL names; anything else as it is.
pub fn without_file_scheme(path: &str) -> &str {
    path.strip_prefix("file://").map_or(path, |it| it.strip_prefix("localhost").unwrap_or(it))
}
