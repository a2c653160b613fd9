//! The bearer token in the `Authorization` header (RFC 6750 §2.1).

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// One value goes out, whatever was there: two would be ambiguous (RFC 9449 §7.2).
pub(crate) fn put(headers: &mut HeaderMap, value: HeaderValue) {
    headers.insert(AUTHORIZATION, value);
}

/// False if there is one, and then the headers are as they were.
///
/// One lookup: asking first whether there is one would cost as much again as putting it there.
#[inline]
pub(super) fn put_if_none(headers: &mut HeaderMap, value: &HeaderValue) -> bool {
    let was_there = headers.append(AUTHORIZATION, value.clone());
    if was_there {
        take_back(headers);
    }
    !was_there
}

/// Removes the last of the values.
#[cold]
fn take_back(headers: &mut HeaderMap) {
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().cloned().collect();
    let Some((_, before)) = values.split_last() else {
        return;
    };
    for (nth, value) in before.iter().enumerate() {
        // The first takes the place of all, where they stand among the headers.
        if nth == 0 {
            headers.insert(AUTHORIZATION, value.clone());
        } else {
            headers.append(AUTHORIZATION, value.clone());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        headers.append("accept", HeaderValue::from_static("text/html"));
        headers.insert("x-last", HeaderValue::from_static("1"));
        headers
    }

    #[test]
    fn a_token_is_put_where_there_is_none() {
        let mut put_on = headers(&[]);
        assert!(put_if_none(&mut put_on, &"Bearer a".parse().unwrap()));
        assert_eq!(put_on.get_all(AUTHORIZATION).iter().count(), 1);
    }

    #[test]
    fn what_the_caller_put_there_stays_in_its_order() {
        for own in [&["Basic x"][..], &["Basic x", "Digest y"], &["", "b", "c"]] {
            let mut kept = headers(own);
            assert!(!put_if_none(&mut kept, &"Bearer a".parse().unwrap()));
            let before = headers(own);
            assert!(kept.iter().eq(before.iter()), "{own:?}");
        }
    }
}
