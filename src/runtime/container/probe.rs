//! What an image has: a script that looks around in it, and what its lines mean. Pure but for being run by `image`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::format::major_of;
use crate::recipe::RoomUser;

/// Bumped when facts are gathered otherwise, so that older ones are gathered anew.
pub(super) const SCHEMA: u32 = 1;

/// Run by the image's own `/bin/sh`, without a network, as a user without any capability. Tab-separated lines; the last one
/// proves that it came to its end. Source installations have programs in PATH, Debian's in /usr/lib/postgresql/NN/bin.
pub(super) const SCRIPT: &str = r#"
t=$(printf '\t')
LC_ALL=C; export LC_ALL
while IFS=: read -r name _ uid gid _; do echo "user$t$name$t$uid$t$gid"; done </etc/passwd
owner=$(stat -c %u /var/lib/postgresql 2>/dev/null) && echo "owner$t$owner"
seen=" "
for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin $(echo "$PATH" | tr : ' ') /opt/bitnami/postgresql/bin; do
  [ -x "$bin/postgres" ] || continue
  bin=$(cd "$bin" && pwd -P)
  case "$seen" in *" $bin "*) continue;; esac
  seen="$seen$bin "
  echo "install$t$bin$t$("$bin/postgres" --version)"
  for tool in initdb pg_ctl pg_restore psql pg_amcheck; do [ -x "$bin/$tool" ] && echo "program$t$tool"; done
  share=$("$bin/pg_config" --sharedir 2>/dev/null)
  major=$(basename "$(dirname "$bin")")
  for dir in "$share" "/usr/share/postgresql/$major" "$bin/../share/postgresql" "$bin/../share"; do
    [ -n "$dir" ] && [ -d "$dir/extension" ] || continue
    cd "$dir/extension" || continue
    for file in *.control; do echo "control$t$file$t$(grep '^ *default_version' "$file")"; done
    for file in *--*.sql; do echo "script$t$file"; done
    break
  done
done
for locale in $(locale -a 2>/dev/null); do echo "locale$t$locale"; done
for tool in zstd lz4 xz gzip; do command -v $tool >/dev/null && echo "tool$t$tool$t$(command -v $tool)"; done
[ -r /etc/os-release ] && . /etc/os-release && echo "tool${t}os$t$PRETTY_NAME"
libc=$(ldd --version 2>&1 | head -n 1) && echo "tool${t}libc$t$libc"
echo end
"#;

/// What an image has, by looking; kept under the image's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Probed {
    pub(super) schema: u32,
    /// The unprivileged user that its server would run as.
    pub(super) user: Option<RoomUser>,
    pub(super) installs: Vec<Install>,
    pub(super) locales: Vec<String>,
    /// Paths or versions by name; `os` and `libc` among them.
    pub(super) tools: BTreeMap<String, String>,
}

/// The programs of one version of PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Install {
    pub(super) bindir: String,
    /// `17.11 (Debian 17.11-1)`
    pub(super) version: String,
    /// Which of the programs that drills need are there.
    pub(super) programs: BTreeSet<String>,
    /// By name; the default version first, then the others that can be created.
    pub(super) extensions: BTreeMap<String, Vec<String>>,
}

impl Install {
    pub(super) fn major(&self) -> Option<u32> {
        major_of(&self.version)
    }
}

impl Probed {
    pub(super) fn install(&self, major: u32) -> Option<&Install> {
        self.installs.iter().find(|it| it.major() == Some(major))
    }

    /// `15.18, 17.11`
    pub(super) fn versions(&self) -> String {
        let number = |it: &Install| it.version.split(' ').next().unwrap_or_default().to_owned();
        self.installs.iter().map(number).collect::<Vec<_>>().join(", ")
    }
}

/// Reads the script's lines. None if it did not come to its end.
pub(super) fn parse(output: &str) -> Option<Probed> {
    let mut users = Vec::new();
    let mut owner = None;
    let mut scripts = Vec::new();
    let mut probed = Probed { schema: SCHEMA, ..Probed::default() };
    let mut ended = false;
    for line in output.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["user", name, uid, gid] => users.extend(room_user(name, uid, gid)),
            ["owner", uid] => owner = uid.parse::<u32>().ok(),
            ["install", bindir, version] => {
                finish(&mut probed, &mut scripts);
                let version = version.strip_prefix("postgres (PostgreSQL) ").unwrap_or(version);
                let install =
                    Install { bindir: (*bindir).to_owned(), version: version.to_owned(), ..Install::default() };
                probed.installs.push(install);
            }
            ["program", name] => {
                probed.installs.last_mut()?.programs.insert((*name).to_owned());
            }
            ["control", file, setting] => {
                let extensions = &mut probed.installs.last_mut()?.extensions;
                // `*.control` itself, where there are none.
                if let Some(name) = file.strip_suffix(".control").filter(|it| *it != "*") {
                    extensions.insert(name.to_owned(), quoted(setting).into_iter().collect());
                }
            }
            ["script", file] => scripts.extend(file.strip_suffix(".sql").map(str::to_owned)),
            ["locale", name] => probed.locales.push((*name).to_owned()),
            ["tool", name, what] => {
                probed.tools.insert((*name).to_owned(), (*what).to_owned());
            }
            ["end"] => ended = true,
            // Warnings of the image's own programs.
            _ => {}
        }
    }
    finish(&mut probed, &mut scripts);
    probed.user = choose_user(users, owner);
    ended.then_some(probed)
}

