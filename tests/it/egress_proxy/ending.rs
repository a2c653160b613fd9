//! How the proxy is, and how it ends: in this process, and as the program that it is.

use std::{env, fs, net::SocketAddr, path::PathBuf, process::Stdio, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::timeout,
};

use super::{
    curl::{Curl, Got},
    example::Proxy,
    stand::{Folder, SECRET_A, Stand, admin, ports, proxy, section},
    upstream::{NET, Upstream},
};
use crate::support::{
    servers::AuthServer,
    sockets::{Heard, Running, Tee, connection, listen},
    wire::{BOTH, Protocol},
};

#[tokio::test]
async fn readiness_is_a_token_for_each_upstream() {
    if !Curl::is_there() {
        return;
    }
    let stand = Stand::start(Protocol::Http1).await;
    stand.auth_a.be_down(true);
    let alive = stand.admin("/healthz").await.expect(200);
    assert_eq!(alive.body, "alive\n");
    let ready = stand.admin("/readyz").await.expect(503);
    let (a, b) = ready.body.split_once('\n').unwrap();
    assert!(
        a.starts_with("a.internal: not ready, no token"),
        "{ready:?}"
    );
    assert!(a.contains(&stand.auth_a.url()), "{ready:?}");
    assert_eq!(b, "b.internal: ready, a token is at hand\n");
    assert!(!ready.body.contains("hunter2"), "{ready:?}");

    // It asks by itself, so it gets well without a request.
    stand.auth_a.be_down(false);
    let ready = until_ready_is(200, stand.proxy.admin()).await;
    assert_eq!(
        ready.body,
        "a.internal: ready, a token is at hand\nb.internal: ready, a token is at hand\n"
    );
    assert_eq!(stand.admin("/").await.status, 404);
    // Nothing is forwarded from there, and the port for requests doesn't answer for the process.
    assert_eq!(
        stand.curl(BOTH[0]).get("localhost", "/readyz").await.status,
        404
    );
    assert!(stand.a.sends().is_empty());
}

#[tokio::test]
async fn it_ends_when_the_requests_under_way_have_ended() {
    if !Curl::is_there() {
        return;
    }
    for caller in BOTH {
        let mesh = Mesh::start().await;
        let proxy = proxy(&mesh.file(30)).await;
        let (address, page) = (proxy.address(), proxy.admin());
        let curl = Curl {
            proxy: address,
            protocol: caller,
        };
        let waiting = curl.call("a.internal", "/waits", &[]);
        mesh.upstream.until(|sends| sends.len() == 1).await;
        let stopping = tokio::spawn(proxy.stop());

        until_closed(address).await;
        let ready = admin(page, "/readyz").await.expect(503);
        assert_eq!(ready.body, "ending\n");
        admin(page, "/healthz").await.expect(200);
        assert!(
            mesh.issuer.revoked.borrow().is_empty(),
            "before the request ended"
        );

        mesh.upstream.open(true);
        assert_eq!(waiting.end().await.expect(200).body, "waited");
        assert!(stopping.await.unwrap(), "something was cut off");
        let revoked = mesh.issuer.revoked.borrow().clone();
        assert!(
            revoked.len() == 1 && revoked[0].contains("token=from-issuer"),
            "{revoked:?}"
        );
        until_closed(page).await;
    }
}

