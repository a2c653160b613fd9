#![cfg(unix)]

use std::{
    fs,
    future::{Future, poll_fn},
    os::unix::fs::MetadataExt,
    pin::{Pin, pin},
    sync::mpsc,
    task::Poll,
};

use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};

use super::{super::folder::Folder, *};

impl Folder {
    fn queue(&self) -> Queue {
        Queue::new(self.0.join("tokens"))
    }

    /// As another process has it.
    fn lock(&self) -> Lock {
        Lock::attempt(self.0.join("tokens.lock")).unwrap().unwrap()
    }
}

fn raise(contents: &mut Contents) -> u64 {
    contents.floor = contents.floor.saturating_add(1);
    contents.floor
}

async fn floor(queue: &Queue) -> u64 {
    queue.read().await.unwrap().contents.floor
}

async fn begin<T>(mut change: Pin<&mut impl Future<Output = T>>) {
    let begun = poll_fn(|cx| Poll::Ready(change.as_mut().poll(cx)));
    assert!(begun.await.is_pending());
}

/// Until the server has taken in all who have come.
async fn all_are_in(queue: &Queue) {
    let is_in = || matches!(&*queue.desk.line(), Line::Open(come) if come.is_empty());
    let all = async {
        while !is_in() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, all).await.unwrap();
}

#[tokio::test]
async fn a_lock_that_somebody_holds_for_long_is_an_error_and_readers_go_on() {
    let folder = Folder::new("held");
    let queue = Queue::with_patience(folder.0.join("tokens"), Duration::from_millis(20));
    assert_eq!(queue.change(raise).await.unwrap(), 1);
    let other = folder.lock();
    let both = async { tokio::join!(queue.change(raise), queue.change(raise)) };
    let (first, second) = timeout(PATIENCE, both).await.expect("he waits for ever");
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(error.is_transient());
        let said = error.to_string();
        assert!(
            said.contains("tokens.lock for 20ms: let it go on"),
            "{said}"
        );
    }
    assert_eq!(floor(&queue).await, 1);
    drop(other);
    assert_eq!(queue.change(raise).await.unwrap(), 2);
}

#[tokio::test]
async fn who_is_settled_meanwhile_does_not_wait_for_the_lock() {
    let folder = Folder::new("settled");
    let queue = folder.queue();
    queue.change(raise).await.unwrap();
    let other = folder.lock();
    let asked = Mutex::new(0);
    let third = move |contents: &Contents| {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        (*asked == 3).then_some(contents.floor)
    };
    let waits = queue.change(raise);
    let (waits, settled) = tokio::join!(waits, async {
        let settled = queue.change_unless(third, raise).await;
        drop(other);
        settled
    });
    assert_eq!((waits.unwrap(), settled.unwrap()), (2, 1));
    assert_eq!(queue.change_unless(|_| None, raise).await.unwrap(), 3);
}

#[tokio::test]
async fn all_who_wait_at_one_moment_are_written_at_once_and_each_is_told_his_own() {
    let folder = Folder::new("once");
    let queue = folder.queue();
    queue.change(raise).await.unwrap();
    let other = folder.lock();
    let path = folder.0.join("tokens");
    let inode = move || fs::metadata(&path).unwrap().ino();
    let before = inode();
    let mut changes: Vec<_> = (0..40)
        .map(|_| {
            let inode = inode.clone();
            Box::pin(queue.change(move |contents| (raise(contents), inode())))
        })
        .collect();
    for change in &mut changes {
        begin(change.as_mut()).await;
    }
    all_are_in(&queue).await;
    drop(other);
    for (change, floor) in changes.into_iter().zip(2..) {
        assert_eq!(change.await.unwrap(), (floor, before));
    }
    assert_ne!(inode(), before);
    assert_eq!(floor(&queue).await, 41);
}

#[tokio::test]
async fn what_is_asked_for_while_others_are_written_is_not_forgotten() {
    let folder = Folder::new("meanwhile");
    let queue = folder.queue();
    let (inside, told) = mpsc::channel();
    let (go, on) = mpsc::channel();
    let mut first = pin!(queue.change(move |contents| {
        inside.send(()).unwrap();
        on.recv().unwrap();
        raise(contents)
    }));
    begin(first.as_mut()).await;
    while told.try_recv().is_err() {
        yield_now().await;
    }
    let mut second = pin!(queue.change(raise));
    begin(second.as_mut()).await;
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap(), 1);
    let second = timeout(PATIENCE, second).await;
    assert_eq!(second.expect("nobody serves him").unwrap(), 2);
}

#[tokio::test]
async fn for_who_goes_away_what_he_has_is_written_and_what_he_wants_is_not() {
    let folder = Folder::new("away");
    let queue = folder.queue();
    let other = folder.lock();
    {
        let mut has = pin!(queue.change(raise));
        begin(has.as_mut()).await;
        let mut wants = pin!(queue.change_unless(|_| None, |contents| contents.floor = 100));
        begin(wants.as_mut()).await;
        all_are_in(&queue).await;
    }
    drop(other);
    assert_eq!(queue.change(raise).await.unwrap(), 2);
}

#[tokio::test]
async fn a_change_that_panics_is_an_error_and_the_next_is_made() {
    let folder = Folder::new("panics");
    let queue = folder.queue();
    let error = queue.change(|_| panic!("a clock may")).await;
    let error: StoreError = error.map(|(): ()| ()).unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("panicked"), "{error}");
    // He may still have come to the one who is about to leave.
    let next = async {
        loop {
            if let Ok(floor) = queue.change(raise).await {
                return floor;
            }
        }
    };
    let next = timeout(PATIENCE, next).await;
    assert_eq!(next.expect("nobody serves him"), 1);
}

#[tokio::test]
async fn a_runtime_that_is_shut_down_holds_up_nobody_in_another() {
    let folder = Folder::new("runtimes");
    let queue = folder.queue();
    let (tell, told) = mpsc::channel();
    let asked = queue.clone();
    let elsewhere = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _in = handle.enter();
        let mut change = pin!(asked.change(raise));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        tell.send(change.as_mut().poll(&mut cx)).unwrap();
    });
    elsewhere.join().unwrap();
    let Poll::Ready(Err(error)) = told.recv().unwrap() else {
        panic!("it waits for nobody");
    };
    assert!(error.to_string().contains("shut down"), "{error}");
    assert_eq!(queue.change(raise).await.unwrap(), 1);
}
