//! What docker keeps to log in to a registry: in its `config.json`, or with one of its credential helpers.
//!
//! It goes from there to the engine in a header of one request, and nowhere else: no message, no log, no argument has it.

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential};
use testcontainers::bollard::auth::DockerCredentials;

/// The name under which docker keeps what Docker Hub wants.
const HUB: &str = "https://index.docker.io/v1/";

/// None where docker keeps nothing for the registry of this image. Err: it keeps something that cannot be had, in words.
pub(super) async fn of(reference: &str) -> Result<Option<DockerCredentials>, String> {
    let server = registry(reference).to_owned();
    let asked = server.clone();
    // Reads files, and may run a program.
    let found = tokio::task::spawn_blocking(move || get_credential(&asked)).await.map_err(|error| error.to_string())?;
    let credentials = DockerCredentials { serveraddress: Some(server.clone()), ..DockerCredentials::default() };
    match found {
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(DockerCredentials { identitytoken: Some(token), ..credentials }))
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Some(DockerCredentials { username: Some(username), password: Some(password), ..credentials }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => Ok(None),
        // Most often it is not there: a registry that wants nothing needs none, another one says so itself.
        Err(CredentialRetrievalError::ConfigReadError) => {
            tracing::warn!(server, "docker's config.json cannot be read: pulling without credentials");
            Ok(None)
        }
        // What the helper wrote may be anything.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            // Helpers fail where they know nothing of a registry, which may want nothing.
            tracing::info!(helper, server, "docker's credential helper has nothing for this registry");
            Ok(None)
        }
        Err(
            error @ (CredentialRetrievalError::HelperCommunicationError
            | CredentialRetrievalError::MalformedHelperResponse
            | CredentialRetrievalError::CredentialDecodingError
            | CredentialRetrievalError::CredentialMismatchError),
        ) => Err(format!("docker's credentials for {server} cannot be had: {error}")),
    }
}

/// A first part is a registry's address if it has a dot or a port, or is localhost; see reference.Normalize of distribution.
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) => HUB,
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        Some(_) | None => HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_of_an_image_is_in_its_name_or_docker_hub() {
        let cases = [
            ("postgres:17", HUB),
            ("timescale/timescaledb:latest", HUB),
            ("docker.io/library/postgres:17", HUB),
            ("registry.example/postgres:17", "registry.example"),
            ("127.0.0.1:5000/drill/postgres:17", "127.0.0.1:5000"),
            ("localhost/postgres", "localhost"),
        ];
        for (reference, expected) in cases {
            assert_eq!(registry(reference), expected, "{reference}");
        }
    }
}
