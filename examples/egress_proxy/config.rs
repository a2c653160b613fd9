//! The file, typed; `egress_proxy.toml` says more. What is wrong with it names the key.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loopback: whoever can connect, calls with the tokens.
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// In seconds.
    #[serde(default = "default_drain")]
    pub drain: u64,
    pub upstream: BTreeMap<String, Upstream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub origin: String,
    /// One of these three.
    pub issuer: Option<String>,
    pub token_endpoint: Option<String>,
    pub token_file: Option<PathBuf>,
    pub client_id: Option<String>,
    pub client_secret_file: Option<PathBuf>,
    pub client_secret_env: Option<String>,
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    pub audience: String,
    /// In bytes.
    #[serde(default = "default_replay_limit")]
    pub replay_limit: usize,
    /// In seconds.
    pub timeout: Option<u64>,
    #[serde(default)]
    pub http2: bool,
    #[serde(default)]
    pub allow_plaintext: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    #[default]
    Basic,
    Post,
}

impl Config {
    pub fn read(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("{path} can't be read: {error}"))?;
        Self::parse(&text).map_err(|problem| format!("{path}: {problem}"))
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| {
            // Of the line itself only the key: the rest may be what should stand elsewhere.
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            let above = before.matches('\n').count();
            let (number, line) = (above.saturating_add(1), text.lines().nth(above));
            let key = line.and_then(|line| Some(line.split_once('=')?.0.trim()));
            let key = key.filter(|_| !error.message().contains(" field `"));
            let key = key.map_or(String::new(), |key| format!("{key}: "));
            format!("line {number}: {key}{}", error.message())
        })?;
        if !config.listen.ip().is_loopback() {
            return Err(String::from(
                "listen: write a loopback address: whoever can connect, calls with the tokens",
            ));
        }
        Ok(config)
    }
}

fn default_drain() -> u64 {
    15
}

fn default_replay_limit() -> usize {
    64 * 1024
}
