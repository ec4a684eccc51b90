//! The commands that do by hand what a plan says, for whoever must recover without pgdrill.
//!
//! A shell script made of the plan alone. It leaves the server running: a person at 3 a.m. wants to look at what came back,
//! and is told how to enter it and how to remove it.

use std::fmt::Write as _;

use crate::format::Compression;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::recipe::{Action, Arg, At, Command, RuntimeKind, Step};
use crate::source::server::{SUPERUSER, conninfo};

/// A script for `/bin/sh`, or a sentence that says why there is none.
pub fn commands(name: &str, plan: &Plan) -> Result<String, String> {
    let physical = |it: &Step| matches!(it.action, Action::Unpack { .. } | Action::Arm { .. } | Action::Recover { .. });
    if plan.recipe.steps.iter().any(physical) {
        return Err("the commands of a base backup are not printed by this version: see the recovery chapter of \
                    PostgreSQL's manual"
            .to_owned());
    }
    let mut script = Script { plan, text: String::new() };
    script.begin(name);
    let mut phase = None;
    for step in plan.recipe.steps.iter().filter(|it| it.phase < Phase::Teardown) {
        if phase != Some(step.phase) {
            phase = Some(step.phase);
            let _ = writeln!(script.text, "\n# {}", step.phase);
        }
        script.step(step);
    }
    script.end();
    Ok(script.text)
}

struct Script<'a> {
    plan: &'a Plan,
    text: String,
}

