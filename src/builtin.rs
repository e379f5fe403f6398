//! What is built into the program, so that it works at once and from any folder.

use crate::enrich::geoip::{GeoDb, GeoDbError};

/// The free country database in `geoip/`, about 5 MB.
static GEOIP: &[u8] = include_bytes!("../geoip/iptoasn-country.mmdb");

/// The files of `rules/` with these names, each with its text.
macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../rules/", $name)))),+]
    };
}

/// The files of `rules/` that doorward reads, by their path in it; a test holds the list to
/// what the folder holds.
const RULES: &[(&str, &str)] = files![
    "address-changed.rule.yaml",
    "failed-logins-many-ips.rule.yaml",
    "failed-logins-many.rule.yaml",
    "first-seen-country.rule.yaml",
    "password-spraying.rule.yaml",
    "recovery-code-new-country.rule.yaml",
    "recovery-code-used.rule.yaml",
    "reset-from-malicious-ip.rule.yaml",
    "second-factor-off-new-country.rule.yaml",
    "second-factor-reset-by-owner.rule.yaml",
    "second-factor-reset.rule.yaml",
    "second-factor-switched-off.rule.yaml",
    "sso-bypassed-by-password.rule.yaml",
    "two-factor-failure-streak.rule.yaml",
    "address-changed.test.yaml",
    "failed-logins-many-ips.test.yaml",
    "failed-logins-many.test.yaml",
    "first-seen-country.test.yaml",
    "password-spraying.test.yaml",
    "recovery-code-new-country.test.yaml",
    "recovery-code-used.test.yaml",
    "reset-from-malicious-ip.test.yaml",
    "second-factor-off-new-country.test.yaml",
    "second-factor-reset-by-owner.test.yaml",
    "second-factor-reset.test.yaml",
    "second-factor-switched-off.test.yaml",
    "sso-bypassed-by-password.test.yaml",
    "two-factor-failure-streak.test.yaml",
    "exceptions.yaml",
    "lists.yaml",
    "lists/anonymizers.txt",
    "lists/malicious_ips.txt",
];

/// The built-in copy of the file `relative` in `rules/`.
pub fn rules_file(relative: &str) -> Option<&'static str> {
    RULES
        .iter()
        .find(|(name, _)| *name == relative)
        .map(|(_, text)| *text)
}

/// The built-in files of `rules/`, by their path in it.
pub fn rules_file_names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(name, _)| *name)
}

/// Opens the built-in country database.
///
/// # Errors
/// Never in a released program: a test opens it.
pub fn geoip() -> Result<GeoDb, GeoDbError> {
    GeoDb::open(GEOIP)
}
