//! Where a server sends its WAL, by its own settings: they are read, and never run.
//!
//! What surprises: a command need only mention `%f`, so there is no grammar. What is known is recognised by its program, and
//! everything else by the path that it gives to `%f`.

use std::collections::BTreeMap;

use super::walg;

/// What archives WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feeds {
    /// Archiving is off, or the command does nothing.
    Nothing,
    /// One file for each segment, beneath this path or URL.
    Files(String),
    /// The prefix, where the command names it.
    WalG(Option<String>),
    /// The stanza.
    PgBackRest(Option<String>),
    /// The server's name in Barman.
    Barman(Option<String>),
    /// URL and server's name.
    BarmanCloud(Option<String>, Option<String>),
    /// A library does it.
    Library(String),
    /// A program or script of the user's.
    Other(String),
}

/// Why WAL may be lost although the server believes it archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Whatever happens, the server is told that it worked, and removes the segment.
    AlwaysSucceeds,
    /// A segment of that name that is there already is replaced: one by another cluster, or after a recovery.
    Overwrites,
}

/// What the settings say of archiving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archiving {
    pub feeds: Feeds,
    pub flaws: Vec<Flaw>,
}

impl Flaw {
    pub const fn words(self) -> &'static str {
        match self {
            Flaw::AlwaysSucceeds => {
                "archive_command succeeds even where nothing was archived: the server then removes WAL that nobody has"
            }
            Flaw::Overwrites => {
                "archive_command replaces a segment that is there already: let it refuse that, as `test ! -f …/%f && cp %p …/%f` does"
            }
        }
    }
}

impl Feeds {
    /// `a directory, /srv/wal`
    pub fn words(&self) -> String {
        let named = |what: &str, name: &Option<String>| match name {
            Some(name) => format!("{what} ({name})"),
            None => what.to_owned(),
        };
        match self {
            Feeds::Nothing => "nothing: archiving is off".to_owned(),
            Feeds::Files(at) => format!("a file for each segment, in {at}"),
            Feeds::WalG(prefix) => named("WAL-G", prefix),
            Feeds::PgBackRest(stanza) => named("pgBackRest", stanza),
            Feeds::Barman(server) => named("Barman", server),
            Feeds::BarmanCloud(url, server) => {
                let at: Vec<&str> = [url, server].into_iter().flatten().map(String::as_str).collect();
                named("barman-cloud", &Some(at.join(", ")).filter(|it| !it.is_empty()))
            }
            Feeds::Library(name) => format!("the library {name}"),
            Feeds::Other(program) => format!("whatever {program} does"),
        }
    }
}

impl Feeds {
    /// Where the segments lie, if that is an object store: it is the same place from everywhere.
    pub fn url(&self) -> Option<String> {
        let place = match self {
            Feeds::Files(url) => url.clone(),
            Feeds::WalG(prefix) => format!("{}/{}", prefix.as_ref()?.trim_end_matches('/'), walg::WAL),
            Feeds::BarmanCloud(Some(url), Some(server)) => format!("{}/{server}/wals", url.trim_end_matches('/')),
            Feeds::Nothing
            | Feeds::PgBackRest(_)
            | Feeds::Barman(_)
            | Feeds::BarmanCloud(..)
            | Feeds::Library(_)
            | Feeds::Other(_) => return None,
        };
        // What the shell puts in, nobody knows here.
        let place = place.strip_prefix("azure://").map_or(place.clone(), |it| format!("az://{it}"));
        let known = ["s3://", "gs://", "az://"].iter().any(|it| place.starts_with(it));
        (known && !place.contains(['$', '`'])).then_some(place)
    }
}

/// None where the settings do not say: a configuration that lies outside of the data directory, as Debian has it.
pub fn archiving(settings: &BTreeMap<String, String>) -> Option<Archiving> {
    let get = |name: &str| settings.get(name).map(|it| it.trim()).filter(|it| !it.is_empty());
    let off = Some(Archiving { feeds: Feeds::Nothing, flaws: Vec::new() });
    // PostgreSQL takes any unambiguous beginning of a word for a boolean.
    let mode = get("archive_mode").map(str::to_ascii_lowercase);
    if mode.is_some_and(|it| it.starts_with("of") || "false".starts_with(&it) || "no".starts_with(&it) || it == "0") {
        return off;
    }
    if let Some(library) = get("archive_library") {
        let directory = get("basic_archive.archive_directory").filter(|_| library == "basic_archive");
        let feeds = directory.map_or_else(|| Feeds::Library(library.to_owned()), |it| Feeds::Files(it.to_owned()));
        return Some(Archiving { feeds, flaws: Vec::new() });
    }
    match get("archive_command") {
        Some(text) => Some(command(text)),
        None => get("archive_mode").and(off),
    }
}

