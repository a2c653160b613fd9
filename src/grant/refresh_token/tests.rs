//! What only a login can start with; the rest is in `tests/it/rotation.rs`.
