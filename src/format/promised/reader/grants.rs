//! GRANT, REVOKE and ALTER DEFAULT PRIVILEGES, followed to what they leave in force.

use super::super::super::sql::{self, Token, find, words};
use super::super::{Grant, GrantOn, LIMIT};
use super::{Place, Reader, after, inside, list};

pub(super) type Key = (GrantOn, Option<String>, String, String, String, String);

/// Whose default privileges, and for what.
type Defaults<'a> = (&'a str, &'a str);

/// What a statement grants privileges on.
struct Target {
    on: GrantOn,
    schema: String,
    name: String,
    of: String,
}

impl Reader {
    /// `defaults`: the statement is the end of an ALTER DEFAULT PRIVILEGES for this role, in this schema.
    pub(super) fn grant(&mut self, tokens: &[Token], place: Place<'_>, defaults: Option<Defaults<'_>>) {
        let revokes = tokens[0].is("revoke");
        let body = &tokens[1..];
        let option_only = words(body, &["grant", "option", "for"]);
        let body = after(body, &["grant", "option", "for"]);
        let Some(on) = find(body, &["on"]) else { return };
        let Some(to) = find(body, &[if revokes { "from" } else { "to" }]).filter(|it| *it > on) else { return };
        let end = ["cascade", "restrict", "with", "granted"].iter().filter_map(|it| find(&body[to..], &[*it])).min();
        let roles: Vec<String> = list(&body[to + 1..end.map_or(body.len(), |it| to + it)]).filter_map(role).collect();
        let with_option = find(&body[to..], &["with", "grant", "option"]).is_some();
        let targets = targets(&body[on + 1..to], place, defaults);
        for privilege in list(&body[..on]) {
            let columns = privilege.iter().position(|it| it.is_mark('('));
            let name = &privilege[..columns.unwrap_or(privilege.len())];
            let name = name.iter().filter_map(Token::text).collect::<Vec<_>>().join(" ").to_uppercase();
            let name = if name == "ALL PRIVILEGES" { "ALL" } else { &name };
            let columns: Vec<&str> = columns
                .map(|at| list(inside(&privilege[at..])).filter_map(|it| it.first()?.text()).collect())
                .unwrap_or_default();
            for target in &targets {
                let parts = columns.iter().map(|it| (GrantOn::Column, *it));
                let whole = columns.is_empty().then_some((target.on, target.of.as_str()));
                for (on, of) in parts.chain(whole) {
                    for role in &roles {
                        let names = (target.schema.as_str(), target.name.as_str(), of, role.as_str());
                        self.change(place, on, names, name, (revokes, option_only || with_option));
                    }
                }
            }
        }
    }

    fn change(
        &mut self,
        place: Place<'_>,
        on: GrantOn,
        (schema, name, of, role): (&str, &str, &str, &str),
        privilege: &str,
        (revokes, option): (bool, bool),
    ) {
        self.understood = true;
        let database = place.database.map(str::to_owned);
        let key = (on, database, schema.to_owned(), name.to_owned(), of.to_owned(), role.to_owned());
        let grants = &mut self.promised.grants;
        if !self.grants.contains_key(&key) && grants.len() >= LIMIT {
            self.promised.unlisted += 1;
            return;
        }
        let at = *self.grants.entry(key).or_insert_with_key(|(on, database, schema, name, of, role)| {
            grants.push(Grant {
                on: *on,
                database: database.clone(),
                schema: schema.clone(),
                name: name.clone(),
                of: of.clone(),
                role: role.clone(),
                granted: [].into(),
                grantable: [].into(),
                revoked: [].into(),
            });
            grants.len() - 1
        });
        grants[at].apply(privilege, revokes, option);
    }

    pub(super) fn default_privileges(&mut self, tokens: &[Token], place: Place<'_>) {
        let Some(at) = tokens.iter().position(|it| it.is("grant") || it.is("revoke")) else { return };
        let (head, statement) = tokens.split_at(at);
        let owner = find(head, &["for", "role"]).or_else(|| find(head, &["for", "user"]));
        let Some(owner) = owner.and_then(|at| head.get(at + 2)).and_then(Token::text) else { return };
        let schema = find(head, &["in", "schema"]).and_then(|at| head.get(at + 2)).and_then(Token::text);
        self.grant(statement, place, Some((owner, schema.unwrap_or_default())));
    }
}

