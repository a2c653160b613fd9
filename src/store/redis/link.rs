//! The connection that all clones share, and how long each thing may take.

use std::{future::Future, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, RedisError, RedisResult,
    ScriptInvocation, aio::MultiplexedConnection,
};
use rustls::crypto::{CryptoProvider, ring};
use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};

use super::{
    failure::Place,
    waiting::{Ears, Mouth},
};
use crate::source::StoreError;

pub(super) struct Link {
    client: Client,
    host: String,
    /// The lock is held while one is made, so that all wait for the same.
    line: Mutex<Option<Line>>,
}

/// A connection as long as it lasts. It isn't the crate's `ConnectionManager`: that one keeps a
/// connection whose answers don't come, as after a network's failure or a failover.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    ears: Arc<Ears>,
    /// Who subscribes and who unsubscribes don't overtake each other.
    subscribing: Arc<Mutex<()>>,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self {
            host: client.get_connection_info().addr().to_string(),
            client,
            line: Mutex::new(None),
        }
    }

    /// Host and port, or the path of the socket.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The answer to a command.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        place: &Place,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let asked = async {
            let mut line = self.line().await?;
            let answer = command.query_async(&mut line.connection).await;
            line.judge(answer)
        };
        self.in_time(place, asked).await
    }

    /// What a script returns. Redis is given it once, and again when it forgot.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        place: &Place,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let asked = async {
            let mut line = self.line().await?;
            let answer = call.invoke_async(&mut line.connection).await;
            line.judge(answer)
        };
        self.in_time(place, asked).await
    }

    /// Waits for the next message of this place's channel; when this returns, none gets lost but with
    /// the connection.
    pub(super) async fn listen(&self, place: &Place) -> Result<oneshot::Receiver<()>, StoreError> {
        let subscribed = async {
            let mut line = self.line().await?;
            let turn = line.subscribing.clone();
            let _turn = turn.lock().await;
            let (told, idle) = line.ears.listen(&place.channel);
            if !idle.is_empty() {
                let left = line.connection.unsubscribe(idle).await;
                line.judge(left)?;
            }
            let subscribed = line.connection.subscribe(&place.channel).await;
            line.judge(subscribed)?;
            Ok(told)
        };
        self.in_time(place, subscribed).await
    }

    async fn in_time<T>(
        &self,
        place: &Place,
        act: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        match timeout(LIMIT, act).await {
            Ok(outcome) => outcome.map_err(|error| {
                let password = self
                    .client
                    .get_connection_info()
                    .redis_settings()
                    .password();
                place.failed(&error, password)
            }),
            Err(_) => Err(place.late()),
        }
    }

    async fn line(&self) -> RedisResult<Line> {
        let mut kept = self.line.lock().await;
        if let Some(line) = kept.as_ref().filter(|line| line.ears.is_open()) {
            return Ok(line.clone());
        }
        Ok(kept.insert(self.connect().await?).clone())
    }

    async fn connect(&self) -> RedisResult<Line> {
        if let ConnectionAddr::TcpTls { .. } = self.client.get_connection_info().addr() {
            provide_cryptography();
        }
        let ears = Arc::new(Ears::new());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTED))
            .set_response_timeout(Some(ANSWERED))
            .set_push_sender(Mouth(ears.clone()));
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let connection = connecting.await?;
        Ok(Line {
            connection,
            ears,
            subscribing: Arc::default(),
        })
    }
}

impl Line {
    /// A connection that failed, or was silent for too long, is used by nobody any more.
    fn judge<T>(&self, outcome: RedisResult<T>) -> RedisResult<T> {
        if outcome.as_ref().is_err_and(broken) {
            self.ears.close();
        }
        outcome
    }
}

fn broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

/// rustls panics where it can't tell which cryptography is meant: a program whose crates brought in
/// two kinds, or none, and that has chosen none. What the program chose stands.
fn provide_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // It fails if somebody else was faster, and then there is one.
        let _ = ring::default_provider().install_default();
    }
}

/// For a connection: its name found, TCP, TLS and the login.
const CONNECTED: Duration = Duration::from_secs(2);
/// For an answer.
const ANSWERED: Duration = Duration::from_secs(2);
/// For all of it: who waits for another's connection, or gives Redis a script that it forgot, has
/// more than these two.
const LIMIT: Duration = Duration::from_millis(4500);