#[tokio::test]
async fn what_takes_too_long_is_cut_off() {
    if !Curl::is_there() {
        return;
    }
    for caller in BOTH {
        let mesh = Mesh::start().await;
        let proxy = proxy(&mesh.file(0)).await;
        let curl = Curl {
            proxy: proxy.address(),
            protocol: caller,
        };
        let waiting = curl.call("a.internal", "/waits", &[]);
        mesh.upstream.until(|sends| sends.len() == 1).await;
        assert!(!Proxy::stop(proxy).await);
        let got = waiting.end().await;
        assert!(got.exit != 0 && got.status == 0, "{got:?}");
        assert_eq!(mesh.issuer.revoked.borrow().len(), 1);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_ends_the_program() {
    if !Curl::is_there() {
        return;
    }
    let Some(program) = program() else { return };
    let mesh = Mesh::start().await;
    let started = Started::start(&program, &mesh.file(30)).await;
    let (curl, page) = (started.curl(), started.page);
    admin(page, "/readyz").await.expect(200);

    let waiting = curl.call("a.internal", "/waits", &[]);
    mesh.upstream.until(|sends| sends.len() == 1).await;
    started.terminate().await;
    until_ready_is(503, page).await;
    mesh.upstream.open(true);
    assert_eq!(waiting.end().await.expect(200).body, "waited");
    assert_eq!(started.end().await, Some(0));
    assert_eq!(mesh.issuer.revoked.borrow().len(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn it_can_be_ended_as_soon_as_it_says_where_it_is() {
    let Some(program) = program() else { return };
    let mesh = Mesh::start().await;
    let started = Started::start(&program, &mesh.file(30)).await;
    started.terminate().await;
    assert_eq!(started.end().await, Some(0));
}

#[tokio::test]
async fn the_program_says_whose_tokens_fail_and_are_there_again() {
    if !Curl::is_there() {
        return;
    }
    let Some(program) = program() else { return };
    let (upstream, auth) = (Upstream::start(), AuthServer::start(SECRET_A, "token-a-"));
    auth.be_down(true);
    let folder = Folder::new();
    let secret = folder.file("secret", SECRET_A);
    let section = section("a.internal", &upstream.origin(), &auth, &secret, false);
    let mut started = Started::start(&program, &(ports() + &section)).await;
    let curl = started.curl();
    let got = curl.get("a.internal", "/").await;
    got.expect_problem(503, "proxy_internal_error");
    let line = started.says().await;
    assert!(line.starts_with("a.internal: no token: "), "{line}");
    assert!(line.contains(&auth.url()), "{line}");
    assert!(!line.contains(SECRET_A), "{line}");

    auth.be_down(false);
    until_ready_is(200, started.page).await;
    // It may have asked once more before.
    let mut line = started.says().await;
    while line.starts_with("a.internal: no token: ") {
        line = started.says().await;
    }
    assert_eq!(line, "a.internal: a token is at hand again");
}

#[tokio::test]
async fn the_program_says_how_it_is_started() {
    let Some(program) = program() else { return };
    let alone = Command::new(&program).output().await.unwrap();
    assert_eq!(alone.status.code(), Some(1));
    let said = String::from_utf8(alone.stderr).unwrap();
    assert!(said.contains("usage: egress_proxy FILE"), "{said}");

    let astray = Command::new(&program).arg("/no/such/file").output().await;
    let said = String::from_utf8(astray.unwrap().stderr).unwrap();
    assert!(said.contains("/no/such/file can't be read"), "{said}");
}

/// The example as `cargo test` builds it; `cargo test --test it` doesn't.
fn program() -> Option<PathBuf> {
    let test = env::current_exe().unwrap();
    let built = test.parent()?.parent()?.join("examples");
    let program = built.join(format!("egress_proxy{}", env::consts::EXE_SUFFIX));
    let modified = |path: PathBuf| fs::metadata(path).and_then(|file| file.modified());
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/egress_proxy");
    let sources = fs::read_dir(sources)
        .unwrap()
        .map(|file| file.unwrap().path());
    // What else is there isn't compiled in.
    let sources = sources.filter(|path| path.extension().is_some_and(|name| name == "rs"));
    let changed = sources.map(|path| modified(path).unwrap()).max();
    let wrong = match modified(program.clone()) {
        Ok(built) if Some(built) >= changed => return Some(program),
        Ok(_) => "older than its source",
        Err(_) => "missing",
    };
    let skipped = format!("the example is {wrong}, `cargo build --example egress_proxy` makes it");
    let required = env::var("REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "{skipped}");
    println!("skipped: {skipped}");
    None
}

/// The program, running; it is killed when this is dropped.
struct Started {
    child: Child,
    address: SocketAddr,
    page: SocketAddr,
    stderr: Lines<BufReader<ChildStderr>>,
    _folder: Folder,
}

impl Started {
    async fn start(program: &PathBuf, file: &str) -> Self {
        let (folder, mut command) = (Folder::new(), Command::new(program));
        command.arg(folder.file("proxy.toml", file));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(NET, lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("it ended at once");
        let mut addresses = line.split("http://").skip(1).map(|rest| {
            let end = rest.find([',', ' ']).unwrap_or(rest.len());
            rest[..end].parse().unwrap()
        });
        Self {
            address: addresses.next().unwrap(),
            page: addresses.next().unwrap(),
            stderr: BufReader::new(child.stderr.take().unwrap()).lines(),
            child,
            _folder: folder,
        }
    }

    fn curl(&self) -> Curl {
        Curl {
            proxy: self.address,
            protocol: Protocol::Http1,
        }
    }

    /// The next line of its stderr.
    async fn says(&mut self) -> String {
        let line = timeout(NET, self.stderr.next_line()).await;
        line.expect("it says nothing").unwrap().expect("it ended")
    }

    #[cfg(unix)]
    async fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        // A shell has `kill` where there is no program of this name.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -TERM \"$0\"", &id]);
        assert!(kill.status().await.unwrap().success());
    }

    /// Its exit code; none if a signal killed it.
    #[cfg(unix)]
    async fn end(mut self) -> Option<i32> {
        let ended = timeout(NET, self.child.wait()).await;
        ended.expect("it goes on").unwrap().code()
    }
}

async fn until_ready_is(status: u16, page: SocketAddr) -> Got {
    let asked = async {
        loop {
            let ready = admin(page, "/readyz").await;
            if ready.status == status {
                return ready;
            }
        }
    };
    let asked = timeout(NET, asked).await;
    asked.unwrap_or_else(|_| panic!("/readyz never was {status}"))
}

/// A connection may still be taken just after the end, and one to a free port of this machine may
/// now and then meet itself.
async fn until_closed(address: SocketAddr) {
    let tried = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(NET, tried).await.expect("it goes on listening");
}

/// An upstream, and an authorization server that is discovered and takes tokens back.
struct Mesh {
    upstream: Upstream,
    issuer: Issuer,
    folder: Folder,
}

impl Mesh {
    async fn start() -> Self {
        Self {
            upstream: Upstream::start(),
            issuer: Issuer::start(),
            folder: Folder::new(),
        }
    }

    fn file(&self, drain: u64) -> String {
        let (origin, issuer) = (self.upstream.origin(), &self.issuer.url);
        let secret = self.folder.file("secret", "hunter2");
        format!(
            "{}drain = {drain}\n[upstream.\"a.internal\"]\norigin = {origin:?}\n\
             issuer = {issuer:?}\nclient_id = \"c\"\nclient_secret_file = {secret:?}\n",
            ports()
        )
    }
}

struct Issuer {
    url: String,
    revoked: watch::Receiver<Vec<String>>,
    _running: Running,
}

impl Issuer {
    fn start() -> Self {
        let (revoke, revoked) = watch::channel(Vec::new());
        let (revoke, heard) = (Arc::new(revoke), Arc::new(Heard::default()));
        let (address, running) = listen(move |stream| {
            let (url, heard) = (stream.local_addr().unwrap(), heard.connection());
            let (url, revoke) = (format!("http://{url}"), Arc::clone(&revoke));
            let service = service_fn(move |request: Request<Incoming>| {
                let (url, revoke) = (url.clone(), Arc::clone(&revoke));
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let answer = match &*path {
                        "/token" => json!({"access_token": "from-issuer", "token_type": "Bearer"}),
                        "/revoke" => {
                            let body = String::from_utf8(body.to_vec()).unwrap();
                            revoke.send_modify(|revoked| revoked.push(body));
                            json!({})
                        }
                        _ => json!({
                            "issuer": url,
                            "token_endpoint": format!("{url}/token"),
                            "revocation_endpoint": format!("{url}/revoke"),
                        }),
                    };
                    let answer = Full::<Bytes>::from(answer.to_string());
                    let answer = Response::builder()
                        .header("content-type", "application/json")
                        .body(answer);
                    Ok(answer.unwrap())
                }
            });
            connection(Tee { stream, heard }, service)
        });
        Self {
            url: format!("http://{address}"),
            revoked,
            _running: running,
        }
    }
}
