//! Servers on loopback sockets that answer each path with what they were told, redirects among
//! them, and keep all that they hear.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::net::TcpStream;

use super::{
    http1::{self, Head},
    servers::lock,
    sockets::{Running, listen},
};

/// A server of an origin of its own.
pub struct Site {
    address: SocketAddr,
    state: Arc<State>,
    _running: Running,
}

#[derive(Default)]
struct State {
    answers: Mutex<HashMap<&'static str, String>>,
    heard: Mutex<Vec<Heard>>,
}

/// A request.
#[derive(Debug)]
struct Heard {
    head: Head,
    body: Vec<u8>,
}

impl Site {
    pub fn start() -> Self {
        let state = Arc::<State>::default();
        let serving = Arc::clone(&state);
        let (address, running) = listen(move |stream| serve(Arc::clone(&serving), stream));
        Self {
            address,
            state,
            _running: running,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// By default a path is answered with 200.
    pub fn says(&self, path: &'static str, status: u16, headers: &[(&str, &str)]) {
        let mut answer = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\n");
        for (name, value) in headers {
            answer += &format!("{name}: {value}\r\n");
        }
        answer += "\r\n";
        lock(&self.state.answers).insert(path, answer);
    }

    pub fn redirects(&self, path: &'static str, status: u16, to: &str) {
        self.says(path, status, &[("location", to)]);
    }

    /// Each request so far: its first line, the token, and the body.
    pub fn heard(&self) -> Vec<String> {
        let heard = lock(&self.state.heard);
        let lines = heard.iter().map(|Heard { head, body }| {
            let line = head.line.trim_end_matches(" HTTP/1.1");
            let body = String::from_utf8_lossy(body);
            format!("{line} {} {body}", head.token())
                .trim_end()
                .to_owned()
        });
        lines.collect()
    }

    /// All that was heard: lines, headers and bodies.
    pub fn all_heard(&self) -> String {
        let heard = lock(&self.state.heard);
        let all = heard.iter().map(|Heard { head, body }| {
            let body = String::from_utf8_lossy(body);
            format!("{head:?}\n{body}\n")
        });
        all.collect()
    }
}

async fn serve(state: Arc<State>, stream: TcpStream) {
    let (mut requests, mut answers) = http1::split(stream);
    while let Some(head) = requests.head().await {
        let Ok(body) = requests.all(head.body()).await else {
            return;
        };
        let path = head.line.split(' ').nth(1).unwrap_or_default();
        let answer = lock(&state.answers).get(path).cloned();
        lock(&state.heard).push(Heard { head, body });
        let fine = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine".to_owned();
        if answers.write(answer.unwrap_or(fine)).await.is_err() {
            return;
        }
    }
}
