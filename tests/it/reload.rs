//! Files that change while doorward runs.

mod files;
mod memory;
mod running;
mod tested;
mod words;

/// A rule on failed sign-ins from `at_least` addresses within five minutes.
fn many_addresses(at_least: u32) -> String {
    format!(
        "schema: 1\nid: many\ntitle: Many\nseverity: high\nmode: enforce\n\
         when: {{ type: login, outcome: failure }}\nby: account\n\
         detect:\n  distinct: {{ of: ip, at_least: {at_least}, within: 5m }}\n\
         then:\n  - lock_account: {{ reason: credential_stuffing }}\n"
    )
}
