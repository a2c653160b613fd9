//! Which attempt was answered.

use http::Response;

/// Which send of a request an answer is to, and with which token: for people's logs.
///
/// It is among a response's [extensions](http::Response::extensions) if the token was refused,
/// whether the request could be sent again or not. By default an answer to a request that was sent
/// once, without more ado, has none, as it would cost each request three allocations;
/// [`OAuthLayer::report_attempts`](crate::OAuthLayer::report_attempts) puts one on every answer to
/// a request that carried the token, so that one without went without the token.
///
/// ```
/// use tower_oauth::Attempt;
///
/// fn log<R>(response: &http::Response<R>) {
///     let sends = response.extensions().get::<Attempt>().map_or(1, |attempt| attempt.sends);
///     println!("{} after {sends} sends", response.status());
/// }
/// # log(&http::Response::new(()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// How many times the request was sent: 1 or 2.
    pub sends: u8,
    /// Which token the answered send carried: they are counted from 1, over all that the cache has
    /// held.
    pub generation: u64,
}

impl Attempt {
    /// Puts this among the answer's extensions.
    pub(crate) fn note_on<R>(self, answer: &mut Response<R>) {
        answer.extensions_mut().insert(self);
    }
}
