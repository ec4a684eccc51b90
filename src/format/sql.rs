//! Just enough of SQL's grammar to learn what a statement refers to. Never to judge whether it is right.

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Not quoted, lowercase: a keyword, a name or a number.
    Word(String),
    /// A quoted name.
    Name(String),
    /// A string.
    Text(String),
    Mark(char),
}

/// What a statement says that a drill must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Role(String),
    RoleMade(String),
    Tablespace(String),
    TablespaceMade {
        name: String,
        owner: Option<String>,
    },
    Schema(String),
    Extension(String),
    Database(String),
    Table {
        schema: Option<String>,
        name: String,
        partitioned: bool,
    },
    Setting {
        name: String,
        value: String,
    },
    LargeObject,
    /// A role that is no superuser, or no longer.
    NoSuperuser(String),
    /// Who granted a membership.
    Grantor(String),
    /// What follows is done by another role.
    SessionRole,
}

impl Token {
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(it) if it == word)
    }

    pub(super) fn is_mark(&self, mark: char) -> bool {
        *self == Token::Mark(mark)
    }

    /// As a name or value.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Token::Word(text) | Token::Name(text) | Token::Text(text) => Some(text),
            Token::Mark(_) => None,
        }
    }
}

/// Whether a cluster must have this role for the dump: predefined ones are always there.
pub(super) fn is_own_role(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("pg_")
}

pub(super) fn is_own_tablespace(name: &str) -> bool {
    !matches!(name, "" | "pg_default" | "pg_global" | "default")
}

/// The tokens of all statements in a text, without their semicolons.
pub(super) fn statements(sql: &str) -> Vec<Vec<Token>> {
    let tokens = tokens(sql);
    let split = tokens.split(|it| it.is_mark(';')).filter(|it| !it.is_empty());
    split.map(<[Token]>::to_vec).collect()
}

/// The value that a text of `SET name = 'value';` gives to `name`.
pub(super) fn setting(sql: &str, name: &str) -> Option<String> {
    statements(sql).iter().flat_map(|it| said(it)).find_map(|it| {
        let Said::Setting { name: set, value } = it else { return None };
        (set == name).then_some(value)
    })
}

pub(super) fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (token, used) = match first {
            _ if first.is_whitespace() => (None, first.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |it| it + 2)),
            '\'' => quoted(rest, '\'', false, Token::Text),
            '"' => quoted(rest, '"', false, Token::Name),
            'e' | 'E' if rest[1..].starts_with('\'') => {
                let (token, used) = quoted(&rest[1..], '\'', true, Token::Text);
                (token, used + 1)
            }
            '$' => dollar(rest),
            _ if is_word(first) => {
                let used = rest.find(|it: char| !is_word(it) && it != '$').unwrap_or(rest.len());
                (Some(Token::Word(rest[..used].to_lowercase())), used)
            }
            _ => (Some(Token::Mark(first)), first.len_utf8()),
        };
        tokens.extend(token);
        rest = &rest[used..];
    }
    tokens
}

fn is_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_' || !it.is_ascii()
}

/// Text in quotes, which are doubled within; an open end is taken as it is.
fn quoted(rest: &str, quote: char, escapes: bool, make: fn(String) -> Token) -> (Option<Token>, usize) {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, it)) = chars.next() {
        if it == quote {
            if chars.peek().is_none_or(|(_, next)| *next != quote) {
                return (Some(make(text)), at + 1);
            }
            chars.next();
            text.push(quote);
        } else if it == '\\' && escapes {
            text.extend(chars.next().map(|(_, next)| next));
        } else {
            text.push(it);
        }
    }
    (Some(make(text)), rest.len())
}

fn dollar(rest: &str) -> (Option<Token>, usize) {
    let tag = rest[1..].find(|it| !is_word(it)).map_or(rest.len(), |it| it + 1);
    if !rest[tag..].starts_with('$') || rest[1..].starts_with(|it: char| it.is_ascii_digit()) {
        return (Some(Token::Mark('$')), 1);
    }
    let mark = &rest[..=tag];
    let body = &rest[mark.len()..];
    let end = body.find(mark);
    (Some(Token::Text(body[..end.unwrap_or(body.len())].to_owned())), end.map_or(rest.len(), |it| it + 2 * mark.len()))
}

