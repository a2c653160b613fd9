//! The head of a request, kept for a second attempt that hardly ever comes.
//!
//! A clone of the headers would cost an allocation, and two writes to a count of references for each
//! name and value, the first of which often allocates as well. So they are copied as text, one after
//! the other, into memory that is used again, and read from it only after a refusal.

use http::{
    Extensions, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::AUTHORIZATION,
    request::Parts,
    uri::{self, Authority, PathAndQuery, Scheme},
};

use super::text::{Pairs, Room, Text};

/// Method, URI, version, headers and extensions: all but the body, and the token.
#[derive(Debug, Default)]
pub(super) struct Head {
    method: Method,
    version: Version,
    extensions: Extensions,
    text: Text,
    /// The values that are not in the text, in their order.
    apart: Vec<HeaderValue>,
}

impl Head {
    /// Notes the head of a request. Nothing of another one may be left.
    #[inline]
    pub(super) fn note(&mut self, parts: &Parts) {
        // Most often it is the one that the last request had here.
        if self.method != parts.method {
            self.method = parts.method.clone();
        }
        self.version = parts.version;
        if !parts.extensions.is_empty() {
            self.extensions = parts.extensions.clone();
        }
        self.text.fill(|room| {
            self.apart.clear();
            let mut room = write_uri(&parts.uri, room)?;
            for (name, value) in &parts.headers {
                // The second attempt has another one.
                if name != AUTHORIZATION {
                    room = write_field(name, value, room, &mut self.apart)?;
                }
            }
            Some(room)
        });
    }

    /// The request, for its body; `None` if it had a part that only unsafe code can have made.
    pub(super) fn take(&mut self) -> Option<Request<()>> {
        let mut request = Request::new(());
        let mut text = self.text.pairs();
        *request.uri_mut() = read_uri(&mut text)?;
        let headers = request.headers_mut();
        let mut apart = self.apart.drain(..);
        for (name, value) in text {
            let value = match value {
                Some(value) => HeaderValue::from_bytes(value).ok()?,
                None => apart.next()?,
            };
            headers.append(HeaderName::from_bytes(name).ok()?, value);
        }
        *request.method_mut() = self.method.clone();
        *request.version_mut() = self.version;
        *request.extensions_mut() = std::mem::take(&mut self.extensions);
        Some(request)
    }

    /// Forgets the request, and keeps the memory for the next one, unless it is much.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.text.clear();
        if !self.apart.is_empty() || !self.extensions.is_empty() {
            self.clear_the_rest();
        }
    }

    /// Few requests have any.
    #[cold]
    fn clear_the_rest(&mut self) {
        self.apart.clear();
        self.extensions = Extensions::new();
    }
}

#[inline(always)]
fn write_uri<'a>(uri: &Uri, room: Room<'a>) -> Option<Room<'a>> {
    let authority = uri.authority().map(Authority::as_str);
    let path = uri.path_and_query().map(PathAndQuery::as_str);
    let [scheme, authority, path] =
        [uri.scheme_str(), authority, path].map(|part| part.unwrap_or_default().as_bytes());
    room.write(scheme, authority)?.write(path, b"")
}

#[inline(always)]
fn write_field<'a>(
    name: &HeaderName,
    value: &HeaderValue,
    room: Room<'a>,
    apart: &mut Vec<HeaderValue>,
) -> Option<Room<'a>> {
    let name = name.as_str().as_bytes();
    // A copy of a secret would be one more trace of it, and one of a long text is dear.
    if value.is_sensitive() || value.len() > LONGEST_COPIED {
        apart.push(value.clone());
        room.write_half(name)
    } else {
        room.write(name, value.as_bytes())
    }
}

/// A part is `""` where a URI has none.
fn read_uri(text: &mut Pairs<'_>) -> Option<Uri> {
    let ((scheme, authority), (path, _)) = (text.next()?, text.next()?);
    let [scheme, authority, path] =
        [scheme, authority?, path].map(|part| (!part.is_empty()).then_some(part));
    let mut parts = uri::Parts::default();
    parts.scheme = scheme.map(Scheme::try_from).transpose().ok()?;
    parts.authority = authority.map(Authority::try_from).transpose().ok()?;
    parts.path_and_query = path.map(PathAndQuery::try_from).transpose().ok()?;
    Uri::from_parts(parts).ok()
}

