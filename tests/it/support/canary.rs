//! Secrets that sing: unique texts, and the search for any eight bytes of them in any dress.

use std::{
    collections::HashMap,
    error::Error,
    fmt::{Debug, Write},
    io,
    sync::{Arc, Mutex, Once, OnceLock},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use form_urlencoded::byte_serialize;
use tracing_subscriber::fmt::MakeWriter;

const WINDOW: usize = 8;

/// Finds parts of secrets in a text.
pub struct Search {
    windows: HashMap<[u8; WINDOW], &'static str>,
}

impl Search {
    pub fn new(secrets: &[&'static str]) -> Self {
        let mut windows = HashMap::new();
        for secret in secrets {
            for form in forms(secret) {
                for window in form.windows(WINDOW) {
                    windows.insert(window.try_into().unwrap(), *secret);
                }
            }
        }
        Self { windows }
    }

    /// The secrets in the text, each with the place where it was found first.
    pub fn hits(&self, text: &[u8]) -> Vec<String> {
        let mut hits = HashMap::new();
        for (at, window) in text.windows(WINDOW).enumerate() {
            if let Some(secret) = self.windows.get(window) {
                hits.entry(*secret).or_insert(at);
            }
        }
        let around = |at: usize| &text[at.saturating_sub(80)..text.len().min(at + 80)];
        hits.into_iter()
            .map(|(secret, at)| format!("{secret}: …{}…", String::from_utf8_lossy(around(at))))
            .collect()
    }
}

/// Raw, encoded for forms with either case of digits, and in base64 wherever it may begin.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let encoded: String = byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![secret.to_owned(), encoded.clone(), encoded.to_lowercase()];
    for text in [secret, &encoded] {
        for before in ["", "-", "--"] {
            for engine in [BASE64_STANDARD, BASE64_URL_SAFE] {
                let base64 = engine.encode([before, text].concat());
                // At the ends stand bits of the neighbours.
                forms.push(base64[4..base64.len() - 4].to_owned());
            }
        }
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// All that was shown of values and errors, label by label.
#[derive(Default)]
pub struct Shown(String);

impl Shown {
    pub fn value(&mut self, value: &dyn Debug) {
        writeln!(self.0, "{value:?}\n{value:#?}").unwrap();
    }

    /// The error, and all that it leads to.
    pub fn error(&mut self, error: &(dyn Error + 'static)) {
        let chain = std::iter::successors(Some(error), |&error| error.source());
        for error in chain {
            writeln!(self.0, "{error}\n{error:#}").unwrap();
            self.value(&error);
        }
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Where log lines go.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The messages of all panics from now on, of this test and of those beside it.
pub fn panics() -> &'static Mutex<String> {
    static MESSAGES: OnceLock<Mutex<String>> = OnceLock::new();
    static HOOK: Once = Once::new();
    let messages = MESSAGES.get_or_init(Mutex::default);
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Not `unwrap`: a panic in the hook would end the process.
            if let Ok(mut messages) = messages.lock() {
                let _ = writeln!(messages, "{panic}");
            }
            before(panic);
        }));
    });
    messages
}
