//! What an error means, and who must act.

use redis::{ErrorKind, RedisError};

use crate::source::{StoreError, StoreKey};

/// Where something is kept; what errors name.
pub(super) struct Place {
    host: String,
    pub(super) record: String,
    pub(super) lease: String,
    pub(super) channel: String,
}

impl Place {
    pub(super) fn new(host: &str, prefix: &str, key: &StoreKey) -> Self {
        let record = format!("{{{prefix}:{}}}", key.as_str());
        Self {
            host: host.to_owned(),
            lease: format!("{record}:lease"),
            channel: format!("{record}:changed"),
            record,
        }
    }

    /// It is there, but isn't what it should be.
    pub(super) fn unusable(&self, problem: &str) -> StoreError {
        StoreError::unusable(format!(
            "Redis at {}, key {}: {problem}",
            self.host, self.record
        ))
    }

    pub(super) fn late(&self) -> StoreError {
        self.say(Meaning::Wait(LATE), None)
    }

    /// Nothing of the error goes on but a text that was looked at: a server that doesn't know a command
    /// repeats it, with the password or the record in it.
    pub(super) fn failed(&self, error: &RedisError, password: Option<&str>) -> StoreError {
        let detail = match error.kind() {
            // Of the crate's own texts these two say what they say of the system or of rustls; the
            // others show values.
            ErrorKind::Io => Some(error.to_string()),
            ErrorKind::InvalidClientConfig => Some(error.to_string()),
            _ => error.code().map(|code| match error.detail() {
                Some(detail) => format!("{code} {}", without_script(detail)),
                None => code.to_owned(),
            }),
        };
        let detail = detail.unwrap_or_default();
        let meaning = meaning(error, &detail);
        let tells = detail.contains("with args")
            || password.is_some_and(|password| detail.contains(password));
        self.say(
            meaning,
            Some(detail).filter(|detail| !tells && !detail.is_empty()),
        )
    }

    fn say(&self, meaning: Meaning, detail: Option<String>) -> StoreError {
        let detail = detail
            .map(|detail| format!(" ({detail})"))
            .unwrap_or_default();
        let host = &self.host;
        match meaning {
            Meaning::Wait(what) => {
                StoreError::unavailable(format!("Redis at {host} {what}{detail}"))
            }
            Meaning::Act(what) => StoreError::unusable(format!("Redis at {host} {what}{detail}")),
            Meaning::WrongKey => self.unusable(&format!(
                "another kind of value is there, or at {}: delete it, or choose another \
                 prefix{detail}",
                self.lease
            )),
        }
    }
}

/// Where in a script it was is no news to whoever reads this.
fn without_script(detail: &str) -> &str {
    detail
        .split_once(" script: ")
        .map_or(detail, |(before, _)| before)
}

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nobody; trying again may help.
    Wait(&'static str),
    /// Whoever runs Redis, or gave the URL.
    Act(&'static str),
    /// Whoever wrote there.
    WrongKey,
}

fn meaning(error: &RedisError, detail: &str) -> Meaning {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => Meaning::Wait(LATE),
        ErrorKind::Io if detail.contains("invalid peer certificate") => Meaning::Act(
            "shows a certificate that isn't trusted: add its authority to the system's root \
             certificates, and give the URL the name that the certificate is for",
        ),
        ErrorKind::Io if error.is_connection_refusal() => Meaning::Wait(
            "can't be reached: check that it runs, and that the URL's host and port are its",
        ),
        ErrorKind::Io => Meaning::Wait(
            "can't be reached, or the connection broke and whether a write was done is not known: \
             check that it runs and can be reached from here",
        ),
        ErrorKind::InvalidClientConfig => Meaning::Act("can't be connected to in this way"),
        ErrorKind::RESP3NotSupported => Meaning::Act(OLD),
        ErrorKind::AuthenticationFailed => Meaning::Act(LOGIN),
        ErrorKind::Parse => Meaning::Act(
            "doesn't answer as Redis does: check the URL's host and port, and whether it is \
             redis:// or rediss://",
        ),
        _ => said(detail),
    }
}

/// By the word that an error of Redis begins with, or has in it: before version 7 what a script did
/// was an error of the script first.
fn said(detail: &str) -> Meaning {
    let has = |sign: &str| detail.contains(sign);
    let known = SIGNS
        .iter()
        .find(|(signs, _)| signs.iter().any(|sign| has(sign)));
    known.map_or(Meaning::Wait("refused"), |(_, meaning)| *meaning)
}

