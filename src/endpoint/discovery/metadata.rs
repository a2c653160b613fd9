//! Read: the members of the metadata that are used (RFC 8414 §2, RFC 8705 §5, RFC 9207 §3).

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::super::{offered::Offered, server::Told, url::Kind};

/// A JSON object: those of its members that are used, not yet judged.
pub(super) struct Document {
    members: Map<String, Value>,
    /// A member stands twice. Parsers differ in which one they take.
    repeated: bool,
}

/// What is used of it.
pub(super) struct Metadata {
    issuer: String,
    endpoints: Vec<(Kind, String)>,
    mtls_aliases: Vec<(Kind, String)>,
    auth_methods: Vec<String>,
    signing_algs: Vec<String>,
    iss_in_response: bool,
}

const ISSUER: &str = "issuer";
const MTLS_ALIASES: &str = "mtls_endpoint_aliases";
const AUTH_METHODS: &str = "token_endpoint_auth_methods_supported";
const SIGNING_ALGS: &str = "token_endpoint_auth_signing_alg_values_supported";
const ISS_IN_RESPONSE: &str = "authorization_response_iss_parameter_supported";

const ENDPOINTS: &[(Kind, &str)] = &[
    (Kind::Token, "token_endpoint"),
    (Kind::Authorization, "authorization_endpoint"),
    (Kind::DeviceAuthorization, "device_authorization_endpoint"),
    (Kind::Revocation, "revocation_endpoint"),
];

/// RFC 8414 §2 lets servers add parameters of their own.
fn is_used(name: &str) -> bool {
    let others = [
        ISSUER,
        MTLS_ALIASES,
        AUTH_METHODS,
        SIGNING_ALGS,
        ISS_IN_RESPONSE,
    ];
    others.contains(&name) || ENDPOINTS.iter().any(|(_, endpoint)| *endpoint == name)
}

impl Document {
    /// `None` if it isn't a JSON object from end to end.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        serde_json::from_slice(body).ok()
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.members.get(ISSUER)?.as_str()
    }

    /// What is wrong with it, else.
    pub(super) fn read(&self) -> Result<Metadata, &'static str> {
        if self.repeated {
            return Err("a member stands twice");
        }
        let endpoints = endpoints_in(&self.members)?;
        if !endpoints.iter().any(|(kind, _)| *kind == Kind::Token) {
            return Err("it has no token_endpoint");
        }
        let mut mtls_aliases = match present(&self.members, MTLS_ALIASES) {
            None => Vec::new(),
            Some(Value::Object(aliases)) => endpoints_in(aliases)?,
            Some(_) => return Err("mtls_endpoint_aliases is no object"),
        };
        // RFC 8705 §5: members "that do not define endpoints to which an OAuth client makes a direct
        // request have no meaning and SHOULD be ignored."
        mtls_aliases.retain(|(kind, _)| *kind != Kind::Authorization);
        let iss_in_response = match present(&self.members, ISS_IN_RESPONSE) {
            None => false,
            Some(Value::Bool(supported)) => *supported,
            Some(_) => {
                return Err("authorization_response_iss_parameter_supported is no boolean");
            }
        };
        Ok(Metadata {
            issuer: self.issuer().unwrap_or_default().to_owned(),
            endpoints,
            mtls_aliases,
            auth_methods: texts(&self.members, AUTH_METHODS)?,
            signing_algs: texts(&self.members, SIGNING_ALGS)?,
            iss_in_response,
        })
    }
}

impl Metadata {
    pub(super) fn into_told(self) -> Told {
        Told {
            issuer: Some(self.issuer),
            listed: self.endpoints,
            mtls_aliases: self.mtls_aliases,
            offered: Some(Offered::new(self.auth_methods, self.signing_algs)),
            iss_in_response: self.iss_in_response,
            ..Told::default()
        }
    }
}

/// `null` says that there is none.
fn present<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).filter(|value| !value.is_null())
}

fn endpoints_in(members: &Map<String, Value>) -> Result<Vec<(Kind, String)>, &'static str> {
    let mut endpoints = Vec::new();
    for (kind, name) in ENDPOINTS {
        match present(members, name) {
            None => {}
            // Some servers leave it empty in place of leaving it out.
            Some(Value::String(url)) if url.is_empty() => {}
            Some(Value::String(url)) => endpoints.push((*kind, url.clone())),
            Some(_) => return Err("an endpoint is no text"),
        }
    }
    Ok(endpoints)
}

fn texts(members: &Map<String, Value>, name: &str) -> Result<Vec<String>, &'static str> {
    let Some(value) = present(members, name) else {
        return Ok(Vec::new());
    };
    let texts = value.as_array().and_then(|list| {
        let texts = list.iter().map(|text| text.as_str().map(ToOwned::to_owned));
        texts.collect()
    });
    texts.ok_or("what it supports is no list of texts")
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document {
            members: Map::new(),
            repeated: false,
        };
        while let Some(name) = map.next_key::<String>()? {
            if is_used(&name) {
                let before = document.members.insert(name, map.next_value()?);
                document.repeated |= before.is_some();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(document)
    }
}
