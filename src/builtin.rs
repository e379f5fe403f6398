//! What is built into the program, so that it works at once and from any folder.

use crate::enrich::geoip::{GeoDb, GeoDbError};

/// The free country database in `geoip/`, about 5 MB.
static GEOIP: &[u8] = include_bytes!("../geoip/iptoasn-country.mmdb");

/// The files of `rules/` that doorward reads, by their path in it.
const RULES: &[(&str, &str)] = &[
    (
        "failed-logins-many-ips.rule.yaml",
        include_str!("../rules/failed-logins-many-ips.rule.yaml"),
    ),
    (
        "first-seen-country.rule.yaml",
        include_str!("../rules/first-seen-country.rule.yaml"),
    ),
    (
        "reset-from-malicious-ip.rule.yaml",
        include_str!("../rules/reset-from-malicious-ip.rule.yaml"),
    ),
    (
        "two-factor-failure-streak.rule.yaml",
        include_str!("../rules/two-factor-failure-streak.rule.yaml"),
    ),
    ("exceptions.yaml", include_str!("../rules/exceptions.yaml")),
    ("lists.yaml", include_str!("../rules/lists.yaml")),
    (
        "lists/malicious_ips.txt",
        include_str!("../rules/lists/malicious_ips.txt"),
    ),
    (
        "lists/anonymizers.txt",
        include_str!("../rules/lists/anonymizers.txt"),
    ),
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