const SIGNS: &[(&[&str], Meaning)] = &[
    (
        &["WRONGPASS", "NOAUTH", "invalid password"],
        Meaning::Act(LOGIN),
    ),
    (
        // The second is how a script of an older version says it.
        &["NOPERM", "user executing the script", "ACL failure"],
        Meaning::Act(
            "doesn't permit the user of the URL what is needed: give it the commands, keys and \
             channels that the documentation of `store::Redis` lists",
        ),
    ),
    (&["WRONGTYPE"], Meaning::WrongKey),
    (
        &["READONLY"],
        Meaning::Act("is a read-only replica: give the URL of the primary"),
    ),
    (
        &["MOVED", "ASK ", "CROSSSLOT"],
        Meaning::Act(
            "is a node of a Redis Cluster and doesn't have this key: give the URL of a Redis that \
             isn't one, or of a proxy in front of it",
        ),
    ),
    (&["NOPROTO", "'HELLO'", "`HELLO`"], Meaning::Act(OLD)),
    (
        &["unknown command", "Unknown Redis command"],
        Meaning::Act(
            "doesn't know a command that is needed: use Redis 6 or newer, without a proxy that lets \
             only some commands through",
        ),
    ),
    (
        &["refused to switch database", "DB index"],
        Meaning::Act("doesn't have the database that the URL names"),
    ),
    (
        &["LOADING"],
        Meaning::Wait("has just started and is still loading its data"),
    ),
    (
        &["MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS"],
        Meaning::Wait("has lost others that it works with: check its replication or cluster"),
    ),
    (
        &["OOM"],
        Meaning::Wait(
            "has no memory left for a write: raise its `maxmemory`, or delete what it has",
        ),
    ),
    (
        &["MISCONF"],
        Meaning::Wait("takes no writes as it can't save them: check its disk and its log"),
    ),
    (&["BUSY"], Meaning::Wait("is busy with somebody's script")),
    (&["NOSCRIPT"], Meaning::Wait("forgot its scripts just now")),
    (
        &["max number of clients"],
        Meaning::Wait("has as many connections as it takes: raise its `maxclients`"),
    ),
];

const LATE: &str = "didn't answer in time; whether a write was done is not known: check that it runs \
                    and can be reached from here";
const LOGIN: &str = "refused the login: check the user and password in the URL";
const OLD: &str = "is too old, or a proxy that isn't Redis enough: use Redis 6 or newer";

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    fn place() -> Place {
        Place::new("h:1", "p", &StoreKey::named("k"))
    }

    /// As the server says it.
    fn failed(line: &str) -> StoreError {
        let (code, detail) = line.split_once(' ').unwrap_or((line, ""));
        let error = make_extension_error(code.to_owned(), Some(detail.to_owned()));
        place().failed(&error, Some("hunter2"))
    }

    #[test]
    fn each_error_says_who_must_act_and_names_the_host() {
        for (line, transient, part) in [
            (
                "LOADING Redis is loading the dataset in memory",
                true,
                "still loading",
            ),
            ("MASTERDOWN Link with MASTER is down", true, "replication"),
            ("CLUSTERDOWN The cluster is down", true, "cluster"),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                true,
                "maxmemory",
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                true,
                "disk",
            ),
            ("BUSY Redis is busy running a script.", true, "script"),
            ("ERR max number of clients reached", true, "maxclients"),
            ("ERR something new", true, "something new"),
            (
                "WRONGPASS invalid username-password pair",
                false,
                "password in the URL",
            ),
            (
                "NOAUTH Authentication required.",
                false,
                "password in the URL",
            ),
            ("NOPERM this user has no permissions", false, "channels"),
            (
                "READONLY You can't write against a read only replica.",
                false,
                "primary",
            ),
            ("WRONGTYPE Operation against a key", false, "{p:"),
            ("MOVED 866 10.0.0.7:6379", false, "Cluster"),
            ("NOPROTO unsupported protocol version", false, "Redis 6"),
            (
                "ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed",
                true,
                "maxmemory",
            ),
            (
                "ERR Error running script (call to f_1): @user_script:3: WRONGTYPE Operation",
                false,
                "another kind of value",
            ),
        ] {
            let error = failed(line);
            assert_eq!(error.is_transient(), transient, "{error}");
            let shown = error.to_string();
            assert!(
                shown.contains("Redis at h:1") && shown.contains(part),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_server_that_repeats_what_it_was_sent_is_not_repeated() {
        for line in [
            "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'u' 'hunter2'",
            "ERR unknown command 'EVALSHA', with args beginning with: 'secret text'",
            "ERR who is hunter2",
        ] {
            let error = failed(line);
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("secret"),
                "{shown}"
            );
            assert!(std::error::Error::source(&error).is_none());
        }
        let parse = RedisError::from((ErrorKind::Parse, "value was", "secret".to_owned()));
        let error = place().failed(&parse, None);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