/// What an `archive_command` does.
pub fn command(text: &str) -> Archiving {
    let tokens = tokens(text);
    let mut flaws = Vec::new();
    let ends_well = succeeds(&tokens);
    if ends_well {
        flaws.push(Flaw::AlwaysSucceeds);
    }
    let feeds = tool(&tokens).or_else(|| files(&tokens));
    if matches!(feeds, Some(Feeds::Files(_))) && overwrites(&tokens) {
        flaws.push(Flaw::Overwrites);
    }
    let program = tokens.iter().find(|it| !is_assignment(it)).cloned().unwrap_or_default();
    let other = if ends_well && !text.contains('%') { Feeds::Nothing } else { Feeds::Other(program) };
    Archiving { feeds: feeds.unwrap_or(other), flaws }
}

/// Words without their quotes, and operators. The script of a `sh -c` is taken apart as well.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    let mut end = |word: &mut String, quoted: &mut bool| {
        if *quoted || !word.is_empty() {
            tokens.push(std::mem::take(word));
        }
        *quoted = false;
    };
    while let Some(next) = rest.next() {
        match next {
            '\'' | '"' => {
                quoted = true;
                while let Some(inner) = rest.next().filter(|it| *it != next) {
                    word.push(inner);
                }
            }
            '\\' => word.extend(rest.next()),
            it if it.is_whitespace() => end(&mut word, &mut quoted),
            '&' | '|' | ';' | '<' | '>' | '(' | ')' => {
                end(&mut word, &mut quoted);
                word.push(next);
                if matches!(next, '&' | '|' | '>') && rest.peek() == Some(&next) {
                    word.extend(rest.next());
                }
                end(&mut word, &mut quoted);
            }
            other => word.push(other),
        }
    }
    end(&mut word, &mut quoted);
    let shell = tokens.iter().position(|it| matches!(base(it), "sh" | "bash" | "dash"));
    let script = shell.filter(|at| tokens.get(at + 1).is_some_and(|it| it.starts_with('-') && it.ends_with('c')));
    match script.and_then(|at| tokens.get(at + 2)) {
        // Once: a script within a script is nothing that people write.
        Some(script) if script.contains(char::is_whitespace) => self::tokens(&script.clone()),
        Some(_) | None => tokens,
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_assignment(token: &str) -> bool {
    let name = token.split_once('=').map_or("", |it| it.0);
    !name.is_empty() && name.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_')
}

/// The words of the simple command that a program begins, up to the next operator.
fn simple<'a>(tokens: &'a [String], programs: &[&str]) -> Option<&'a [String]> {
    let at = tokens.iter().position(|it| programs.contains(&base(it)))?;
    let rest = &tokens[at + 1..];
    let end = rest.iter().position(|it| matches!(it.as_str(), "&&" | "||" | ";" | "|" | "&")).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The value of `--name=value` or `--name value`.
fn option(words: &[String], name: &str) -> Option<String> {
    let at = words.iter().position(|it| it == name || it.strip_prefix(name).is_some_and(|it| it.starts_with('=')))?;
    let given = words[at].split_once('=').map(|it| it.1.to_owned());
    given.or_else(|| words.get(at + 1).cloned())
}

