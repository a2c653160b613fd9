//! Where Redis is: a URL, of which nothing is shown but the host.

use std::{error::Error, fmt, time::Duration};

use redis::{
    Client, ProtocolVersion,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
    parse_redis_url,
};

/// The client of this URL; it connects to nothing yet.
pub(super) fn client(url: &str) -> Result<Client, InvalidRedisUrl> {
    let parsed = parse_redis_url(url).ok_or(InvalidRedisUrl(
        "it isn't one that begins with redis://, rediss:// or redis+unix://",
    ))?;
    // The rest of `redis://user:12#34@host` would be ignored, and what comes before it taken for a
    // host and a port, which errors show.
    if parsed.fragment().is_some() {
        return Err(InvalidRedisUrl("it has a fragment, which means nothing"));
    }
    if parsed.query().is_some() && !parsed.scheme().ends_with("unix") {
        return Err(InvalidRedisUrl("it has a query, which means nothing"));
    }
    let unusable = |_| InvalidRedisUrl("its host, path or database is missing or can't be used");
    let info = Client::open(parsed).map_err(unusable)?;
    let info = info.get_connection_info();
    // Messages come by the connection that everything else goes by, which the older protocol can't do.
    // And a user needs no right to name the library.
    let settings = info.redis_settings().clone();
    let settings = settings
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    // Tokens are fetched seldom, and what lies between forgets a connection that is silent for minutes.
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(SILENT));
    let info = info.clone().set_redis_settings(settings);
    Client::open(info.set_tcp_settings(tcp)).map_err(unusable)
}

/// After this time the system asks whether the other side is still there.
const SILENT: Duration = Duration::from_secs(60);

/// A URL that isn't one of Redis. It says what is wrong, and nothing that the URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRedisUrl(&'static str);

impl fmt::Display for InvalidRedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the URL of Redis can't be used: {}; expected is \
             redis://user:password@host:port/database, where characters such as / ? # @ of the \
             password are percent-encoded",
            self.0
        )
    }
}

impl Error for InvalidRedisUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_redis_is_taken_and_its_password_belongs_to_the_connection() {
        for (url, host, user, password) in [
            ("redis://redis.internal", "redis.internal:6379", None, None),
            ("redis://u:p%23%2Fw@h:1/3", "h:1", Some("u"), Some("p#/w")),
            ("rediss://:pw@h:2", "h:2", None, Some("pw")),
            ("valkey://h", "h:6379", None, None),
            (
                "redis+unix:///run/r.sock?db=1&user=u&pass=pw",
                "/run/r.sock",
                Some("u"),
                Some("pw"),
            ),
            ("unix:///run/r.sock", "/run/r.sock", None, None),
        ] {
            let client = client(url).unwrap();
            let info = client.get_connection_info();
            assert_eq!(info.addr().to_string(), host);
            assert_eq!(info.redis_settings().username(), user);
            assert_eq!(info.redis_settings().password(), password);
        }
    }

    #[test]
    fn what_is_no_url_of_redis_is_refused_without_a_word_of_it() {
        for url in [
            "",
            "hunter2",
            "http://:hunter2@h",
            "redis://:hunter2@",
            "redis://:hunter2@h:port",
            "redis://:hunter2@h/first",
            "redis://user:12#hunter2@h",
            "redis://user:12?hunter2@h",
            "redis://user:12/hunter2@h",
            "rediss://:hunter2@h/#insecure",
            "redis+unix:///run/r.sock?db=hunter2",
        ] {
            let error = client(url).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("redis://user:password@"), "{shown}");
        }
    }
}
