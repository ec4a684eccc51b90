//! How object stores are reached: what cannot go together, and what is told of the scenario's words.

use super::collect::At;
use super::convert::Converter;
use super::problem::{Mistake, Span};
use super::units::Text;
use super::wire::WireStore;
use crate::source::StoreRef;
use crate::source::service::Service;

impl Converter<'_> {
    /// `path` and `wal`: what is reached like this.
    pub(super) fn store(
        &self,
        wire: Option<&At<WireStore>>,
        path: &At<Text>,
        wal: Option<&At<Text>>,
    ) -> Option<StoreRef> {
        let wire = wire?;
        let service = [Some(path), wal].into_iter().flatten().find_map(|it| Service::of(it.value.0.trim()));
        let Some(service) = service else {
            let mistake = Mistake::new(wire.span, "`store` has no meaning for a path on this machine");
            self.note(
                mistake.help("take it away, or give a URL as `path`: s3://BUCKET/…, gs://BUCKET/… or az://CONTAINER/…"),
            );
            return None;
        };
        let it = &wire.value;
        let texts = [("endpoint", &it.endpoint), ("region", &it.region), ("account", &it.account)];
        let flags = [("virtual_hosted", &it.virtual_hosted), ("anonymous", &it.anonymous)];
        let secrets = [
            ("access_key", &it.access_key),
            ("secret_key", &it.secret_key),
            ("session_token", &it.session_token),
            ("account_key", &it.account_key),
            ("sas_token", &it.sas_token),
            ("service_account", &it.service_account),
            ("token", &it.token),
        ];
        let mut store = StoreRef::default();
        for (word, text) in texts {
            let Some(text) = text else { continue };
            self.known(service, word, text.span);
            let value = text.value.0.trim().to_owned();
            if word != "endpoint" {
                store.settings.insert(word.to_owned(), value);
            } else if value.starts_with("https://") || value.starts_with("http://") {
                store.endpoint = Some(value.trim_end_matches('/').to_owned());
            } else {
                let mistake = Mistake::new(text.span, format!("`{value}` is no URL of a store"));
                self.note(mistake.help("write it like `https://minio.example:9000`"));
            }
        }
        for (word, flag) in flags {
            let Some(flag) = flag else { continue };
            self.known(service, word, flag.span);
            store.settings.insert(word.to_owned(), flag.value.to_string());
        }
        for (word, secret) in secrets {
            let Some(secret) = secret else { continue };
            self.known(service, word, secret.span);
            store.secrets.insert(word.to_owned(), self.secret(&secret.value));
        }
        store.as_of = it.as_of.as_ref().and_then(|it| self.as_of(service, it));
        store.ca = it.ca.as_ref().map(|it| self.path(it, false));
        Some(store)
    }

    fn as_of(&self, service: Service, it: &At<Text>) -> Option<jiff::Timestamp> {
        if service == Service::Azure {
            let mistake = Mistake::new(it.span, "`as_of` has no meaning for az://");
            self.note(mistake.help("Azure lists the versions of a blob, and does not tell when one was deleted"));
            return None;
        }
        let moment = self.instant(it)?;
        if self.environment.now.is_some_and(|now| moment > now) {
            let mistake = Mistake::new(it.span, "`as_of` lies in the future");
            self.note(mistake.help("give a moment that has been, or take it away: a store is read as it is"));
            return None;
        }
        Some(moment)
    }

    fn known(&self, service: Service, word: &str, span: Span) {
        if service.option(word).is_none() {
            let mistake = Mistake::new(span, format!("`{word}` has no meaning for {}", service.scheme()));
            self.note(mistake.help(format!("it knows {}", service.words().join(", "))));
        }
    }
}