fn tool(tokens: &[String]) -> Option<Feeds> {
    let assigned = |names: &[&str]| {
        let value = |it: &String| it.split_once('=').filter(|(name, _)| names.contains(name)).map(|it| it.1.to_owned());
        tokens.iter().find_map(value)
    };
    if let Some(words) = simple(tokens, &["wal-g", "wal-e", "wal-g-pg"])
        && words.iter().any(|it| it == "wal-push" || it == "wal-receive")
    {
        let names = ["WALG_FILE_PREFIX", "WALG_S3_PREFIX", "WALG_GS_PREFIX", "WALG_AZ_PREFIX", "WALE_S3_PREFIX"];
        return Some(Feeds::WalG(assigned(&names)));
    }
    if let Some(words) = simple(tokens, &["pgbackrest"])
        && words.iter().any(|it| it == "archive-push")
    {
        return Some(Feeds::PgBackRest(option(words, "--stanza").or_else(|| assigned(&["PGBACKREST_STANZA"]))));
    }
    let plain = |words: &[String]| -> Vec<String> {
        let values = ["--profile", "--endpoint-url", "--cloud-provider", "-P", "-e", "-U", "--user", "-c", "--config"];
        let mut skip = false;
        let is_plain = |it: &&String| {
            let is = !skip && !it.starts_with('-') && !it.contains('%');
            skip = values.contains(&it.as_str());
            is
        };
        words.iter().filter(is_plain).cloned().collect()
    };
    if let Some(words) = simple(tokens, &["barman-cloud-wal-archive"]) {
        let mut words = plain(words).into_iter();
        return Some(Feeds::BarmanCloud(words.next(), words.next()));
    }
    if let Some(words) = simple(tokens, &["barman-wal-archive"]) {
        return Some(Feeds::Barman(plain(words).into_iter().nth(1)));
    }
    // `rsync -a %p barman@backup:/var/lib/barman/main/incoming/%f`
    let incoming = tokens.iter().find_map(|it| it.strip_suffix("/incoming/%f"))?;
    let home = incoming.rsplit_once('/').filter(|_| tokens.iter().any(|it| base(it) == "rsync"))?;
    Some(Feeds::Barman(Some(home.1.to_owned())))
}

/// Where the path that ends in `%f` leads. Of several, that which is written to: the last.
fn files(tokens: &[String]) -> Option<Feeds> {
    let target = tokens.iter().rfind(|it| it.contains("%f"))?;
    let (directory, _) = target.split_once("%f")?;
    // `of=/srv/wal/%f`
    let directory = directory.split_once('=').map_or(directory, |it| it.1);
    let directory = directory.strip_suffix('/').filter(|it| !it.is_empty())?;
    (directory.starts_with('/') || directory.contains(':')).then(|| Feeds::Files(directory.to_owned()))
}

/// Whether the last thing that the shell runs cannot fail.
fn succeeds(tokens: &[String]) -> bool {
    let last =
        tokens.rsplit(|it| matches!(it.as_str(), "||" | ";" | "&&")).find(|it| !it.is_empty()).unwrap_or_default();
    let words: Vec<&str> = last.iter().map(|it| base(it)).collect();
    let fine = matches!(words.as_slice(), ["true" | ":"] | ["exit", "0"] | ["echo", ..]);
    // `cp … && true` fails where cp fails.
    let before = tokens.len() - last.len();
    let guarded = before > 0 && tokens.get(before - 1).is_some_and(|it| it == "&&");
    fine && !guarded
}