/// A name with its qualifiers (`a.b.c`), and how many tokens it took.
pub(super) fn name(tokens: &[Token]) -> Option<(Vec<String>, usize)> {
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        match tokens.get(at)? {
            Token::Word(part) | Token::Name(part) => parts.push(part.clone()),
            Token::Text(_) | Token::Mark(_) => return None,
        }
        at += 1;
        if !tokens.get(at).is_some_and(|it| it.is_mark('.')) {
            return Some((parts, at));
        }
        at += 1;
    }
}

/// Schema and name of `[[database.]schema.]name`.
pub(super) fn relation(tokens: &[Token]) -> Option<(Option<String>, String, usize)> {
    let (mut parts, used) = name(tokens)?;
    let name = parts.pop()?;
    Some((parts.pop(), name, used))
}

/// What one statement says.
pub(super) fn said(tokens: &[Token]) -> Vec<Said> {
    let Some(Token::Word(first)) = tokens.first() else { return Vec::new() };
    match first.as_str() {
        "create" => create(&tokens[1..]),
        "alter" => alter(&tokens[1..]),
        "grant" | "revoke" => grant(tokens),
        "set" => set(&tokens[1..]),
        "comment" if words(tokens, &["comment", "on", "role"]) => role(tokens.get(3)),
        "select" => select(&tokens[1..]),
        _ => Vec::new(),
    }
}

pub(super) fn words(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.is(word))
}

/// Position of these words in a row, outside of parentheses.
pub(super) fn find(tokens: &[Token], wanted: &[&str]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') => depth = depth.saturating_sub(1),
            Token::Word(_) if depth == 0 && words(&tokens[at..], wanted) => return Some(at),
            Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Mark(_) => {}
        }
    }
    None
}

/// The role that a token names, unless it is a word for one.
fn role(token: Option<&Token>) -> Vec<Said> {
    let special = |it: &str| {
        matches!(it, "public" | "current_user" | "session_user" | "current_role" | "user" | "none" | "default" | "all")
    };
    let name = match token {
        Some(Token::Word(name)) if !special(name) => name,
        // A text, as in SET SESSION AUTHORIZATION 'name'.
        Some(Token::Name(name) | Token::Text(name)) => name,
        Some(Token::Word(_) | Token::Mark(_)) | None => return Vec::new(),
    };
    if is_own_role(name) { vec![Said::Role(name.clone())] } else { Vec::new() }
}

/// `a, GROUP b, "c" …`: ends where there is no comma.
fn roles(mut tokens: &[Token]) -> Vec<Said> {
    let mut said = Vec::new();
    loop {
        if words(tokens, &["group"]) && tokens.len() > 1 && !tokens[1].is_mark(',') {
            tokens = &tokens[1..];
        }
        said.extend(role(tokens.first()));
        match tokens {
            [_, Token::Mark(','), rest @ ..] => tokens = rest,
            _ => return said,
        }
    }
}

fn grant(tokens: &[Token]) -> Vec<Said> {
    let to = if tokens[0].is("grant") { "to" } else { "from" };
    let Some(to) = find(tokens, &[to]) else { return Vec::new() };
    let mut said = roles(&tokens[to + 1..]);
    let by = find(tokens, &["granted", "by"]).and_then(|at| tokens.get(at + 2));
    if find(&tokens[..to], &["on"]).is_none() {
        // Membership: the roles that are granted are named, too.
        let skip = usize::from(words(&tokens[1..], &["admin", "option", "for"])) * 3;
        said.extend(roles(&tokens[1 + skip..to]));
        said.extend(by.and_then(Token::text).map(|it| Said::Grantor(it.to_owned())));
    }
    said.extend(role(by));
    said
}