/// Copying a value of this length costs about what counting a reference to it does.
const LONGEST_COPIED: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .version(Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.extension(7_u8).body(()).unwrap().into_parts().0
    }

    fn as_it_was(parts: &Parts, again: &Request<()>) {
        assert_eq!(again.method(), parts.method);
        assert_eq!(again.uri(), &parts.uri);
        assert_eq!(again.uri().to_string(), parts.uri.to_string());
        assert_eq!(again.version(), parts.version);
        assert_eq!(again.extensions().get::<u8>(), parts.extensions.get());
        let kept = |(name, _): &(&HeaderName, &HeaderValue)| *name != AUTHORIZATION;
        let before: Vec<_> = parts.headers.iter().filter(kept).collect();
        let after: Vec<_> = again.headers().iter().collect();
        assert_eq!(after, before);
        for (before, after) in before.iter().zip(after) {
            assert_eq!(
                before.1.is_sensitive(),
                after.1.is_sensitive(),
                "{}",
                before.0
            );
        }
    }

    /// Each after the other in one place, where nothing of the one before may be left.
    #[test]
    fn a_head_comes_back_as_it_was_but_for_the_token() {
        let mut head = Head::default();
        let long = [b'x'; LONGEST_COPIED + 1];
        let mut secret = request(
            "GET",
            "https://a.example/",
            &[("x-key", b"hunter2"), ("b", b"1")],
        );
        secret.headers.get_mut("x-key").unwrap().set_sensitive(true);
        let bytes: Vec<u8> = (0x80..=0xff).collect();
        let lengths: Vec<_> = (0..70).map(|length| vec![b'v'; length]).collect();
        let many: Vec<_> = lengths.iter().map(|value| ("x-many", &**value)).collect();
        for parts in [
            request(
                "GET",
                "https://a.example/x?y=1",
                &[("accept", b"*/*"), ("x-b", b"2")],
            ),
            request(
                "POST",
                "/relative",
                &[("authorization", b"Bearer a"), ("x", b"")],
            ),
            request("OPTIONS", "*", &[]),
            request(
                "CONNECT",
                "a.example:443",
                &[("a", b"1"), ("a", b"2"), ("b", b"3"), ("a", b"4")],
            ),
            request(
                "PROPFIND-BUT-LONGER-THAN-INLINE",
                "http://user@[::1]:80",
                &[("long", &long)],
            ),
            request(
                "GET",
                "ftp+x://a.example/%7e?a=b&c",
                &[("bytes", &bytes), ("y", b"z")],
            ),
            secret,
            request("PUT", "https://a.example/", &many),
            request("GET", "/", &[]),
        ] {
            head.note(&parts);
            as_it_was(&parts, &head.take().unwrap());
            head.clear();
        }
    }

    #[test]
    fn a_copy_of_a_secret_is_not_made() {
        let mut parts = request("GET", "/", &[("x-key", b"hunter2-hunter2")]);
        parts.headers.get_mut("x-key").unwrap().set_sensitive(true);
        let mut head = Head::default();
        head.note(&parts);
        let shown = format!("{:?}", head.text);
        let codes = format!("{:?}", b"hunter2").replace(['[', ']'], "");
        assert!(!shown.contains(&codes), "{shown}");
    }

    #[test]
    fn what_was_put_on_a_request_goes_with_it() {
        let dropped = std::sync::Arc::new(());
        let mut parts = request("GET", "/", &[]);
        parts.extensions.insert(std::sync::Arc::clone(&dropped));
        let mut head = Head::default();
        head.note(&parts);
        drop(parts);
        assert_eq!(std::sync::Arc::strong_count(&dropped), 2);
        head.clear();
        assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
    }
}
