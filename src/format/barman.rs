//! What Barman and barman-cloud write beside a backup: its `backup.info`, one `key=value` a line, values as Python writes them.

use std::collections::BTreeMap;

use super::lsn::Lsn;

/// What is used of a `backup.info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// `DONE`, `WAITING_FOR_WALS`, `FAILED` …
    pub status: String,
    /// `170011`; 0 where it does not say.
    pub version: u32,
    pub system_identifier: Option<u64>,
    pub timeline: Option<u32>,
    pub begin: Option<Lsn>,
    pub end: Option<Lsn>,
    pub begin_time: Option<jiff::Timestamp>,
    pub end_time: Option<jiff::Timestamp>,
    /// OID and location of each tablespace.
    pub tablespaces: Vec<(u32, String)>,
    /// `gpg`, where the backup is encrypted.
    pub encryption: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Info {
    pub fn parse(text: &str) -> Info {
        let values: BTreeMap<&str, &str> =
            text.lines().filter_map(|it| it.split_once('=')).map(|(key, value)| (key.trim(), value.trim())).collect();
        let get = |key: &str| values.get(key).copied().filter(|it| !matches!(*it, "" | "None"));
        let time = |key: &str| {
            let text = get(key)?.replacen(' ', "T", 1);
            // Before 3.0 without a zone, in that of Barman's host, which is not known.
            text.parse::<jiff::Timestamp>().ok()
        };
        Info {
            status: get("status").unwrap_or_default().to_owned(),
            version: get("version").and_then(|it| it.parse().ok()).unwrap_or_default(),
            system_identifier: get("systemid").and_then(|it| it.parse().ok()),
            timeline: get("timeline").and_then(|it| it.parse().ok()),
            begin: get("begin_xlog").and_then(|it| it.parse().ok()),
            end: get("end_xlog").and_then(|it| it.parse().ok()),
            begin_time: time("begin_time"),
            end_time: time("end_time"),
            tablespaces: get("tablespaces").map(tablespaces).unwrap_or_default(),
            encryption: get("encryption").map(str::to_owned),
            error: get("error").map(str::to_owned),
        }
    }

    /// Whether there is something to restore. Of one that waits for WAL, the archive shows whether it came.
    pub fn is_usable(&self) -> bool {
        matches!(self.status.as_str(), "DONE" | "WAITING_FOR_WALS")
    }

    pub fn major(&self) -> u32 {
        self.version / 10_000
    }
}

/// `[('fast', 16385, '/srv/ts'), …]`
fn tablespaces(text: &str) -> Vec<(u32, String)> {
    let of = |part: &str| {
        let mut fields = part.split(", ");
        let (_, oid, location) = (fields.next()?, fields.next()?, fields.next()?);
        Some((oid.trim().parse().ok()?, location.trim().trim_matches(['\'', '"', ')', ']']).to_owned()))
    };
    text.trim_start_matches('[').split("),").map(|it| it.trim().trim_start_matches('(')).filter_map(of).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_backup_info_is_read() {
        let text = "backup_label='START WAL LOCATION: 0/F00028 (file 00000001000000000000000F)\\n'\n\
                    begin_time=2026-11-27 18:50:16.508506+00:00\nbegin_xlog=0/F00028\nend_time=2026-11-27 18:50:18.080588+00:00\n\
                    end_xlog=0/1000000\nerror=None\nstatus=DONE\nsystemid=7712925513684099089\n\
                    tablespaces=[('fast', 16385, '/tmp/ts'), ('slow, old', 16386, '/srv/t 2')]\ntimeline=1\nversion=150020\n";
        let info = Info::parse(text);
        assert!(info.is_usable());
        assert_eq!((info.major(), info.timeline, info.error.as_deref()), (15, Some(1), None));
        assert_eq!(info.begin.unwrap().to_string(), "0/F00028");
        assert_eq!(info.tablespaces[0], (16385, "/tmp/ts".to_owned()));
        assert_eq!(info.begin_time.unwrap().to_string(), "2026-11-27T18:50:16.508506Z");
    }

    #[test]
    fn what_failed_is_not_usable() {
        let info = Info::parse(
            "status=FAILED\nerror=failure copying files\nend_time=None\nbegin_time=2020-01-01 10:00:00.5\n",
        );
        assert!(!info.is_usable());
        assert_eq!((info.begin_time, info.error.as_deref()), (None, Some("failure copying files")));
    }
}