fn alter(tokens: &[Token]) -> Vec<Said> {
    let mut said = Vec::new();
    if words(tokens, &["default", "privileges"]) {
        if let Some(at) = find(tokens, &["for", "role"]).or_else(|| find(tokens, &["for", "user"])) {
            said.extend(roles(&tokens[at + 2..]));
        }
        if let Some(at) = find(tokens, &["grant"]).or_else(|| find(tokens, &["revoke"])) {
            said.extend(grant(&tokens[at..]));
        }
        return said;
    }
    if (words(tokens, &["role"]) || words(tokens, &["user"])) && !words(tokens, &["user", "mapping"]) {
        said.extend(role(tokens.get(1)));
        let name = tokens.get(1).and_then(Token::text).filter(|_| find(tokens, &["nosuperuser"]).is_some());
        said.extend(name.map(|it| Said::NoSuperuser(it.to_owned())));
    }
    if let Some(at) = find(tokens, &["owner", "to"]) {
        said.extend(role(tokens.get(at + 2)));
    }
    if let Some(at) = find(tokens, &["set", "tablespace"]) {
        said.extend(tablespace(tokens.get(at + 2)));
    }
    said
}

fn tablespace(token: Option<&Token>) -> Option<Said> {
    let name = token.and_then(Token::text).filter(|it| is_own_tablespace(it))?;
    Some(Said::Tablespace(name.to_owned()))
}

/// The database and the locale of `CREATE DATABASE name … LC_COLLATE 'locale'`.
pub(super) fn database_locale(tokens: &[Token]) -> Option<(String, String)> {
    if !words(tokens, &["create", "database"]) {
        return None;
    }
    let name = tokens.get(2)?.text()?;
    let locale = ["lc_collate", "lc_ctype", "locale"].into_iter().find_map(|it| option(tokens, it)?.text())?;
    Some((name.to_owned(), locale.to_owned()))
}

/// The database that is to be a copy of `template1` with another encoding or locale: only `template0` can be copied so.
pub(super) fn wrong_template(tokens: &[Token]) -> Option<String> {
    let says = |it: &str| find(tokens, &[it]).is_some();
    let other = ["encoding", "lc_collate", "lc_ctype", "locale"].into_iter().any(says);
    let made = words(tokens, &["create", "database"]) && other && !says("template");
    tokens.get(2)?.text().filter(|_| made).map(str::to_owned)
}

/// `SELECT pg_catalog.lowrite(0, '\x…')`
pub(super) fn writes_large_object(tokens: &[Token]) -> bool {
    let (schema, function) = (["select", "pg_catalog"], tokens.get(3));
    let bytes = tokens.iter().find_map(|it| if let Token::Text(text) = it { Some(text) } else { None });
    words(tokens, &schema)
        && function.is_some_and(|it| it.is("lowrite"))
        && bytes.is_some_and(|it| it.starts_with("\\x"))
}

/// The value of an option written `KEY value` or `KEY = value`.
fn option<'a>(tokens: &'a [Token], key: &str) -> Option<&'a Token> {
    let at = find(tokens, &[key])?;
    tokens[at + 1..].iter().find(|it| !it.is_mark('='))
}

