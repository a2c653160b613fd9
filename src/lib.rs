//! A Tower middleware for outbound HTTP clients that puts an OAuth 2.0 access token on each request.

pub mod rejection;
