//! HTTP/1.1 as a server reads and writes it, piece by piece: a test decides what comes when.

use std::io;

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

pub struct Requests(BufReader<OwnedReadHalf>);

pub struct Answers(OwnedWriteHalf);

pub fn split(stream: TcpStream) -> (Requests, Answers) {
    let (read, write) = stream.into_split();
    let requests = Requests(BufReader::with_capacity(64 * 1024, read));
    (requests, Answers(write))
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    pub line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "two values of {name}");
        value
    }

    /// The bearer token; "" is none.
    pub fn token(&self) -> &str {
        let value = self.header("authorization").unwrap_or_default();
        value.strip_prefix("Bearer ").unwrap_or(value)
    }

    pub fn body(&self) -> Body {
        if self.header("transfer-encoding").is_some() {
            return Body::Chunks;
        }
        let length = self.header("content-length");
        Body::Left(length.map_or(0, |length| length.parse().unwrap()))
    }
}

/// What is to be read of a request's body.
#[derive(Debug, PartialEq)]
pub enum Body {
    /// So many bytes.
    Left(usize),
    /// Of the chunk that has begun so many bytes, and more chunks.
    Chunk(usize),
    /// Chunks.
    Chunks,
}

impl Requests {
    /// The next request; `None` if the client hung up.
    pub async fn head(&mut self) -> Option<Head> {
        let line = self.line().await.ok()?;
        let mut headers = Vec::new();
        loop {
            let header = self.line().await.ok()?;
            let Some((name, value)) = header.split_once(':') else {
                assert!(header.is_empty(), "not a header: {header}");
                return Some(Head { line, headers });
            };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    /// Some of the body; `None` at its end, and an error if the client hung up before.
    pub async fn some(&mut self, body: &mut Body) -> io::Result<Option<Bytes>> {
        if *body == Body::Chunks {
            let size = self.line().await?;
            *body = Body::Chunk(usize::from_str_radix(&size, 16).unwrap());
        }
        let (Body::Left(left) | Body::Chunk(left)) = body else {
            return Ok(None);
        };
        if *left > 0 {
            let ready = self.0.fill_buf().await?;
            let some = Bytes::copy_from_slice(&ready[..ready.len().min(*left)]);
            if some.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.0.consume(some.len());
            *left -= some.len();
            if *body == Body::Chunk(0) {
                assert_eq!(self.line().await?, "", "after a chunk");
                *body = Body::Chunks;
            }
            return Ok(Some(some));
        }
        if *body == Body::Chunk(0) {
            // The last chunk; what follows are the trailers.
            while !self.line().await?.is_empty() {}
            *body = Body::Left(0);
        }
        Ok(None)
    }

    /// All of a body; what came of it, if the client hung up before.
    pub async fn all(&mut self, mut body: Body) -> Result<Vec<u8>, Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match self.some(&mut body).await {
                Ok(Some(some)) => all.extend(&some),
                Ok(None) => return Ok(all),
                Err(_) => return Err(all),
            }
        }
    }

    /// Reads until the client hangs up, as a server does before it closes (RFC 9112 §9.6).
    pub async fn linger(&mut self) {
        let _ = tokio::io::copy(&mut self.0, &mut tokio::io::sink()).await;
    }

    /// RST in place of FIN, once both halves are dropped.
    pub fn close_rudely(&self) {
        self.0.get_ref().as_ref().set_zero_linger().unwrap();
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Answers {
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// No more will come.
    pub async fn end(&mut self) {
        let _ = self.0.shutdown().await;
    }
}