fn create(tokens: &[Token]) -> Vec<Said> {
    let skip_if_not_exists = |tokens: &[Token]| if words(tokens, &["if", "not", "exists"]) { 3 } else { 0 };
    let Some(Token::Word(kind)) = tokens.first() else { return Vec::new() };
    let rest = &tokens[1..];
    let rest = &rest[skip_if_not_exists(rest)..];
    let first = rest.first().and_then(Token::text).map(str::to_owned);
    match (kind.as_str(), first) {
        ("user", _) if words(rest, &["mapping"]) => {
            find(rest, &["for"]).map(|at| role(rest.get(at + 1))).unwrap_or_default()
        }
        ("role" | "user" | "group", Some(name)) => vec![Said::RoleMade(name)],
        ("database", Some(name)) => {
            let mut said = vec![Said::Database(name)];
            said.extend(tablespace(option(rest, "tablespace")));
            said.extend(role(option(rest, "owner")));
            said
        }
        ("tablespace", Some(name)) => {
            let owner = option(rest, "owner");
            let mut said = role(owner);
            let owner = owner.and_then(Token::text).map(str::to_owned);
            said.push(Said::TablespaceMade { name, owner });
            said
        }
        ("schema", Some(name)) => {
            let mut said = role(option(rest, "authorization"));
            said.extend((!rest[0].is("authorization")).then_some(Said::Schema(name)));
            said
        }
        ("extension", Some(name)) => vec![Said::Extension(name)],
        ("policy", Some(_)) => {
            find(rest.get(1..).unwrap_or_default(), &["to"]).map(|at| roles(&rest[at + 2..])).unwrap_or_default()
        }
        ("table" | "unlogged" | "global" | "local" | "temporary" | "temp", _) => table(tokens),
        _ => Vec::new(),
    }
}

fn table(tokens: &[Token]) -> Vec<Said> {
    let Some(at) = tokens.iter().take(3).position(|it| it.is("table")) else { return Vec::new() };
    if tokens[..at].iter().any(|it| it.is("temporary") || it.is("temp")) {
        return Vec::new();
    }
    let rest = &tokens[at + 1..];
    let rest = if words(rest, &["if", "not", "exists"]) { &rest[3..] } else { rest };
    let Some((schema, name, _)) = relation(rest) else { return Vec::new() };
    // `CREATE TABLE … AS` brings its rows along, as many as only the server knows.
    let filled = [&["as", "select"][..], &["as", "with"], &["as", "values"], &["as", "table"], &["as", "execute"]];
    let filled = filled.into_iter().any(|it| find(rest, it).is_some());
    let partitioned = filled || find(rest, &["partition", "by"]).is_some();
    let mut said = vec![Said::Table { schema, name, partitioned }];
    said.extend(tablespace(find(rest, &["tablespace"]).and_then(|at| rest.get(at + 1))));
    said
}

fn set(tokens: &[Token]) -> Vec<Said> {
    if words(tokens, &["session", "authorization"]) {
        let mut said = role(tokens.get(2));
        said.push(Said::SessionRole);
        return said;
    }
    let tokens = if words(tokens, &["session"]) || words(tokens, &["local"]) { &tokens[1..] } else { tokens };
    if words(tokens, &["role"]) {
        return role(tokens.get(1));
    }
    let Some(Token::Word(name)) = tokens.first() else { return Vec::new() };
    if !tokens.get(1).is_some_and(|it| it.is_mark('=') || it.is("to")) {
        return Vec::new();
    }
    // The first of a list: nobody asks for more.
    let value = tokens.get(2).and_then(Token::text).unwrap_or_default().to_owned();
    let mut said = Vec::new();
    if name == "default_tablespace" {
        said.extend(tablespace(tokens.get(2)));
    }
    said.push(Said::Setting { name: name.clone(), value });
    said
}