impl Script<'_> {
    fn in_container(&self) -> bool {
        match self.plan.server.runtime {
            RuntimeKind::Container => true,
            RuntimeKind::Local | RuntimeKind::Fake => false,
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn begin(&mut self, name: &str) {
        let (uid, gid) = (self.plan.server.user.uid, self.plan.server.user.gid);
        let name: String = name.chars().filter(|it| !it.is_control()).collect();
        self.line("#!/bin/sh");
        let _ = writeln!(self.text, "# {name}: the same restore by hand.");
        let _ = writeln!(self.text, "# Backup: {}", self.plan.backup.file.path.replace('\n', " "));
        self.line("set -eu");
        self.line("umask 077");
        if !self.in_container() {
            self.line("work=${WORK:-$(mktemp -d)}");
            self.line("echo \"everything lies in $work\"");
            self.line("mkdir -p \"$work/data\" \"$work/run\" \"$work/spool\"");
            self.line("as=");
            let switch = format!("setpriv --reuid={uid} --regid={gid} --clear-groups");
            let _ = writeln!(
                self.text,
                "if [ \"$(id -u)\" = 0 ]; then chown -R {uid}:{gid} \"$work\"; as=\"{switch}\"; fi"
            );
            self.line("within() { (cd \"$work\" && $as env LC_ALL=C.UTF-8 TZ=UTC \"$@\"); }");
            return;
        }
        let image = self.plan.server.image.as_ref().map(|it| it.reference.clone()).unwrap_or_default();
        self.line("name=${NAME:-pgdrill-by-hand}");
        let shm = self.plan.sandbox.limits.shm_bytes;
        let mut run = format!("docker run --detach --name \"$name\" --network none --shm-size {shm}");
        for (at, input) in self.plan.sandbox.inputs.iter().enumerate() {
            let _ = write!(run, " --volume {}:/pgdrill/input/{at}:ro", quoted(input));
        }
        let _ = writeln!(self.text, "{run} --user 0 --entrypoint sleep {} infinity >/dev/null", quoted(&image));
        let make = format!("mkdir -p /pgdrill/data /pgdrill/run /pgdrill/spool && chown -R {uid}:{gid} /pgdrill");
        let _ = writeln!(self.text, "docker exec --user 0 \"$name\" sh -c {}", quoted(&make));
        let _ = writeln!(
            self.text,
            "within() {{ docker exec --interactive --user {uid}:{gid} --workdir /pgdrill --env LC_ALL=C.UTF-8 --env TZ=UTC \
             \"$name\" \"$@\"; }}"
        );
    }

    fn step(&mut self, step: &Step) {
        let _ = writeln!(self.text, "# {}", step.what);
        match &step.action {
            Action::Run(command) => {
                let line = format!("within {} </dev/null{}", self.command(command), ignoring(command));
                self.line(&line);
            }
            Action::Stream { from, through, into } => {
                let line =
                    format!("{} {} | within {}{}", reader(*through), quoted(from), self.command(into), ignoring(into));
                self.line(&line);
            }
            Action::Write { at, path, text } => {
                let to = self.path(*at, path);
                let _ = writeln!(self.text, "within sh -c 'cat >\"$0\"' {to} <<'END-OF-FILE'");
                self.text.push_str(text);
                if !text.ends_with('\n') {
                    self.text.push('\n');
                }
                self.line("END-OF-FILE");
            }
            Action::Copy { from, name } => {
                let (uid, gid) = (self.plan.server.user.uid, self.plan.server.user.gid);
                let line = if self.in_container() {
                    format!(
                        "docker cp {} \"$name\":/pgdrill/spool/{name}\ndocker exec --user 0 \"$name\" chown -R {uid}:{gid} /pgdrill/spool",
                        quoted(from)
                    )
                } else {
                    format!(
                        "cp -R {} \"$work/spool/{name}\"; if [ \"$(id -u)\" = 0 ]; then chown -R {uid}:{gid} \"$work/spool\"; fi",
                        quoted(from)
                    )
                };
                self.line(&line);
            }
            Action::Sql { database, statements } => {
                let psql = self.psql(database);
                for statement in statements {
                    let line = format!("within {psql} -c {} </dev/null", quoted(statement));
                    self.line(&line);
                }
            }
            Action::Scan { from } => {
                let line = format!("find {} -type f -exec sha256sum {{}} +", quoted(from));
                self.line(&line);
            }
            // Refused before.
            Action::Unpack { .. }
            | Action::Arm { .. }
            | Action::ServeWal { .. }
            | Action::Walk { .. }
            | Action::Recover { .. }
            | Action::Promote
            | Action::LookAgain
            | Action::LookAround { .. }
            | Action::Compare { .. }
            | Action::Verify { .. }
            | Action::ReadWal { .. } => {}
        }
    }

    fn end(&mut self) {
        let psql = self.psql(&self.plan.database);
        self.line("\n# what came back is here until you remove it");
        if self.in_container() {
            let psql = quoted(&format!("docker exec -it --workdir /pgdrill $NAME {psql}").replace('\'', ""));
            let _ = writeln!(self.text, "echo restored. Enter it with: {psql}, where NAME is \"$name\"");
            self.line("echo \"Remove it with: docker rm --force --volumes $name\"");
        } else {
            let pg_ctl = format!("{}/pg_ctl", self.plan.server.bindir);
            let _ = writeln!(self.text, "echo \"restored. Its socket is in $work/run, its superuser is {SUPERUSER}\"");
            let _ = writeln!(
                self.text,
                "echo \"Remove it with: cd $work && $as {pg_ctl} -D data -m immediate stop; rm -r $work\""
            );
        }
    }

    fn psql(&self, database: &str) -> String {
        let bin = quoted(&format!("{}/psql", self.plan.server.bindir));
        let (run, name) = (self.path(At::Run, ""), quoted(&conninfo(database)));
        format!("{bin} -X -q -v ON_ERROR_STOP=1 -h {run} -U {SUPERUSER} -d {name}")
    }

    fn path(&self, at: At, path: &str) -> String {
        let root = if self.in_container() { "/pgdrill".to_owned() } else { "\"$work\"".to_owned() };
        let slash = if path.is_empty() { String::new() } else { format!("/{path}") };
        match at {
            At::Data => format!("{root}/data{slash}"),
            At::Run => format!("{root}/run{slash}"),
            At::Spool => format!("{root}/spool{slash}"),
            At::Input(number) if self.in_container() => format!("/pgdrill/input/{number}{slash}"),
            At::Input(number) => {
                let input = self.plan.sandbox.inputs.get(number).map_or("", String::as_str);
                quoted(&format!("{input}{slash}"))
            }
            At::Bin => quoted(&format!("{}{slash}", self.plan.server.bindir)),
        }
    }

    fn command(&self, command: &Command) -> String {
        let program = quoted(&format!("{}/{}", self.plan.server.bindir, command.program));
        let arg = |it: &Arg| match it {
            Arg::Text(text) => quoted(text),
            Arg::Path { at, path } => self.path(*at, path),
        };
        std::iter::once(program).chain(command.args.iter().map(arg)).collect::<Vec<_>>().join(" ")
    }
}

/// `pg_restore` goes on after errors and ends with 1: that is for the reader to judge, and not for `set -e`.
fn ignoring(command: &Command) -> &'static str {
    if command.program == "pg_restore" { " || echo 'pg_restore ignored errors: read them above'" } else { "" }
}

fn reader(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "cat",
        Compression::Gzip => "gzip -dc",
        Compression::Zstd => "zstd -dcq --long=31",
        Compression::Lz4 => "lz4 -dcq",
        Compression::Xz => "xz -dcq",
        Compression::Lzma => "xz --format=lzma -dcq",
        Compression::Brotli => "brotli -dc",
        Compression::Snappy => "snzip -dc",
        Compression::Bzip2 => "bzip2 -dcq",
    }
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "/._-=:+,@%".contains(it);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_shell_are_one_word_whatever_they_hold() {
        assert_eq!(quoted("/b/shop.dump"), "/b/shop.dump");
        assert_eq!(quoted("it's; rm -rf $HOME"), "'it'\\''s; rm -rf $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
