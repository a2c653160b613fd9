//! *Replaying*: what is kept of uploads stays under the limit, bookkeeping included, and is freed
//! when an upload is over it or its answer is in.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::{sync::watch, task::JoinSet};
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth::{OAuthLayer, ReplayBody, TokenCache};

use crate::support::{api::ORIGIN, secs, settle, source::numbered};

const UPLOADS: usize = 1_000;
const UPLOAD: usize = 10 * 1024 * 1024;
const LIMIT: usize = 64 * 1024;
/// What may be alive at a time: 64 KiB an upload, and 10 % more for keeping it.
const MOST: i64 = (UPLOADS * LIMIT / 10 * 11) as i64;

/// Data that is alive: pieces, and their bytes.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn bytes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn data(&self, bytes: usize) -> Bytes {
        self.0.fetch_add(bytes, Ordering::SeqCst);
        Bytes::from_owner(Piece {
            data: vec![b'x'; bytes].into_boxed_slice(),
            alive: self.clone(),
        })
    }
}

struct Piece {
    data: Box<[u8]>,
    alive: Alive,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.alive.0.fetch_sub(self.data.len(), Ordering::SeqCst);
    }
}

/// Makes each chunk when it is asked for.
struct Upload {
    alive: Alive,
    chunk: usize,
    sent: usize,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // What is over the limit is nobody's to keep: larger chunks make for fewer of them.
        let chunk = match self.sent {
            0..=LIMIT => self.chunk,
            _ => LIMIT,
        };
        let chunk = chunk.min(UPLOAD - self.sent);
        self.sent += chunk;
        Poll::Ready((chunk > 0).then(|| Ok(Frame::data(self.alive.data(chunk)))))
    }
}

/// How far the server reads.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Stage {
    ToTheLimit,
    /// One chunk more.
    OverTheLimit,
    /// Answers, and holds on to the body.
    Answer,
    /// To the end, and answers if it hasn't yet.
    ToTheEnd,
}

/// A thousand uploads at a time on one thread, and a server below that reads as far as it is told.
struct Uploads {
    runtime: tokio::runtime::Runtime,
    stage: watch::Sender<Stage>,
    sending: JoinSet<usize>,
    alive: Alive,
}

impl Uploads {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        Self {
            runtime: runtime.unwrap(),
            stage: watch::Sender::new(Stage::ToTheLimit),
            sending: JoinSet::new(),
            alive: Alive::default(),
        }
    }

    /// Starts them all, and gives the bytes that are allocated then and weren't before.
    fn start(&mut self, chunk: usize, layer: impl FnOnce(OAuthLayer) -> OAuthLayer) -> i64 {
        let cache = TokenCache::from(numbered(secs(3600)).1);
        self.runtime.block_on(cache.ready()).unwrap();
        let layer = layer(OAuthLayer::for_origin(ORIGIN, cache).unwrap());
        let (alive, stage) = (self.alive.clone(), self.stage.clone());
        let client = layer.layer(service_fn(move |request| read(request, stage.subscribe())));
        let sending = &mut self.sending;
        let counted = measure(|| {
            self.runtime.block_on(async {
                for _ in 0..UPLOADS {
                    let alive = alive.clone();
                    let body = Upload {
                        alive,
                        chunk,
                        sent: 0,
                    };
                    let request = Request::put(format!("{ORIGIN}/files/1"))
                        .header("content-type", "application/octet-stream")
                        .header("x-request-id", "7a2c6f0e")
                        .body(body);
                    let client = client.clone();
                    sending.spawn(async move {
                        let answer = client.oneshot(request.unwrap()).await.unwrap();
                        answer.into_body().await.unwrap()
                    });
                }
                settle().await;
            });
        });
        counted.bytes_current
    }

    /// Lets them go on, and gives the change of the allocated bytes.
    fn go_on(&mut self, to: Stage) -> i64 {
        let counted = measure(|| {
            self.runtime.block_on(async {
                self.stage.send_replace(to);
                settle().await;
            });
        });
        counted.bytes_current
    }

    fn end(mut self) {
        self.go_on(Stage::ToTheEnd);
        let sent = self.runtime.block_on(self.sending.join_all());
        assert!(sent.iter().all(|bytes| *bytes == UPLOAD) && sent.len() == UPLOADS);
        assert_eq!(self.alive.bytes(), 0);
    }
}

/// The answer's body is how much was read in the end.
async fn read(
    request: Request<ReplayBody<Upload>>,
    mut stage: watch::Receiver<Stage>,
) -> Result<Response<tokio::task::JoinHandle<usize>>, Infallible> {
    let mut body = Box::pin(request.into_body());
    let mut at = 0;
    while at < LIMIT {
        at += body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
    }
    let to = *stage.wait_for(|to| *to > Stage::ToTheLimit).await.unwrap();
    if to == Stage::OverTheLimit {
        at += body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
        let _ = stage.wait_for(|to| *to > Stage::OverTheLimit).await;
    }
    let reading = async move {
        stage.wait_for(|to| *to == Stage::ToTheEnd).await.unwrap();
        let mut body = pin!(body);
        while let Some(frame) = body.frame().await {
            at += frame.unwrap().into_data().unwrap().len();
        }
        at
    };
    Ok(Response::new(tokio::spawn(reading)))
}

#[test]
fn a_thousand_uploads_are_kept_up_to_the_limit_and_no_longer_than_needed() {
    for chunk in [16 * 1024, 1024] {
        // The same without recording: what remains is its price.
        let mut plain = Uploads::new();
        let base = plain.start(chunk, OAuthLayer::without_retry);
        assert_eq!(plain.alive.bytes(), 0);
        plain.end();

        let mut uploads = Uploads::new();
        let kept = uploads.start(chunk, |layer| layer) - base;
        let data = uploads.alive.bytes();
        println!("chunks of {chunk}: {data} bytes recorded, {kept} allocated for it");
        assert_eq!(data, UPLOADS * LIMIT, "all is there to be sent again");
        assert!(kept <= MOST, "{kept} bytes for {data}");
        let left = kept + uploads.go_on(Stage::OverTheLimit);
        println!(
            "  over the limit {left} are left: {} an upload",
            left / UPLOADS as i64
        );
        assert_eq!(uploads.alive.bytes(), 0);
        assert!(left < 1024 * UPLOADS as i64, "{left}");
        uploads.end();
    }
}

#[test]
fn what_was_kept_is_freed_when_the_answer_is_in() {
    let mut uploads = Uploads::new();
    uploads.start(1024, |layer| layer);
    assert_eq!(uploads.alive.bytes(), UPLOADS * LIMIT);
    let freed = -uploads.go_on(Stage::Answer);
    assert_eq!(uploads.alive.bytes(), 0);
    assert!(freed >= (UPLOADS * LIMIT) as i64, "{freed}");
    uploads.end();
}
