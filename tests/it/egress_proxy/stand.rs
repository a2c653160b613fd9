//! The proxy between curl and two upstreams, each with an authorization server of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::{
    curl::Curl,
    example::{Config, Proxy},
    upstream::Upstream,
};
use crate::support::{
    servers::{AuthServer, ID},
    wire::Protocol,
};

pub const SECRET_A: &str = "hunter2-of-a";
pub const SECRET_B: &str = "hunter2-of-b";

pub struct Stand {
    pub a: Upstream,
    pub b: Upstream,
    pub auth_a: AuthServer,
    pub auth_b: AuthServer,
    pub proxy: Proxy,
    _folder: Folder,
}

impl Stand {
    /// `protocol` is the one that the proxy speaks with the upstreams.
    pub async fn start(protocol: Protocol) -> Self {
        Self::with(protocol, "").await
    }

    /// With more settings for the first upstream.
    pub async fn with(protocol: Protocol, more: &str) -> Self {
        let (a, b) = (Upstream::start(), Upstream::start());
        let auth_a = AuthServer::start(SECRET_A, "token-a-");
        let auth_b = AuthServer::start(SECRET_B, "token-b-");
        let folder = Folder::new();
        let http2 = protocol == Protocol::Http2;
        let file = format!(
            "{}{}{more}\n{}",
            ports(),
            section(
                "a.internal",
                &a.origin(),
                &auth_a,
                &folder.file("a", SECRET_A),
                http2
            ),
            section(
                "b.internal",
                &b.origin(),
                &auth_b,
                &folder.file("b", SECRET_B),
                http2
            ),
        );
        // The second shows its secret in another way.
        let file = format!("{file}auth = \"post\"\n");
        Self {
            a,
            b,
            auth_a,
            auth_b,
            proxy: proxy(&file).await,
            _folder: folder,
        }
    }

    pub fn curl(&self, protocol: Protocol) -> Curl {
        Curl {
            proxy: self.proxy.address(),
            protocol,
        }
    }

    /// The page at a path of the admin address.
    pub async fn admin(&self, path: &str) -> super::curl::Got {
        admin(self.proxy.admin(), path).await
    }
}

pub async fn proxy(file: &str) -> Proxy {
    let config = Config::parse(file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    Proxy::start(config).await.unwrap()
}

pub async fn admin(address: std::net::SocketAddr, path: &str) -> super::curl::Got {
    let curl = Curl {
        proxy: address,
        protocol: Protocol::Http1,
    };
    curl.get("localhost", path).await
}

/// Any that are free.
pub fn ports() -> String {
    String::from("listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n")
}

pub fn section(name: &str, origin: &str, auth: &AuthServer, secret: &Path, http2: bool) -> String {
    let url = auth.url();
    format!(
        "[upstream.{name:?}]\norigin = {origin:?}\ntoken_endpoint = {url:?}\nclient_id = {ID:?}\n\
         client_secret_file = {secret:?}\nhttp2 = {http2}\n"
    )
}

/// A folder that goes when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("tower-oauth-egress-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // The process's number may have been that of one that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
