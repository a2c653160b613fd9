//! The example whose processes are killed and stopped while they share logins, for a short while, beside
//! all other tests. What depends on time, such as a lease that a busy machine lets end, it judges by
//! itself where it runs alone.

use std::{collections::HashMap, env, path::PathBuf, process::Command};

/// Cargo builds the examples before it runs the tests, unless it is told to build these only.
fn program() -> Option<PathBuf> {
    let test = env::current_exe().unwrap();
    let built = test.parent().and_then(|folder| folder.parent()).unwrap();
    let program = built.join("examples/fleet");
    if program.exists() {
        return Some(program);
    }
    let missing = format!("{} isn't built", program.display());
    let required = env::var("REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "{missing}");
    println!("skipped: {missing}");
    None
}

/// The figures of the table, by what they are.
fn table(shown: &str) -> HashMap<String, f64> {
    let rows = shown.lines().filter_map(|line| {
        let (name, figure) = line.trim().rsplit_once(' ')?;
        Some((name.trim().to_owned(), figure.parse().ok()?))
    });
    rows.collect()
}

fn keeps_its_promises(store: &str, workers: &str, logins: &str) {
    let Some(program) = program() else {
        return;
    };
    let output = Command::new(program)
        .args(["--seconds", "12", "--seed", "7", "--store", store])
        .args(["--workers", workers, "--logins", logins])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some(), "{shown}\n{problem}");
    let table = table(&shown);
    for (name, least) in [
        ("rotations", 10.0),
        ("accepted by the API", 50.0),
        ("workers killed", 1.0),
    ] {
        let figure = table.get(name).copied();
        assert!(figure >= Some(least), "{name}: {shown}\n{problem}");
    }
    for (name, figure) in [
        ("reuse events", 0.0),
        ("families revoked", 0.0),
        ("times redeemed, per refresh token (max)", 1.0),
    ] {
        assert_eq!(table[name], figure, "{name}: {shown}");
    }
}

#[test]
fn processes_that_are_killed_and_stopped_redeem_each_refresh_token_once_by_a_file() {
    // Each of its writes goes to the disk, one after the other.
    keeps_its_promises("file", "4", "8");
}

#[cfg(feature = "redis")]
#[test]
fn processes_that_are_killed_and_stopped_redeem_each_refresh_token_once_by_redis() {
    if Command::new("redis-server")
        .arg("--version")
        .output()
        .is_err()
    {
        let missing = "redis-server is missing; the package `redis-server` brings it";
        let required = env::var("REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "{missing}");
        println!("skipped: {missing}");
        return;
    }
    keeps_its_promises("redis", "8", "30");
}