fn room_user(name: &str, uid: &str, gid: &str) -> Option<RoomUser> {
    Some(RoomUser { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// `postgres`, else whoever owns PostgreSQL's home, else anybody who is not root: initdb needs a name for its user.
fn choose_user(users: Vec<RoomUser>, owner: Option<u32>) -> Option<RoomUser> {
    let plain: Vec<RoomUser> = users.into_iter().filter(|it| it.uid != 0).collect();
    let named = plain.iter().find(|it| it.name == "postgres");
    let owning = plain.iter().find(|it| Some(it.uid) == owner);
    let nobody = plain.iter().find(|it| it.name == "nobody");
    named.or(owning).or(nobody).or(plain.first()).cloned()
}

/// Gives the last install what its extension scripts say: `name--1.0.sql` makes 1.0, `name--1.0--1.1.sql` leads to 1.1.
fn finish(probed: &mut Probed, scripts: &mut Vec<String>) {
    let Some(install) = probed.installs.last_mut() else { return };
    let mut made: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut updates: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    for script in &*scripts {
        match script.split("--").collect::<Vec<_>>().as_slice() {
            [name, version] => drop(made.entry(*name).or_default().insert(*version)),
            [name, from, to] => drop(updates.insert((*name, *from, *to))),
            _ => {}
        }
    }
    for (name, versions) in &mut made {
        loop {
            let next =
                updates.iter().find(|(of, from, to)| of == name && versions.contains(from) && !versions.contains(to));
            let Some((_, _, to)) = next else { break };
            versions.insert(*to);
        }
    }
    for (name, versions) in &mut install.extensions {
        let default = versions.first().cloned();
        let more = made.remove(name.as_str()).unwrap_or_default();
        versions.extend(more.into_iter().filter(|it| Some(*it) != default.as_deref()).map(str::to_owned));
    }
    scripts.clear();
}

/// The text between the first pair of single quotes.
fn quoted(setting: &str) -> Option<String> {
    let (_, rest) = setting.split_once('\'')?;
    let (value, _) = rest.split_once('\'')?;
    Some(value.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TWO_MAJORS: &str = "user\troot\t0\t0\nuser\tnobody\t65534\t65534\nuser\tpostgres\t999\t998\nowner\t999\n\
        install\t/usr/lib/postgresql/15/bin\tpostgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\nprogram\tinitdb\n\
        control\tplpgsql.control\tdefault_version = '1.0'\nscript\tplpgsql--1.0.sql\n\
        install\t/usr/lib/postgresql/17/bin\tpostgres (PostgreSQL) 17.11 (Debian 17.11-1)\nprogram\tinitdb\nprogram\tpsql\n\
        control\tamcheck.control\tdefault_version = '1.4'\ncontrol\tplpgsql.control\tdefault_version = '1.0'\n\
        script\tamcheck--1.0.sql\nscript\tamcheck--1.0--1.1.sql\nscript\tamcheck--1.1--1.2.sql\nscript\tamcheck--1.3--1.4.sql\n\
        ldd: a warning\nlocale\tC.utf8\ntool\tzstd\t/usr/bin/zstd\nend\n";

    #[test]
    fn the_facts_of_an_image_with_two_majors() {
        let probed = parse(TWO_MAJORS).unwrap();
        assert_eq!(probed.user, room_user("postgres", "999", "998"));
        assert_eq!(probed.versions(), "15.18, 17.11");
        assert_eq!(probed.locales, ["C.utf8"]);
        assert_eq!(probed.tools["zstd"], "/usr/bin/zstd");
        assert!(probed.install(16).is_none());
        let install = probed.install(17).unwrap();
        assert_eq!(install.bindir, "/usr/lib/postgresql/17/bin");
        assert_eq!(install.version, "17.11 (Debian 17.11-1)");
        assert_eq!(install.programs.iter().map(String::as_str).collect::<Vec<_>>(), ["initdb", "psql"]);
    }

    #[test]
    fn an_extensions_versions_are_those_that_its_scripts_lead_to_and_the_default_comes_first() {
        let probed = parse(TWO_MAJORS).unwrap();
        assert_eq!(probed.install(17).unwrap().extensions["amcheck"], ["1.4", "1.0", "1.1", "1.2"]);
        assert_eq!(probed.install(15).unwrap().extensions["plpgsql"], ["1.0"]);
        assert!(!probed.install(15).unwrap().extensions.contains_key("amcheck"));
    }

    #[test]
    fn output_that_was_cut_is_no_fact() {
        for cut in [0, 10, TWO_MAJORS.len() - 5] {
            assert_eq!(parse(&TWO_MAJORS[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_server_never_runs_as_root() {
        let user = |name: &str, uid| RoomUser { name: name.to_owned(), uid, gid: uid };
        let (root, nobody, daemon) = (user("root", 0), user("nobody", 65534), user("daemon", 1));
        let cases = [
            (vec![root.clone(), nobody.clone(), user("postgres", 26)], None, Some("postgres")),
            (vec![root.clone(), user("pg", 70), nobody.clone()], Some(70), Some("pg")),
            (vec![root.clone(), daemon.clone(), nobody], Some(0), Some("nobody")),
            (vec![root.clone(), daemon], None, Some("daemon")),
            (vec![user("postgres", 0)], None, None),
            (vec![root], Some(0), None),
        ];
        for (users, owner, expected) in cases {
            let chosen = choose_user(users.clone(), owner);
            assert_eq!(chosen.as_ref().map(|it| it.name.as_str()), expected, "{users:?}");
        }
    }

    #[test]
    fn noise_makes_no_facts_and_no_panic() {
        for noise in
            ["program\tinitdb\nend\n", "control\t*.control\t\nend\n", "install\t\t\n\t\t\t\nend", "user\ta\tb\tc\nend"]
        {
            drop(parse(noise));
        }
        let none = "install\t/bin\tpostgres (PostgreSQL) 17.1\ncontrol\t*.control\t\nscript\t*--*.sql\nend\n";
        assert!(parse(none).unwrap().installs[0].extensions.is_empty());
    }
}
