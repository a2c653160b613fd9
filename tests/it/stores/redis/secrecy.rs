//! What can be read by whoever reads Redis, or its files, or what this library prints.

use std::{fs, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use tower_oauth::store::{EncryptionKey, Redis};

use super::{lease, server::Server, write};

const SECRET: &str = "refresh-token-hunter2-hunter2";

/// Everything that Redis has, in the forms that it gives it in, and what lies on its disk.
async fn everything(server: &Server) -> Vec<u8> {
    let mut all = Vec::new();
    let names: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert!(!names.is_empty());
    for name in names {
        let dump: Vec<u8> = server.ask(&["DUMP", &name]).await;
        all.extend(name.as_bytes());
        all.extend(dump);
        let kind: String = server.ask(&["TYPE", &name]).await;
        let values: Vec<Vec<u8>> = match kind.as_str() {
            "hash" => server.ask(&["HVALS", &name]).await,
            _ => vec![server.ask(&["GET", &name]).await],
        };
        all.extend(values.concat());
    }
    let mut folders = vec![server.folder().clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                all.extend(fs::read(path).unwrap());
            }
        }
    }
    all
}

fn tells(all: &[u8]) -> bool {
    let whole = SECRET.as_bytes();
    let forms = (0..3).map(|skip| BASE64_STANDARD.encode(&whole[skip..]));
    let inner = forms.map(|form| form.as_bytes()[..16].to_vec());
    let parts = inner.chain([whole[..8].to_vec(), b"hunter2".to_vec()]);
    parts
        .into_iter()
        .any(|part| all.windows(part.len()).any(|window| window == part))
}

#[tokio::test]
async fn with_a_key_nothing_can_be_read_in_redis_and_without_one_it_can() {
    for (key_given, readable) in [(true, false), (false, true)] {
        let Some(server) = Server::start(&["--appendonly", "yes"]).await else {
            return;
        };
        let mut store = server.store();
        if key_given {
            store = store.encrypted_with(EncryptionKey::from_bytes([9; 32]));
        }
        let holder = lease(&store, "one", Duration::from_secs(60)).await;
        let fence = Some(holder.fence());
        write(&store, None, (1, SECRET), fence).await.unwrap();
        write(&store, Some(1), (2, SECRET), fence).await.unwrap();
        assert_eq!(tells(&everything(&server).await), readable);
    }
}

#[test]
fn a_store_shows_its_host_and_prefix_and_no_password() {
    let store = Redis::new("rediss://tokens:hunter2@redis.internal:6380/1").unwrap();
    let shown = format!("{:?}", store.prefix("billing"));
    assert!(
        shown.contains("redis.internal:6380") && shown.contains("billing"),
        "{shown}"
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains("tokens"),
        "{shown}"
    );
}
