//! Helpers that several tests share.

/// The value of the environment variable `name`, which says where a real service stands
/// that a test needs. `None`, and a printed line, where it is not set: the test is skipped,
/// unless `DOORWARD_REQUIRE_SERVICES=1` makes that a failure.
pub fn service(name: &str) -> Option<std::ffi::OsString> {
    let found = std::env::var_os(name).filter(|value| !value.is_empty());
    if found.is_none() {
        let required = std::env::var_os("DOORWARD_REQUIRE_SERVICES").is_some_and(|v| v == "1");
        assert!(!required, "{name} is not set, and services are required");
        println!("skipped: {name} is not set");
    }
    found
}
