//! *A second source* (`or_else`): asked where the first has nothing, and told nothing of its secrets.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower_oauth::{
    ClientAuth, ClientCredentials, TokenCache, TokenEndpoint, TokenSource, store::Memory,
};

use crate::support::secs;

const MINUTE: Duration = secs(60);

/// Each answer brings the next token by its name, and a refresh token.
#[derive(Clone)]
struct Server {
    name: &'static str,
    lifetime: Duration,
    is_away: Arc<AtomicBool>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(name: &'static str, lifetime: Duration) -> Self {
        Self {
            name,
            lifetime,
            is_away: Arc::default(),
            bodies: Arc::default(),
        }
    }

    fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }

    fn requests(&self) -> usize {
        self.bodies().len()
    }

    fn source(&self) -> ClientCredentials {
        let server = self.clone();
        let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        let endpoint = TokenEndpoint::builder(format!("https://{}.example/token", self.name));
        let auth = ClientAuth::basic("id", "pw");
        ClientCredentials::new(
            endpoint
                .client_auth(auth)
                .transport(transport)
                .build()
                .unwrap(),
        )
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Response<String>, io::Error> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut bodies = self.bodies.lock().unwrap();
        bodies.push(String::from_utf8(body.to_vec()).unwrap());
        let (name, n, life) = (self.name, bodies.len(), self.lifetime.as_secs());
        Ok(Response::new(format!(
            r#"{{"access_token":"{name}{n}","expires_in":{life},"refresh_token":"secret-of-{name}"}}"#
        )))
    }
}

fn pair() -> (Server, Server) {
    (Server::new("a", MINUTE * 60), Server::new("b", MINUTE * 10))
}

#[tokio::test]
async fn no_server_sees_the_refresh_token_of_another() {
    for is_shared in [false, true] {
        let (a, b) = pair();
        let keeping = |server: &Server| server.source().keep_refresh_token();
        let either = keeping(&a).or_else(keeping(&b));
        let cache = match is_shared {
            true => TokenCache::from(either.shared(Memory::new())),
            false => TokenCache::from(either),
        };
        for is_away in [false, true, false, true] {
            a.set_away(is_away);
            cache.get().await.unwrap();
            cache.invalidate();
        }
        assert_eq!((a.requests(), b.requests()), (2, 2));
        for (server, others) in [(&a, "secret-of-b"), (&b, "secret-of-a")] {
            let bodies = server.bodies();
            assert!(!bodies.concat().contains(others), "{is_shared}: {bodies:?}");
            assert!(bodies[1].contains(server.name), "its own: {bodies:?}");
        }
    }
}
