//! Where and by what it was measured.

use std::{fs, process::Command};

/// In one line.
pub fn line() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split(':').nth(1));
        value.map(str::trim).unwrap_or("?").to_owned()
    };
    // Not by how many this thread may run on: it is pinned.
    let cpus = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let rustc = Command::new("rustc").arg("-V").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let rustc = rustc.unwrap_or_default();
    let version: Vec<_> = rustc.split_whitespace().take(2).collect();
    format!(
        "{} (family {}, model {}), {cpus} CPUs, {}, release with thin LTO",
        field("model name"),
        field("cpu family"),
        field("model\t"),
        version.join(" ")
    )
}

/// Of the crate beside which all this lies.
pub fn crate_version() -> &'static str {
    let manifest = include_str!("../../../Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = "));
    version.unwrap_or_default().trim_matches('"')
}

/// Of the crates beside which ours is measured, as they are locked.
pub fn peers() -> String {
    let lock = include_str!("../Cargo.lock");
    let version = |name: &&str| {
        let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        let (version, _) = entry.1.split_once('"')?;
        Some(format!("{name} {version}"))
    };
    let versions: Vec<_> = PEERS.iter().filter_map(version).collect();
    versions.join(", ")
}

const PEERS: [&str; 6] = [
    "tower-http",
    "cf-gears-toolkit-auth",
    "kube-client",
    "google-cloud-auth",
    "aliri_tokens",
    "middle",
];
