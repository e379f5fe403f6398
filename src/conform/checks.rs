//! What an event of some kind should have, a row for each.

use super::Weight;
use crate::event::{Event, KnownType, Outcome, is_special_ip};

/// One row.
pub struct Check {
    pub id: &'static str,
    pub weight: Weight,
    /// Which events it is about.
    pub about: fn(&Event<'_>) -> bool,
    /// What is wrong with one of them.
    pub lacks: fn(&Event<'_>) -> bool,
    /// Said only where no event is right: something that most events need not have.
    pub only_if_all: bool,
    /// `{n}` becomes "3 of 12".
    pub text: &'static str,
}

fn is(event: &Event<'_>, kind: KnownType) -> bool {
    event.kind.known() == Some(kind)
}

fn is_signin(event: &Event<'_>, outcome: Outcome) -> bool {
    is(event, KnownType::Login) && event.outcome == Some(outcome)
}

/// Whoever acts sits behind an address.
fn comes_from_a_client(event: &Event<'_>) -> bool {
    matches!(
        event.kind.known(),
        Some(KnownType::Login | KnownType::TwoFactor | KnownType::PasswordReset)
    )
}

/// Events that complete a rule, and so lead to a mail.
fn may_lead_to_a_mail(event: &Event<'_>) -> bool {
    comes_from_a_client(event)
        || matches!(
            event.kind.known(),
            Some(
                KnownType::Recovery
                    | KnownType::EmailChanged
                    | KnownType::TwoFactorDisabled
                    | KnownType::TwoFactorReset
                    | KnownType::RecoveryCodeUsed
            )
        )
}

fn is_failure(event: &Event<'_>) -> bool {
    event.outcome == Some(Outcome::Failure) && comes_from_a_client(event)
}

pub const CHECKS: &[Check] = &[
    Check {
        id: "no_account",
        weight: Weight::Must,
        about: |event| !is_failure(event),
        lacks: |event| event.account.is_none(),
        only_if_all: false,
        text: "{n} events have no `account` and count for nobody. Only a failed try at a name \
               that nobody has may lack it",
    },
    Check {
        id: "no_ip",
        weight: Weight::Must,
        about: comes_from_a_client,
        lacks: |event| event.ip.is_none(),
        only_if_all: false,
        text: "{n} sign-ins, second factors and resets have no valid `ip`: rules on addresses, \
               lists and countries cannot see them",
    },
    Check {
        id: "private_ip",
        weight: Weight::Must,
        about: |event| comes_from_a_client(event) && event.ip.is_some(),
        lacks: |event| event.ip.is_some_and(is_special_ip),
        only_if_all: false,
        text: "the `ip` of {n} sign-ins, second factors and resets is private, shared or \
               loopback: probably a proxy's or load balancer's, where the client's is needed",
    },
    Check {
        id: "no_email",
        weight: Weight::Must,
        about: may_lead_to_a_mail,
        lacks: |event| event.email.is_none(),
        only_if_all: false,
        text: "{n} events that can lead to a lock have no `email`: it is taken from the event \
               that completes a rule or the newest that counted, and an owner whose address is \
               not known is locked and never asked. Send the address on file always, never one \
               that was typed in",
    },
    Check {
        id: "no_session",
        weight: Weight::Must,
        about: |event| is_signin(event, Outcome::Success),
        lacks: |event| event.session.is_none(),
        only_if_all: false,
        text: "{n} successful sign-ins have no `session`: a lock cannot name the session of \
               whoever just came in, so the thief stays signed in",
    },
    Check {
        id: "no_previous_email",
        weight: Weight::Must,
        about: |event| is(event, KnownType::EmailChanged),
        lacks: |event| event.previous_email.is_none(),
        only_if_all: false,
        text: "{n} `email_changed` events have no `previous_email`: for seven days links should \
               go there only, or who changed the address gets them",
    },
    Check {
        id: "no_reason",
        weight: Weight::Should,
        about: is_failure,
        lacks: |event| event.reason.is_none(),
        only_if_all: false,
        text: "{n} failures have no `reason`: `failed-logins-many-ips` leaves out \
               `no_such_account`, `account_locked` and `rate_limited`, and cannot where it is \
               not told",
    },
    Check {
        id: "never_repeat",
        weight: Weight::Should,
        about: |event| is_signin(event, Outcome::Failure),
        lacks: |event| event.repeat.is_none(),
        only_if_all: true,
        text: "{n} failed sign-ins say nothing of `repeat`: a phone that goes on sending an old \
               password looks like somebody who guesses. Send `repeat: true` where the same \
               wrong password came just before",
    },
    Check {
        id: "account_is_email",
        weight: Weight::Should,
        about: |event| event.account.is_some(),
        lacks: |event| event.account.as_deref().is_some_and(looks_like_an_address),
        only_if_all: false,
        text: "`account` looks like a mail address in {n} events: it must never change and stand \
               for one account for ever. Send the internal id",
    },
    Check {
        id: "no_user_agent",
        weight: Weight::Should,
        about: comes_from_a_client,
        lacks: |event| event.user_agent.is_none(),
        only_if_all: false,
        text: "{n} sign-ins, second factors and resets have no `user_agent`: the mail cannot \
               tell the owner on what device it was",
    },
    Check {
        id: "no_role",
        weight: Weight::Should,
        about: |event| is(event, KnownType::Recovery) && !event.owners.is_empty(),
        lacks: |event| event.role.is_none(),
        only_if_all: false,
        text: "{n} recoveries of accounts with `owners` have no `role`: only an owner may \
               recover a team's account, and doorward cannot tell who asks",
    },
    Check {
        id: "no_case",
        weight: Weight::Should,
        about: |event| is(event, KnownType::PasswordChanged),
        lacks: |event| event.case.is_none(),
        only_if_all: true,
        text: "{n} `password_changed` events name no `case`: an account whose owner said \"this \
               wasn't me\" stays locked until one names the case that came with \
               `require_password_change`",
    },
    Check {
        id: "no_locale",
        weight: Weight::Note,
        about: may_lead_to_a_mail,
        lacks: |event| event.locale.is_none(),
        only_if_all: true,
        text: "{n} events name no `locale`: every mail and page is in English",
    },
    Check {
        id: "no_method",
        weight: Weight::Note,
        about: |event| is(event, KnownType::Login) || is(event, KnownType::TwoFactor),
        lacks: |event| event.method.is_none(),
        only_if_all: true,
        text: "{n} sign-ins and second factors name no `method`: rules cannot tell a passkey \
               from a password",
    },
];

fn looks_like_an_address(account: &str) -> bool {
    account
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
}
