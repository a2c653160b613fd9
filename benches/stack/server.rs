//! The other side: this very program, started once more. It answers HTTP/1.1 and gRPC with how long
//! the `Authorization` was that came in.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Builder};
use tokio_stream::{Empty, wrappers::TcpListenerStream};
use tonic::{Status, Streaming};

use crate::proto::{
    Account, Amount, Booking,
    ledger_server::{Ledger, LedgerServer},
};

/// Makes of this program a server.
pub const ARGUMENT: &str = "--be-the-server";

/// The server's process; it ends when this is dropped.
pub struct Server {
    process: Child,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
}

impl Server {
    pub fn start() -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut address = || lines.next().unwrap().unwrap().parse().unwrap();
        Self {
            http: address(),
            grpc: address(),
            process,
        }
    }

    /// Its only thread of any weight is its first, whose number this is.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until the program that started this one is gone: its end of the pipe closes however it
/// ended.
pub fn serve() {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", http.local_addr().unwrap());
        println!("{}", grpc.local_addr().unwrap());
        io::stdout().flush().unwrap();
        tokio::join!(serve_http(http), serve_grpc(grpc));
    });
}

async fn serve_http(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer_http));
        tokio::spawn(connection);
    }
}

async fn answer_http(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    body.collect().await?;
    let length = token_length(&parts.headers).to_string();
    Ok(Response::new(Full::from(length)))
}

async fn serve_grpc(listener: TcpListener) {
    tonic::transport::Server::builder()
        .add_service(LedgerServer::new(Answers))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .unwrap();
}

struct Answers;

#[tonic::async_trait]
impl Ledger for Answers {
    type BookingsStream = Empty<Result<Booking, Status>>;
    type BookStream = Empty<Result<Amount, Status>>;

    async fn balance(
        &self,
        request: tonic::Request<Account>,
    ) -> Result<tonic::Response<Amount>, Status> {
        let cents = token_length(request.metadata().as_ref()) as i64;
        Ok(tonic::Response::new(Amount { cents }))
    }

    async fn bookings(
        &self,
        _: tonic::Request<Account>,
    ) -> Result<tonic::Response<Self::BookingsStream>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn book(
        &self,
        _: tonic::Request<Streaming<Booking>>,
    ) -> Result<tonic::Response<Self::BookStream>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

fn token_length(headers: &HeaderMap) -> usize {
    headers.get(AUTHORIZATION).map_or(0, |value| value.len())
}
