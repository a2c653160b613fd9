//! Strings that never print and leave no trace in memory, and where they may go unencrypted.

use std::{
    env::{self, VarError},
    error::Error,
    fmt, fs,
    net::IpAddr,
    ops::Deref,
    path::PathBuf,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// A secret, such as the client's, a refresh token, a key, a certificate or a token: a value, or a
/// provider that is asked whenever it is needed.
///
/// It never prints, and its memory is overwritten when it is dropped. A provider lets a secret be
/// rotated while the program runs, without a restart:
///
/// ```
/// use tower_oauth::Secret;
///
/// let fixed = Secret::from("s3cr3t");
/// let rotated = Secret::from_file("/run/secrets/client_secret");
/// let from_env = Secret::from_env("CLIENT_SECRET");
/// assert_eq!(format!("{fixed:?}"), "Secret(…)");
/// # let _ = (rotated, from_env);
/// ```
#[derive(Clone)]
pub struct Secret(Kind);

#[derive(Clone)]
enum Kind {
    Value(SecretString),
    Provider(Arc<dyn Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync>),
}

impl Secret {
    /// A secret that `provider` is asked for whenever it is needed, as at each token request.
    ///
    /// The provider may read a small file; it must not block for long. Its error ends that one
    /// request as a transient failure.
    pub fn provided_by<F>(provider: F) -> Self
    where
        F: Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    {
        Self(Kind::Provider(Arc::new(provider)))
    }

    /// A secret that stands in a file, which is read whenever the secret is needed, so that a
    /// rotated one needs no restart.
    ///
    /// One line break at its end, `\n` or `\r\n`, isn't part of it. A file that can't be read ends
    /// that one request as a transient failure, which names the file.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::provided_by(move || {
            let mut text = fs::read_to_string(&path)
                .map_err(|error| format!("{} can't be read: {error}", path.display()))?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let kept = line.strip_suffix('\r').filter(|_| line.len() < text.len());
            text.truncate(kept.unwrap_or(line).len());
            Ok(text)
        })
    }

    /// A secret that stands in an environment variable, which is read whenever the secret is
    /// needed.
    ///
    /// One that isn't set, or isn't UTF-8, ends that one request as a transient failure, which names
    /// the variable.
    pub fn from_env(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::provided_by(move || found(&name, env::var(&name)))
    }

    /// The value, if no provider has to be asked for it.
    pub(crate) fn fixed(&self) -> Option<&SecretString> {
        match &self.0 {
            Kind::Value(value) => Some(value),
            Kind::Provider(_) => None,
        }
    }

    /// The secret as it is now.
    pub(crate) fn reveal(&self) -> Result<SecretString, Box<dyn Error + Send + Sync>> {
        match &self.0 {
            Kind::Value(value) => Ok(value.clone()),
            Kind::Provider(provider) => provider().map(SecretString::from),
        }
    }
}

/// What stands in the environment. The error of the standard library shows what isn't UTF-8.
fn found(
    name: &str,
    value: Result<String, VarError>,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    value.map_err(|problem| {
        let problem = match problem {
            VarError::NotPresent => "isn't set",
            VarError::NotUnicode(_) => "isn't UTF-8",
        };
        format!("the environment variable {name} {problem}").into()
    })
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(Kind::Value(SecretString::from(value.to_owned())))
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(Kind::Value(SecretString::from(value)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A string that doesn't print and is overwritten when it is dropped.
#[derive(Clone)]
pub(crate) struct SecretString(Zeroizing<String>);

impl SecretString {
    /// 256 random bits of the operating system, as 43 characters that need no encoding in a URL.
    pub(crate) fn random() -> Result<Self, NoRandomness> {
        let mut octets = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *octets).map_err(|cause| NoRandomness(cause.to_string()))?;
        Ok(Self::of_octets(&octets))
    }

    /// The same of given bits.
    pub(crate) fn of_octets(octets: &[u8; 32]) -> Self {
        Self::from(BASE64_URL_SAFE_NO_PAD.encode(octets))
    }
}

/// The operating system gave no random numbers; what it said.
#[derive(Debug)]
pub(crate) struct NoRandomness(pub(crate) String);

impl From<String> for SecretString {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl Deref for SecretString {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(…)")
    }
}

/// Whether `host`, as it stands in a URL, is this machine, where a secret may go unencrypted:
/// loopback by address, or by the name that RFC 6761 §6.3 reserves for it.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_asked_each_time() {
        let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let secret = Secret::provided_by({
            let count = Arc::clone(&count);
            move || {
                let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(format!("secret-{n}"))
            }
        });
        assert_eq!(&*secret.reveal().unwrap(), "secret-0");
        assert_eq!(&*secret.reveal().unwrap(), "secret-1");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Secret::from_file("/nowhere/secret").reveal().unwrap_err();
        assert!(error.to_string().contains("/nowhere/secret"), "{error}");
    }

    #[test]
    fn an_environment_variable_is_read_and_named_if_it_is_missing() {
        let path = Secret::from_env("PATH").reveal().unwrap();
        assert_eq!(*path, std::env::var("PATH").unwrap());
        let missing = Secret::from_env("NO_SUCH_VARIABLE_7").reveal().unwrap_err();
        assert!(
            missing.to_string().contains("NO_SUCH_VARIABLE_7"),
            "{missing}"
        );
    }

    #[test]
    fn what_is_no_text_in_the_environment_is_not_shown() {
        let value = Err(VarError::NotUnicode("hunter2".into()));
        let error = found("CLIENT_SECRET", value).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("CLIENT_SECRET isn't UTF-8"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::from("hunter2");
        let shown = format!("{secret:?} {:?}", secret.reveal().unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