fn overwrites(tokens: &[String]) -> bool {
    let has = |it: &str| tokens.iter().any(|token| token == it);
    let looks = has("!") && (has("-f") || has("-e")) || tokens.iter().any(|it| it == "-f" || it == "-e") && has("||");
    let refuses = ["-n", "-i", "--no-clobber", "--ignore-existing", "noclobber", "-C"].iter().any(|it| has(it));
    let copies = tokens.iter().any(|it| matches!(base(it), "cp" | "mv" | "rsync" | "dd" | "install" | "scp"));
    (copies || has(">")) && !looks && !refuses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(at: &str) -> Feeds {
        Feeds::Files(at.to_owned())
    }

    #[test]
    fn commands_as_people_write_them_are_understood() {
        use Flaw::{AlwaysSucceeds, Overwrites};
        let cases: &[(&str, Feeds, &[Flaw])] = &[
            ("cp %p /srv/wal/%f", files("/srv/wal"), &[Overwrites]),
            ("cp \"%p\" \"/srv/my wal/%f\"", files("/srv/my wal"), &[Overwrites]),
            ("test ! -f /srv/wal/%f && cp %p /srv/wal/%f", files("/srv/wal"), &[]),
            ("[ ! -f /srv/wal/%f ] && cp %p /srv/wal/%f", files("/srv/wal"), &[]),
            ("cp -i %p /srv/wal/%f </dev/null", files("/srv/wal"), &[]),
            ("cp %p /srv/wal/%f || true", files("/srv/wal"), &[AlwaysSucceeds, Overwrites]),
            ("cp %p /srv/wal/%f; exit 0", files("/srv/wal"), &[AlwaysSucceeds, Overwrites]),
            ("test ! -f /srv/wal/%f && cp %p /srv/wal/%f && true", files("/srv/wal"), &[]),
            ("gzip < %p > /srv/wal/%f.gz", files("/srv/wal"), &[Overwrites]),
            ("zstd -q %p -o /srv/wal/%f.zst", files("/srv/wal"), &[]),
            ("dd if=%p of=/srv/wal/%f", files("/srv/wal"), &[Overwrites]),
            ("bash -c 'test ! -f /srv/wal/%f && cp %p /srv/wal/%f'", files("/srv/wal"), &[]),
            ("rsync -a %p backup:/srv/wal/%f", files("backup:/srv/wal"), &[Overwrites]),
            ("aws s3 cp %p s3://bkp/wal/%f", files("s3://bkp/wal"), &[Overwrites]),
            ("true", Feeds::Nothing, &[AlwaysSucceeds]),
            ("/bin/true", Feeds::Nothing, &[AlwaysSucceeds]),
            ("exit 0", Feeds::Nothing, &[AlwaysSucceeds]),
            ("/usr/local/bin/archive.sh %p %f", Feeds::Other("/usr/local/bin/archive.sh".to_owned()), &[]),
            ("wal-g wal-push %p", Feeds::WalG(None), &[]),
            ("envdir /etc/wal-g.d/env /usr/bin/wal-g wal-push \"%p\"", Feeds::WalG(None), &[]),
            ("WALG_FILE_PREFIX=/b/walg wal-g wal-push %p", Feeds::WalG(Some("/b/walg".to_owned())), &[]),
            ("pgbackrest --stanza=main archive-push %p", Feeds::PgBackRest(Some("main".to_owned())), &[]),
            (
                "/usr/bin/pgbackrest --stanza main archive-push \"%p\" || true",
                Feeds::PgBackRest(Some("main".to_owned())),
                &[AlwaysSucceeds],
            ),
            ("barman-wal-archive backup main %p", Feeds::Barman(Some("main".to_owned())), &[]),
            ("barman-wal-archive -U barman backup main %p", Feeds::Barman(Some("main".to_owned())), &[]),
            ("rsync -a %p barman@backup:/var/lib/barman/main/incoming/%f", Feeds::Barman(Some("main".to_owned())), &[]),
            (
                "barman-cloud-wal-archive --gzip --endpoint-url https://x s3://bkp/pg main %p",
                Feeds::BarmanCloud(Some("s3://bkp/pg".to_owned()), Some("main".to_owned())),
                &[],
            ),
        ];
        for (text, feeds, flaws) in cases {
            assert_eq!(command(text), Archiving { feeds: feeds.clone(), flaws: flaws.to_vec() }, "{text}");
        }
    }

    #[test]
    fn urls_say_where_the_segments_lie() {
        let url = |text: &str| command(text).feeds.url();
        let at = |text: &str| Some(text.to_owned());
        assert_eq!(url("aws s3 cp %p s3://bkp/wal/%f"), at("s3://bkp/wal"));
        assert_eq!(url("gsutil cp %p gs://bkp/wal/%f"), at("gs://bkp/wal"));
        assert_eq!(url("barman-cloud-wal-archive s3://bkp/pg/ main %p"), at("s3://bkp/pg/main/wals"));
        assert_eq!(url("WALG_S3_PREFIX=s3://bkp/walg wal-g wal-push %p"), at("s3://bkp/walg/wal_005"));
        assert_eq!(url("WALG_AZ_PREFIX=azure://c/p wal-g wal-push %p"), at("az://c/p/wal_005"));
        for unknown in ["cp %p /srv/wal/%f", "wal-g wal-push %p", "curl -T %p https://x/%f", "aws s3 cp %p s3://$B/%f"]
        {
            assert_eq!(url(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn settings_tell_whether_anything_is_archived() {
        let of = |settings: &[(&str, &str)]| {
            let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            archiving(&settings).map(|it| it.feeds)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("archive_mode", "off"), ("archive_command", "cp %p /w/%f")]), Some(Feeds::Nothing));
        assert_eq!(of(&[("archive_mode", "on"), ("archive_command", "cp %p /w/%f")]), Some(files("/w")));
        assert_eq!(of(&[("archive_mode", "on")]), Some(Feeds::Nothing));
        assert_eq!(
            of(&[("archive_mode", "always"), ("archive_library", "other")]),
            Some(Feeds::Library("other".into()))
        );
        let basic = [("archive_library", "basic_archive"), ("basic_archive.archive_directory", "/srv/wal")];
        assert_eq!(of(&basic), Some(files("/srv/wal")));
    }
}
