//! A peer's process: how it is found, started and ended.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Ends when it is dropped, and at the latest with this process, whose end closes its stdin.
pub struct Process {
    /// The line it printed when it was ready.
    pub ready: Value,
    _child: Child,
}

impl Process {
    /// Starts a script of a folder in `tests/peers`, and tells it one line. None if something is
    /// missing, which must not be so with `REQUIRE_PEERS=1`.
    pub async fn start(
        interpreter: &str,
        folder: &str,
        script: &str,
        package: Option<&str>,
        hello: &str,
    ) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("tests/peers").join(folder);
        let installed = env::var_os("PEERS_DIR").unwrap_or_else(|| "target/peers".into());
        let venv = root.join(installed).join("venv");
        let interpreter = venv.join("bin").join(interpreter);
        let library = match package {
            Some(package) => python_package(&venv, package),
            None => folder.join("node_modules"),
        };
        for needed in [&interpreter, &library] {
            if !needed.exists() {
                let missing = format!("{} is missing; `.ci/peers` installs it", needed.display());
                let required = env::var("REQUIRE_PEERS").is_ok_and(|value| value == "1");
                assert!(!required, "{missing}");
                println!("skipped: {missing}");
                return None;
            }
        }
        let mut child = Command::new(interpreter)
            .arg(script)
            .current_dir(folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write_all(hello.as_bytes()).await.unwrap();
        stdin.write_all(b"\n").await.unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = timeout(START, stdout.next_line()).await.unwrap().unwrap();
        let ready = ready.expect("it ended before it was ready");
        Some(Self {
            ready: serde_json::from_str(&ready).unwrap(),
            _child: child,
        })
    }
}

/// Where a virtual environment has a package, whatever its Python's version.
fn python_package(venv: &Path, package: &str) -> PathBuf {
    let versions = fs::read_dir(venv.join("lib")).into_iter().flatten();
    let places = versions.map(|version| version.unwrap().path().join("site-packages"));
    let mut packages = places.map(|place| place.join(package));
    let found = packages.find(|package| package.exists());
    found.unwrap_or_else(|| venv.join("lib").join(package))
}

/// For a machine that is busy with the other tests.
const START: Duration = Duration::from_secs(120);
