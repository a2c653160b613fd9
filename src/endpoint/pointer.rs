//! Where in an answer the token is, for servers that wrap it (RFC 6901).

use serde_json::value::RawValue;

use super::members::{Members, Twice};

/// A JSON pointer, taken apart; the empty one leads to the whole answer.
#[derive(Debug, Default)]
pub(super) struct JsonPointer(Vec<String>);

impl JsonPointer {
    /// RFC 6901 §3: empty, or steps that each begin with `/`; `~1` is `/` and `~0` is `~`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(steps) = text.strip_prefix('/') else {
            return Err("it doesn't begin with /; expected is a JSON pointer such as /data/token");
        };
        let steps = steps.split('/').map(|step| {
            let whole = step.replace("~0", "").replace("~1", "");
            if whole.contains('~') {
                return Err("it has a ~ that is neither ~0 (for ~) nor ~1 (for /)");
            }
            Ok(step.replace("~1", "/").replace("~0", "~"))
        });
        steps.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn steps(&self) -> &[String] {
        &self.0
    }

    /// What to say where there is no token.
    pub(super) fn no_token(&self) -> &'static str {
        if self.0.is_empty() {
            "it has no access_token (where the server wraps it, .answer_at(…) says where)"
        } else {
            "it has no access_token, neither where .answer_at(…) points nor at the top"
        }
    }

    /// What it leads to, as it stands in `body`; `None` if there is nothing, or no step to take.
    pub(super) fn follow<'a>(&self, body: &'a [u8]) -> Result<Option<&'a RawValue>, Twice> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut found = serde_json::from_slice(body).ok();
        for name in &self.0 {
            let Some(from) = found else { break };
            found = step(from, name)?;
        }
        Ok(found)
    }
}

fn step<'a>(from: &'a RawValue, name: &str) -> Result<Option<&'a RawValue>, Twice> {
    if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(from.get()) {
        // RFC 6901 §4: no leading zeros, no signs.
        let index = name.parse().ok().filter(|i: &usize| i.to_string() == name);
        return Ok(index.and_then(|index| list.get(index).copied()));
    }
    match Members::of(from) {
        Some(members) => members.only(name),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(pointer: &str, body: &str) -> Option<String> {
        let pointer = JsonPointer::parse(pointer).unwrap();
        pointer
            .follow(body.as_bytes())
            .unwrap()
            .map(|found| found.get().to_owned())
    }

    #[test]
    fn a_pointer_leads_as_rfc_6901_says() {
        let body = r#"{"data":[0,{"a/b":{"m~n":1}}],"":2}"#;
        for (pointer, found) in [
            ("/data/0", Some("0")),
            ("/data/1/a~1b", Some(r#"{"m~n":1}"#)),
            ("/data/1/a~1b/m~0n", Some("1")),
            ("/", Some("2")),
            ("/data/2", None),
            ("/data/00", None),
            ("/data/+0", None),
            ("/data/-", None),
            ("/nothing", None),
            ("/data/0/deeper", None),
            ("", None),
        ] {
            assert_eq!(follow(pointer, body).as_deref(), found, "{pointer}");
        }
        assert_eq!(follow("/1", "[7,8]").as_deref(), Some("8"));
        assert_eq!(follow("/a", "no json"), None);
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for bad in ["data", "data/token", "/a~", "/~2", "$.data"] {
            assert!(JsonPointer::parse(bad).is_err(), "{bad}");
        }
    }
}
