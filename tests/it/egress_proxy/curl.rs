//! curl, as a caller of the proxy.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::support::wire::Protocol;

/// Where it calls, and how.
#[derive(Clone, Copy)]
pub struct Curl {
    pub proxy: SocketAddr,
    pub protocol: Protocol,
}

/// What it got.
#[derive(Debug)]
pub struct Got {
    /// 0 if the transfer was whole; else see "EXIT CODES" in curl(1).
    pub exit: i32,
    pub status: u16,
    /// The head of the last answer, and its trailers, as lines in lower case.
    pub head: String,
    /// Heads with a status of 1xx.
    pub interim: usize,
    pub body: String,
    pub error: String,
}

impl Curl {
    /// Whether it is there, which must be so with `REQUIRE_PEERS=1`.
    pub fn is_there() -> bool {
        let version = std::process::Command::new("curl").arg("--version").output();
        let missing = match version {
            Ok(version) if String::from_utf8_lossy(&version.stdout).contains("HTTP2") => {
                return true;
            }
            Ok(_) => "this curl speaks no HTTP/2",
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "curl is missing; `apt-get install curl`"
            }
            Err(error) => panic!("{error}"),
        };
        let required = env::var("REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "{missing}");
        println!("skipped: {missing}");
        false
    }

    /// Calls an upstream by its name as Host, over the protocol.
    pub fn call(&self, upstream: &str, path: &str, arguments: &[&str]) -> Transfer {
        let version = match self.protocol {
            Protocol::Http1 => "--http1.1",
            Protocol::Http2 => "--http2-prior-knowledge",
        };
        static REQUESTS: AtomicU32 = AtomicU32::new(0);
        let id = format!("x-request-id: {}", REQUESTS.fetch_add(1, Relaxed));
        let host = format!("Host: {upstream}");
        let url = format!("http://{}{path}", self.proxy);
        let called = [
            "--noproxy",
            "*",
            version,
            "--header",
            &host,
            "--header",
            &id,
            &url,
        ];
        Transfer::start(&[&called[..], arguments].concat())
    }

    pub async fn get(&self, upstream: &str, path: &str) -> Got {
        self.call(upstream, path, &[]).end().await
    }
}

/// A transfer under way; curl is killed when it is dropped.
pub struct Transfer {
    curl: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    heads: PathBuf,
}

impl Transfer {
    pub fn start(arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tower-oauth-curl-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let heads = env::temp_dir().join(name);
        let mut curl = Command::new("curl");
        // Without the user's settings; the time is a net only.
        curl.args(["--disable", "--silent", "--show-error", "--no-buffer"]);
        curl.args(["--max-time", "120", "--dump-header"])
            .arg(&heads);
        curl.args(arguments).env_clear();
        curl.env("PATH", env::var_os("PATH").unwrap_or_default());
        curl.stdin(Stdio::piped());
        curl.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut curl = curl.kill_on_drop(true).spawn().unwrap();
        Self {
            stdin: curl.stdin.take(),
            stdout: curl.stdout.take().unwrap(),
            curl,
            heads,
        }
    }

    /// Adds to what curl uploads, if it was told to upload its input.
    pub async fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).await.unwrap();
    }

    /// Reads as many bytes of the answer.
    pub async fn read(&mut self, bytes: usize) -> String {
        let mut read = vec![0; bytes];
        self.stdout.read_exact(&mut read).await.unwrap();
        String::from_utf8(read).unwrap()
    }

    /// Waits for the end of the upload and of the answer, of which it gives what wasn't read yet.
    pub async fn end(mut self) -> Got {
        drop(self.stdin.take());
        let mut body = String::new();
        self.stdout.read_to_string(&mut body).await.unwrap();
        let mut error = String::new();
        let mut stderr = self.curl.stderr.take().unwrap();
        stderr.read_to_string(&mut error).await.unwrap();
        let exit = self.curl.wait().await.unwrap().code().unwrap();
        let heads = fs::read_to_string(&self.heads).unwrap_or_default();
        let heads = heads.to_ascii_lowercase().replace("\r\n", "\n");
        let starts: Vec<_> = heads.match_indices("http/").map(|(at, _)| at).collect();
        let starts: Vec<_> = starts
            .into_iter()
            .filter(|at| *at == 0 || heads[..*at].ends_with('\n'))
            .collect();
        let head = heads[starts.last().copied().unwrap_or_default()..].to_owned();
        let status = head
            .split(' ')
            .nth(1)
            .map_or(0, |code| code.trim().parse().unwrap());
        Got {
            exit,
            status,
            head,
            interim: starts.len().saturating_sub(1),
            body,
            error,
        }
    }

    pub async fn kill(mut self) {
        self.curl.kill().await.unwrap();
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.heads);
    }
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The transfer was whole and came from the upstream, with this status.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!((self.exit, &*self.error), (0, ""), "{self:?}");
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("proxy-status"), None, "{self:?}");
        self
    }

    /// The proxy itself said so.
    pub fn expect_problem(self, status: u16, kind: &str) -> Self {
        assert_eq!((self.exit, self.status), (0, status), "{self:?}");
        let kind = format!("egress_proxy; error={kind}");
        assert_eq!(self.header("proxy-status"), Some(&*kind), "{self:?}");
        self
    }
}
