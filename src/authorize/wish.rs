//! What the caller wishes for one request, by its extensions.

use http::Extensions;

/// Sends one request without the token, as its
/// [extension](http::Request::extensions_mut); its 401 is the caller's.
///
/// ```
/// use http::Request;
/// use tower_oauth::NoToken;
///
/// let mut request = Request::get("https://api.example.com/status").body(())?;
/// request.extensions_mut().insert(NoToken);
/// # Ok::<(), http::Error>(())
/// ```
///
/// Wins over [`Fresh`]. The extension stays on the request, for a layer further down as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoToken;

/// Sends one request with a token newer than the one in the cache, as its
/// [extension](http::Request::extensions_mut): for instance after a user has granted more rights.
///
/// ```
/// use http::Request;
/// use tower_oauth::Fresh;
///
/// let mut request = Request::get("https://api.example.com/accounts").body(())?;
/// request.extensions_mut().insert(Fresh);
/// # Ok::<(), http::Error>(())
/// ```
///
/// Differs from [`TokenCache::invalidate`](crate::TokenCache::invalidate) in that the token at
/// hand serves other requests until the newer one is there, and on if none is to be had. The newer
/// one is asked for after the wish, and the source is told the token at hand as rejected, so that
/// one which caches doesn't hand it back. Wishes at the same time share one token request; else
/// each one costs one, and with a redirect follower around the layer, each hop. Where the request
/// fails for want of a newer token, its error is the [`TokenError`](crate::TokenError). While
/// servers refuse fresh tokens as well, and refreshes are held back for that, the token at hand is
/// sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fresh;

/// Which token a request is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    AtHand,
    Newer,
    None,
}

impl Wish {
    pub(super) fn of(extensions: &Extensions) -> Self {
        if extensions.get::<NoToken>().is_some() {
            Self::None
        } else if extensions.get::<Fresh>().is_some() {
            Self::Newer
        } else {
            Self::AtHand
        }
    }
}
