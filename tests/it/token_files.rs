//! Tokens in files that somebody else writes, as Kubernetes projects them.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tower_oauth::{Demand, FileToken, TokenCache, TokenError, TokenSource};

/// A volume as kubelet writes it: `token` leads through `..data` to a folder that is swapped whole.
struct Volume {
    path: PathBuf,
    swaps: AtomicU32,
}

impl Volume {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-oauth-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self {
            path,
            swaps: AtomicU32::new(0),
        }
    }

    fn token(&self) -> PathBuf {
        self.path.join("token")
    }

    fn rotate(&self, content: &str) {
        let folder = format!("..{}", self.swaps.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(self.path.join(&folder)).unwrap();
        fs::write(self.path.join(&folder).join("token"), content).unwrap();
        let (link, data) = (self.path.join("..data_tmp"), self.path.join("..data"));
        let old = fs::read_link(&data).ok();
        symlink(&folder, &link).unwrap();
        fs::rename(&link, &data).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.path.join(old)).unwrap();
        } else {
            symlink("..data/token", self.token()).unwrap();
        }
    }

    /// What kubelet never does.
    fn truncate(&self) {
        fs::write(self.token(), "").unwrap();
    }

    fn vanish(&self) {
        fs::remove_file(self.path.join("..data")).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

async fn ask(source: &FileToken) -> Result<String, TokenError> {
    let token = source.token(Demand::default()).await?;
    Ok(token.expose_secret().to_owned())
}

// rule F43
#[tokio::test]
async fn a_swapped_link_leads_to_the_new_token_and_line_breaks_are_left_out() {
    let volume = Volume::new("swap");
    volume.rotate("first\n");
    let source = FileToken::new(volume.token());
    assert_eq!(ask(&source).await.unwrap(), "first");
    volume.rotate("second\r\n");
    assert_eq!(ask(&source).await.unwrap(), "second");
}

#[tokio::test]
async fn the_last_good_token_outlives_a_file_that_is_gone_or_empty() {
    let volume = Volume::new("gone");
    volume.rotate("good");
    let source = FileToken::new(volume.token());
    assert_eq!(ask(&source).await.unwrap(), "good");
    volume.truncate();
    assert_eq!(ask(&source).await.unwrap(), "good");
    volume.vanish();
    assert_eq!(ask(&source).await.unwrap(), "good");

    let late = FileToken::new(volume.token());
    let error = ask(&late).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let path = volume.token();
    let path = path.to_str().unwrap();
    assert!(error.to_string().contains(path), "{error}");
}

#[tokio::test]
async fn an_unusable_file_is_named_and_its_content_is_not() {
    let volume = Volume::new("unusable");
    for content in ["", "hunter2 hunter2", "caf\u{e9}"] {
        volume.rotate(content);
        let error = ask(&FileToken::new(volume.token())).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("no usable token"), "{shown}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("caf"),
            "{shown}"
        );
    }
    let error = ask(&FileToken::new(Path::new("/"))).await.unwrap_err();
    assert!(
        error
            .get_ref()
            .source()
            .is_some_and(|cause| cause.is::<io::Error>())
    );
}

// rule F43: paused time stands still while the file is read, so each step is awaited.
#[tokio::test(start_paused = true)]
async fn a_used_token_is_read_again_within_sixty_seconds() {
    let volume = Volume::new("reread");
    volume.rotate("first");
    let cache = TokenCache::from(FileToken::new(volume.token()));
    assert_eq!(cache.get().await.unwrap().expose_secret(), "first");
    volume.rotate("second");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(cache.get().await.unwrap().expose_secret(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_read_again_and_not_handed_back_at_once() {
    let volume = Volume::new("refused");
    volume.rotate("first");
    let cache = TokenCache::from(FileToken::new(volume.token()));
    cache.ready().await.unwrap();
    cache.invalidate();
    let error = cache.get().await.unwrap_err();
    assert!(error.to_string().contains("still has the token"), "{error}");
    assert!(error.is_transient());
    // One server's refusal isn't final, and perhaps not another's.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(cache.get().await.unwrap().expose_secret(), "first");

    volume.rotate("second");
    cache.invalidate();
    assert_eq!(cache.get().await.unwrap().expose_secret(), "second");
}
