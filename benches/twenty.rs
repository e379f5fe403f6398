//! Twenty rules as a site might have them: the first four that were shipped, and sixteen
//! more, of which an ordinary sign-in reaches the fields of five.

use std::sync::Arc;

use doorward::document::{Diagnostics, SourceFile};
use doorward::facts::Folder;

use super::figures::FOUR;

/// `when`, `by` and `detect` of the sixteen others.
const OTHERS: [[&str; 3]; 16] = [
    [
        "{ type: login, outcome: success, method: [saml, oidc], role: owner }",
        "account",
        "each",
    ],
    [
        "{ type: login, outcome: success, user_agent: { glob: '*curl*' } }",
        "account",
        "each",
    ],
    [
        "{ type: login, outcome: success, ip: { in_list: malicious_ips } }",
        "account",
        "each",
    ],
    [
        "{ type: login, outcome: success, attributes.risk: high }",
        "account",
        "each",
    ],
    [
        "{ type: login, outcome: success, actor: { exists: true } }",
        "account",
        "each",
    ],
    [
        "{ type: login, outcome: failure, reason: rate_limited }",
        "account",
        "{ count: { at_least: 20, within: 1h } }",
    ],
    [
        "{ type: login, outcome: failure, reason: no_such_account }",
        "ip",
        "{ distinct: { of: account, at_least: 10, within: 10m } }",
    ],
    [
        "{ type: login, outcome: failure, method: sso }",
        "account",
        "{ count: { at_least: 5, within: 5m } }",
    ],
    [
        "{ type: two_factor, outcome: success, method: sms }",
        "account",
        "{ first_seen: { of: user_agent } }",
    ],
    ["{ type: two_factor_disabled }", "account", "each"],
    [
        "{ type: two_factor_reset, outcome: success, actor: { exists: true } }",
        "account",
        "each",
    ],
    [
        "{ type: recovery_code_used, country: { exists: true } }",
        "account",
        "{ first_seen: { of: country } }",
    ],
    ["{ type: email_changed }", "account", "each"],
    [
        "{ type: password_reset, outcome: requested, user_agent: { regex: 'python|Go-http' } }",
        "account",
        "each",
    ],
    ["{ type: sso_deleted }", "account", "each"],
    [
        "{ type: session_revoked }",
        "account",
        "{ count: { at_least: 10, within: 1h } }",
    ],
];

/// The files of the first `count` of the twenty.
pub fn files(count: usize) -> Vec<Arc<SourceFile>> {
    let shipped = Folder(None).rule_files(&mut Diagnostics::default());
    let four = shipped
        .into_iter()
        .filter(|file| FOUR.iter().any(|name| file.name.ends_with(name)));
    let others = OTHERS.iter().enumerate().map(|(at, [when, by, detect])| {
        let text = format!(
            "schema: 1\nid: other-{at}\ntitle: Another rule\nseverity: low\nmode: enforce\n\
             when: {when}\nby: {by}\ndetect: {detect}\n"
        );
        SourceFile::new(format!("other-{at}.rule.yaml"), text)
    });
    four.chain(others).take(count).collect()
}
