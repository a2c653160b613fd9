//! How long a thread was on a CPU, to the nanosecond, as Linux tells it in a file: `getrusage` says
//! the same to the microsecond at best, and takes unsafe code.

use std::{fs, ops::Sub, thread, time::Duration};

#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// On a CPU.
    pub on: Duration,
    /// Ready to run, while something else was.
    pub waiting: Duration,
}

impl Cpu {
    /// Of this thread. `None` where there is no such file.
    pub fn of_this_thread() -> Option<Self> {
        // What a thread has used since it was last put on its CPU is booked by the timer, or when it
        // leaves: without this up to 4 ms are missing.
        thread::sleep(Duration::from_micros(20));
        Self::read("thread-self")
    }

    /// Of a process's first thread; up to date if it sleeps.
    pub fn of_process(id: u32) -> Option<Self> {
        Self::read(&id.to_string())
    }

    fn read(whose: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{whose}/schedstat")).ok()?;
        let mut numbers = text.split_ascii_whitespace();
        let mut next = || Some(Duration::from_nanos(numbers.next()?.parse().ok()?));
        Some(Self {
            on: next()?,
            waiting: next()?,
        })
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            on: self.on - earlier.on,
            waiting: self.waiting - earlier.waiting,
        }
    }
}