impl Grant {
    fn apply(&mut self, privilege: &str, revokes: bool, option: bool) {
        let all = privilege == "ALL";
        if revokes && option {
            if all {
                self.grantable.clear();
            }
            self.grantable.remove(privilege);
        } else if revokes {
            if all {
                self.granted.clear();
                self.grantable.clear();
                self.revoked.clear();
            }
            self.granted.remove(privilege);
            self.grantable.remove(privilege);
            self.revoked.insert(privilege.to_owned());
        } else {
            if all {
                self.revoked.clear();
            } else {
                self.revoked.remove(privilege);
            }
            self.granted.insert(privilege.to_owned());
            if option {
                self.grantable.insert(privilege.to_owned());
            }
        }
    }
}

/// What stands after ON.
const KINDS: [(&[&str], GrantOn); 12] = [
    (&["table"], GrantOn::Table),
    (&["sequence"], GrantOn::Sequence),
    (&["schema"], GrantOn::Schema),
    (&["function"], GrantOn::Function),
    (&["procedure"], GrantOn::Function),
    (&["routine"], GrantOn::Function),
    (&["type"], GrantOn::Type),
    (&["domain"], GrantOn::Type),
    (&["language"], GrantOn::Language),
    (&["foreign", "data", "wrapper"], GrantOn::ForeignDataWrapper),
    (&["foreign", "server"], GrantOn::Server),
    (&["large", "object"], GrantOn::LargeObject),
];

fn targets(tokens: &[Token], place: Place<'_>, defaults: Option<Defaults<'_>>) -> Vec<Target> {
    if let Some((owner, schema)) = defaults {
        let of = tokens.first().and_then(Token::text).unwrap_or_default().to_owned();
        return vec![Target { on: GrantOn::Default, schema: schema.to_owned(), name: owner.to_owned(), of }];
    }
    let known = KINDS.iter().find(|(it, _)| words(tokens, it));
    // Of all objects in a schema, or on what no database holds: not followed.
    if known.is_none()
        && tokens.first().is_some_and(|it| ["all", "database", "tablespace", "parameter"].iter().any(|w| it.is(w)))
    {
        return Vec::new();
    }
    let (on, rest) = known.map_or((GrantOn::Table, tokens), |(it, on)| (*on, &tokens[it.len()..]));
    list(rest).filter_map(|it| target(on, it, place)).collect()
}

fn target(on: GrantOn, tokens: &[Token], place: Place<'_>) -> Option<Target> {
    let (schema, name, used) = sql::relation(tokens)?;
    let schema = match on {
        GrantOn::Table | GrantOn::Sequence | GrantOn::Column | GrantOn::Function | GrantOn::Type => {
            schema.unwrap_or_else(|| place.schema.to_owned())
        }
        GrantOn::Schema
        | GrantOn::Language
        | GrantOn::ForeignDataWrapper
        | GrantOn::Server
        | GrantOn::LargeObject
        | GrantOn::Default => String::new(),
    };
    let of = if on == GrantOn::Function { rendered(&tokens[used..]) } else { String::new() };
    Some(Target { on, schema, name, of })
}

/// Tokens as SQL again; an aggregate's `(*)` is `()`.
fn rendered(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        let part = match token {
            Token::Word(word) => word.clone(),
            Token::Name(name) => format!("\"{}\"", name.replace('"', "\"\"")),
            Token::Text(_) => String::new(),
            Token::Mark(mark) => mark.to_string(),
        };
        let between_words =
            !matches!(token, Token::Mark(_)) && text.ends_with(|it: char| it.is_alphanumeric() || it == '"');
        if between_words {
            text.push(' ');
        }
        text.push_str(&part);
    }
    if text == "(*)" { "()".to_owned() } else { text }
}

/// Empty for PUBLIC; None for a word that stands for a role.
fn role(tokens: &[Token]) -> Option<String> {
    match after(tokens, &["group"]) {
        [Token::Word(name), ..] if name == "public" => Some(String::new()),
        [first, ..] => super::role_name(first),
        [] => None,
    }
}
