//! `doorward.toml` as it was written.

use std::path::Path;

use super::Config;
use crate::document::{Diagnostics, SourceFile};

/// The configuration in the file at `path`; secrets from files and the environment.
///
/// # Errors
/// Every mistake, with its place.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    let mut found = Diagnostics::default();
    let file = SourceFile::new(path.display().to_string(), "");
    found.error(&file, 0..0, "cannot be read", None);
    Err(found)
}
