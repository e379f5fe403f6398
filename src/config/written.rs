//! `doorward.toml` as it was written.