/// `SELECT pg_catalog.set_config('search_path', '', false)`, `SELECT pg_catalog.lo_create('4711')`
fn select(tokens: &[Token]) -> Vec<Said> {
    match tokens {
        [
            _,
            Token::Mark('.'),
            function,
            Token::Mark('('),
            Token::Text(name),
            Token::Mark(','),
            Token::Text(value),
            ..,
        ] if function.is("set_config") => {
            vec![Said::Setting { name: name.clone(), value: value.clone() }]
        }
        [_, Token::Mark('.'), function, Token::Mark('('), ..] if function.is("lo_create") => vec![Said::LargeObject],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(sql: &str) -> Vec<Said> {
        statements(sql).iter().flat_map(|it| said(it)).collect()
    }

    fn roles_in(sql: &str) -> Vec<String> {
        let mut roles: Vec<String> =
            all(sql).into_iter().filter_map(|it| if let Said::Role(name) = it { Some(name) } else { None }).collect();
        roles.sort();
        roles
    }

    #[test]
    fn roles_are_found_wherever_a_statement_names_them() {
        let cases: &[(&str, &[&str])] = &[
            ("GRANT SELECT,INSERT ON TABLE a.b TO c;", &["c"]),
            ("GRANT SELECT(to_x) ON TABLE a.b TO \"Mixed Case\", PUBLIC, d WITH GRANT OPTION;", &["Mixed Case", "d"]),
            ("REVOKE ALL ON FUNCTION f(a integer) FROM PUBLIC;", &[]),
            ("REVOKE ALL ON TABLE x FROM postgres;", &["postgres"]),
            ("GRANT readers TO \"müller\" WITH ADMIN OPTION GRANTED BY boss;", &["boss", "müller", "readers"]),
            ("GRANT pg_monitor TO watcher;", &["watcher"]),
            ("ALTER TABLE ONLY a.b OWNER TO \"it\"\"s\";", &["it\"s"]),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES TO r;", &["o", "r"]),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE o REVOKE ALL ON FUNCTIONS FROM PUBLIC;", &["o"]),
            ("SET SESSION AUTHORIZATION 'joe';SET SESSION AUTHORIZATION DEFAULT;", &["joe"]),
            ("SET ROLE x; SET ROLE NONE;", &["x"]),
            ("CREATE POLICY p ON a.t AS RESTRICTIVE FOR SELECT TO x, \"Y\" USING ((id > 0));", &["Y", "x"]),
            ("CREATE POLICY p ON a.t USING ((who = CURRENT_USER));", &[]),
            ("CREATE SCHEMA s AUTHORIZATION owner_of_it;", &["owner_of_it"]),
            ("CREATE USER MAPPING FOR u SERVER s OPTIONS (\"user\" 'x');", &["u"]),
            ("ALTER ROLE app IN DATABASE d SET work_mem TO '8MB';", &["app"]),
            ("COMMENT ON ROLE r IS 'GRANT x TO y';", &["r"]),
            ("-- GRANT x TO y\nSELECT 'GRANT x TO y', $$GRANT x TO y;$$;", &[]),
        ];
        for (sql, expect) in cases {
            assert_eq!(roles_in(sql), *expect, "{sql}");
        }
    }

    #[test]
    fn things_that_are_made_are_found() {
        assert_eq!(all("CREATE ROLE \"Ä\"; CREATE USER b;"), [Said::RoleMade("Ä".into()), Said::RoleMade("b".into())]);
        assert_eq!(
            all("CREATE DATABASE d WITH TEMPLATE = template0 ENCODING = 'UTF8' TABLESPACE = fast;"),
            [Said::Database("d".into()), Said::Tablespace("fast".into())]
        );
        assert_eq!(
            all("CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA public;"),
            [Said::Extension("uuid-ossp".into())]
        );
        assert_eq!(
            all("CREATE UNLOGGED TABLE \"a.b\".\"c\"\"d\" (x text) PARTITION BY RANGE (x);"),
            [Said::Table { schema: Some("a.b".into()), name: "c\"d".into(), partitioned: true }]
        );
        assert_eq!(
            all("CREATE TABLE x (partition by text);"),
            [Said::Table { schema: None, name: "x".into(), partitioned: false }]
        );
        assert_eq!(all("CREATE TEMP TABLE x ();CREATE FUNCTION f() RETURNS TABLE (a int) AS 'x';"), []);
        assert_eq!(
            all("SET default_tablespace = '';"),
            [Said::Setting { name: "default_tablespace".into(), value: String::new() }]
        );
        assert_eq!(setting("SET client_encoding = 'LATIN1';\n", "client_encoding").as_deref(), Some("LATIN1"));
    }

    #[test]
    fn open_ends_do_not_panic() {
        for text in [
            "'",
            "\"",
            "$",
            "$a",
            "$a$",
            "$a$b",
            "E'\\",
            "/*",
            "--",
            "é",
            "GRANT",
            "CREATE",
            "CREATE TABLE",
            "a.",
            "SET",
            "GRANT a TO",
        ] {
            all(text);
        }
    }
}
