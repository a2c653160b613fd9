//! A server on a loopback socket that keeps the bytes it got and answers with the bytes it was
//! given: HTTP libraries would mend both.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the peer does with each connection, once it has read the request.
#[derive(Clone, Default)]
pub struct Script {
    /// Sent first.
    pub bytes: Vec<u8>,
    /// Sent again and again after that, until the client hangs up.
    pub endless: Option<Vec<u8>>,
    pub end: End,
}

#[derive(Clone, Copy, Default)]
pub enum End {
    #[default]
    Close,
    /// RST in place of FIN.
    Reset,
    /// Keeps the connection until the client hangs up.
    Silence,
}

pub struct Peer {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                kept.lock().unwrap().push(request);
                tokio::spawn(play(stream, script.clone()));
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far, byte for byte.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A whole answer, framed by `Content-Length`.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    let framed = |name: &str| {
        name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding")
    };
    if status != 204 && !headers.iter().any(|(name, _)| framed(name)) {
        bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let length = name.eq_ignore_ascii_case("content-length");
                length.then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return text.into_owned();
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}

async fn play(mut stream: TcpStream, script: Script) {
    // The client may hang up at any time: that is for its test to judge.
    let _ = stream.write_all(&script.bytes).await;
    if let Some(chunk) = script.endless {
        while stream.write_all(&chunk).await.is_ok() {}
    }
    match script.end {
        End::Close => {
            let _ = stream.shutdown().await;
            drain(&mut stream).await;
        }
        End::Reset => stream.set_zero_linger().unwrap(),
        End::Silence => drain(&mut stream).await,
    }
}

/// Waits until the client hangs up. Closing with unread bytes would be a reset.
async fn drain(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}
