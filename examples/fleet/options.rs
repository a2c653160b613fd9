//! What the command line asks for.

use std::time::Duration;

use tower_oauth::BoxError;

pub const HELP: &str = "\
Many processes share many logins, and some of them are killed.

    cargo run --example fleet --all-features -- [OPTIONS]

    --workers N      processes (default 8)
    --logins N       logins that they share (default 40)
    --seconds N      how long it takes (default 20, without an end if there are --rotations)
    --rotations N    stop when so many refresh tokens were redeemed
    --store WHICH    redis, file, or auto: Redis if it is there (default auto)
    --seed N         repeats the decisions of a run, not its timing (default: another one each time)
    --no-chaos       nobody is killed or stopped, and no answer is late
    --help           this text";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Redis,
    File,
    Auto,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub workers: usize,
    pub logins: usize,
    /// `None` if only the rotations end it.
    pub time: Option<Duration>,
    pub rotations: Option<u64>,
    pub store: Which,
    pub seed: u64,
    pub chaos: bool,
}

impl Options {
    /// `None` if help is wanted.
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, BoxError> {
        let mut options = Self {
            workers: 8,
            logins: 40,
            time: None,
            rotations: None,
            store: Which::Auto,
            seed: fastrand::u64(..1_000_000),
            chaos: true,
        };
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next();
                value.ok_or_else(|| format!("{word} needs a value; see --help"))
            };
            match &*word {
                "--workers" => options.workers = number(&word, &value()?)?,
                "--logins" => options.logins = number(&word, &value()?)?,
                "--seconds" => {
                    options.time = Some(Duration::from_secs(number(&word, &value()?)?));
                }
                "--rotations" => options.rotations = Some(number(&word, &value()?)?),
                "--seed" => options.seed = number(&word, &value()?)?,
                "--no-chaos" => options.chaos = false,
                "--store" => {
                    options.store = match &*value()? {
                        "redis" => Which::Redis,
                        "file" => Which::File,
                        "auto" => Which::Auto,
                        other => return Err(format!("--store {other}: redis, file or auto").into()),
                    }
                }
                "--help" => return Ok(None),
                other => return Err(format!("{other} is no option; see --help").into()),
            }
        }
        if options.workers == 0 || options.logins == 0 {
            return Err("there must be a worker and a login".into());
        }
        if options.time.is_none() && options.rotations.is_none() {
            options.time = Some(Duration::from_secs(20));
        }
        Ok(Some(options))
    }
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    let number = value.parse();
    number.map_err(|_| format!("{word} {value}: a whole number is needed"))
}
