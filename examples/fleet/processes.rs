//! The workers as processes: started, killed, stopped, and started again.

use std::{
    process::Stdio,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
};
use tower_oauth::BoxError;

use crate::{
    log::{Log, Worker},
    worker::Job,
};

pub type SharedLog = Arc<StdMutex<Log>>;

pub fn with<T>(log: &SharedLog, act: impl FnOnce(&mut Log) -> T) -> T {
    act(&mut log.lock().unwrap_or_else(PoisonError::into_inner))
}

pub struct Processes {
    job: Job,
    log: SharedLog,
    slots: Vec<Mutex<Slot>>,
    listeners: StdMutex<Vec<JoinHandle<()>>>,
}

/// Whoever has this may signal the process: it isn't reaped meanwhile, and nobody else gets its id.
struct Slot {
    worker: Worker,
    /// Killed when it is dropped, also where it is stopped.
    child: Child,
    stopped: bool,
}

impl Processes {
    pub fn start(job: Job, count: usize, log: SharedLog) -> Result<Arc<Self>, BoxError> {
        let mut processes = Self {
            job,
            log,
            slots: Vec::new(),
            listeners: StdMutex::default(),
        };
        for _ in 0..count {
            let slot = processes.spawn()?;
            processes.slots.push(Mutex::new(slot));
        }
        Ok(Arc::new(processes))
    }

    fn spawn(&self) -> Result<Slot, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(self.job.written())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let worker = with(&self.log, Log::worker_starts);
        let stdout = child.stdout.take().ok_or("a worker has no output")?;
        let log = Arc::clone(&self.log);
        let listener = tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match line.parse() {
                    Ok(line) => with(&log, |log| log.hear(worker, line)),
                    Err(()) => println!("worker {worker} says: {line}"),
                }
            }
        });
        self.listeners().push(listener);
        Ok(Slot {
            worker,
            child,
            stopped: false,
        })
    }

    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Kills the worker in this slot, and starts another one in its place.
    pub async fn kill(&self, slot: usize) -> Result<(), BoxError> {
        let mut slot = self.slots[slot].lock().await;
        self.end(&mut slot).await?;
        *slot = self.spawn()?;
        Ok(())
    }

    async fn end(&self, slot: &mut MutexGuard<'_, Slot>) -> Result<(), BoxError> {
        let worker = slot.worker;
        if let Some(status) = slot.child.try_wait()? {
            return Err(format!("worker {worker} ended by itself: {status}").into());
        }
        with(&self.log, |log| log.worker_is_killed(worker));
        slot.child.start_kill()?;
        slot.child.wait().await?;
        Ok(())
    }

    /// Stops the worker in this slot; `None` if it is stopped already.
    pub async fn stop(&self, slot: usize) -> Result<Option<Worker>, BoxError> {
        let mut slot = self.slots[slot].lock().await;
        if slot.stopped {
            return Ok(None);
        }
        let worker = slot.worker;
        with(&self.log, |log| log.worker_is_stopped(worker));
        signal(&slot.child, "-STOP").await?;
        slot.stopped = true;
        Ok(Some(worker))
    }

    /// Lets `worker` go on, if it is still there.
    pub async fn go_on(&self, slot: usize, worker: Worker) -> Result<(), BoxError> {
        let mut slot = self.slots[slot].lock().await;
        if slot.worker == worker && slot.stopped {
            signal(&slot.child, "-CONT").await?;
            slot.stopped = false;
            with(&self.log, |log| log.worker_goes_on(worker));
        }
        Ok(())
    }

    /// Ends all of them, and hears what they had to say. They don't count as killed.
    pub async fn close(&self) -> Result<(), BoxError> {
        for slot in &self.slots {
            let mut slot = slot.lock().await;
            slot.child.start_kill()?;
            slot.child.wait().await?;
        }
        let listeners = std::mem::take(&mut *self.listeners());
        for listener in listeners {
            listener.await?;
        }
        Ok(())
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn signal(child: &Child, signal: &str) -> Result<(), BoxError> {
    let id = child.id().ok_or("a worker has ended")?;
    let mut kill = Command::new("kill");
    let status = kill.args([signal, &id.to_string()]).status().await?;
    if !status.success() {
        return Err(format!("kill {signal} {id}: {status}").into());
    }
    Ok(())
}
