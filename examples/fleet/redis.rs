//! A Redis of one's own, on a socket, that keeps each write before it confirms it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{net::UnixStream, time::sleep};
use tower_oauth::BoxError;

const PROGRAM: &str = "redis-server";

/// Ends when it is dropped.
pub struct Redis {
    folder: PathBuf,
    running: Option<Child>,
}

impl Redis {
    /// Why there can be none here.
    pub fn lacks() -> Option<&'static str> {
        if !cfg!(feature = "redis") {
            return Some("this was built without the feature `redis`");
        }
        let installed = Command::new(PROGRAM).arg("--version").output().is_ok();
        (!installed).then_some("redis-server isn't installed")
    }

    pub async fn start(folder: &Path) -> Result<Self, BoxError> {
        let mut redis = Self {
            folder: folder.to_owned(),
            running: None,
        };
        redis.run().await?;
        Ok(redis)
    }

    /// Starts it, also again, and waits until it listens: it has read what it kept by then.
    pub async fn run(&mut self) -> Result<(), BoxError> {
        let _ = std::fs::remove_file(self.socket());
        let log = std::fs::File::create(self.folder.join("redis.log"))?;
        let running = Command::new(PROGRAM)
            .args(["--port", "0", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .arg("--dir")
            .arg(&self.folder)
            .arg("--unixsocket")
            .arg(self.socket())
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()?;
        self.running = Some(running);
        let begun = Instant::now();
        while UnixStream::connect(self.socket()).await.is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                let log = self.folder.join("redis.log");
                return Err(format!("redis-server doesn't start; see {}", log.display()).into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// As the power does.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.kill();
            let _ = running.wait();
        }
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
