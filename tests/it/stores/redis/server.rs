//! A Redis of one's own, on a socket in a folder of its own.

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use redis::aio::MultiplexedConnection;
use tower_oauth::store::Redis;

use super::until;

/// Ends when it is dropped.
pub struct Server {
    folder: PathBuf,
    arguments: Vec<String>,
    running: Option<Child>,
}

impl Server {
    /// None if there is no Redis on this machine, which must not be so with `REQUIRE_PEERS=1`.
    pub async fn start(arguments: &[&str]) -> Option<Self> {
        let mut server = Self::stopped(arguments)?;
        server.run().await;
        Some(server)
    }

    /// One that was never started.
    pub fn stopped(arguments: &[&str]) -> Option<Self> {
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let installed = Command::new(PROGRAM).arg("--version").output().is_ok();
        if !installed {
            let missing = format!("{PROGRAM} is missing; the package `redis-server` brings it");
            let required = env::var("REQUIRE_PEERS").is_ok_and(|value| value == "1");
            assert!(!required, "{missing}");
            println!("skipped: {missing}");
            return None;
        }
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("tower-oauth-redis-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Some(Self {
            folder,
            arguments: arguments.iter().map(|&argument| argument.into()).collect(),
            running: None,
        })
    }

    pub fn add(&mut self, arguments: &[&str]) {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
    }

    /// Starts it, also again, and waits until it answers.
    pub async fn run(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.args(["--port", "0", "--save", "", "--daemonize", "no"]);
        command.arg("--dir").arg(&self.folder);
        command.arg("--unixsocket").arg(self.socket());
        command.args(&self.arguments);
        let log = fs::File::create(self.folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log);
        self.running = Some(command.spawn().unwrap());
        until(async || {
            let connection = self.client().get_multiplexed_async_connection().await;
            let answer: Result<String, _> =
                redis::cmd("PING").query_async(&mut connection.ok()?).await;
            // Where a password is needed, that is an answer too.
            let answers = answer.map_or_else(|error| error.code() == Some("NOAUTH"), |_| true);
            answers.then_some(())
        })
        .await;
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket())
    }

    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("{}?user={user}&pass={password}", self.url())
    }

    pub fn store(&self) -> Redis {
        Redis::new(&self.url()).unwrap()
    }

    /// What a command answers, by another connection each time.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.connection().await;
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await.unwrap()
    }

    pub async fn connection(&self) -> MultiplexedConnection {
        let connection = self.client().get_multiplexed_async_connection().await;
        connection.unwrap()
    }

    /// The key of the record at this key, and that of the lease.
    pub fn keys(&self, key: &tower_oauth::store::StoreKey) -> [String; 2] {
        let record = format!("{{tower-oauth:{}}}", key.as_str());
        [record.clone(), format!("{record}:lease")]
    }

    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// As the power does.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }

    /// It is there, and does nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.running.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    fn socket(&self) -> String {
        self.folder.join("socket").to_str().unwrap().to_owned()
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Two that nobody has now. If somebody else is faster, the server doesn't start, and the test fails.
pub fn free_ports() -> [String; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|port| port.local_addr().unwrap().port().to_string())
}

const PROGRAM: &str = "redis-server";
