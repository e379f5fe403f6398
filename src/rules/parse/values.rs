//! Single values of a condition: what a field can be at all.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use crate::document::shape::yes_or_no;
use crate::document::{Diagnostics, Kind, Node, SourceFile, Value, slip_of, suggest};
use crate::event::fields::{Holds, is_country};
use crate::event::{Country, KnownType, Outcome};
use crate::rules::eval::Scalar;

use super::condition::Subject;

/// What is wrong with a value: kind, message, help.
type Wrong = (Kind, String, Option<String>);

/// The value in `node`, where the field can have it.
pub(super) fn scalar(line: &Subject<'_>, node: &Node, found: &mut Diagnostics) -> Option<Scalar> {
    let value = match &node.value {
        Value::Text(text) => Scalar::Text(text.clone()),
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Integer(value) => Scalar::Integer(*value),
        Value::Float(value) => Scalar::Float(*value),
        _ => {
            found.mistake(
                Kind::WrongType,
                line.file,
                node.span.clone(),
                format!("`{}` has no value here", line.name),
                Some(format!(
                    "for events without the field write `{}: {{ exists: false }}`",
                    line.name
                )),
            );
            return None;
        }
    };
    if let Some((kind, message, help)) = wrong(line, &value, node) {
        let span = node.span.clone();
        if kind == Kind::UnknownValue {
            found.doubt(kind, line.file, span, message, help);
        } else {
            found.mistake(kind, line.file, span, message, help);
            return None;
        }
    }
    Some(value)
}

fn wrong(line: &Subject<'_>, value: &Scalar, node: &Node) -> Option<Wrong> {
    let name = line.name;
    let other_type = |wanted: &str, help: Option<String>| {
        let message = format!("`{name}` is {wanted}, not {}", node.value.kind());
        Some((Kind::WrongType, message, help))
    };
    let quotes = Some("put it in quotes".to_owned());
    match (line.holds?, value) {
        (Holds::Flag, Scalar::Bool(_)) => None,
        (Holds::Flag, Scalar::Text(text)) => other_type("true or false", yes_or_no(text)),
        (Holds::Flag, _) => other_type("true or false", None),
        (Holds::Number, Scalar::Integer(number)) if u32::try_from(*number).is_ok() => None,
        (Holds::Number, Scalar::Integer(number)) => Some((
            Kind::WrongType,
            format!("`{name}` is never {number}"),
            Some(format!("it is a number from 0 to {}", u32::MAX)),
        )),
        (Holds::Number, Scalar::Text(text)) => {
            let digits = text.trim_start_matches(['A', 'S', 'a', 's']);
            let number = digits.parse::<u32>().ok();
            other_type(
                "a whole number",
                number.map(|number| format!("write `{number}`, without quotes or letters")),
            )
        }
        (Holds::Number, _) => other_type("a whole number", None),
        (Holds::Country, Scalar::Bool(false)) => {
            other_type("text", Some("Norway is `\"NO\"`, in quotes".to_owned()))
        }
        (_, Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_)) => other_type("text", quotes),
        (Holds::Outcome, Scalar::Text(text)) => outcome(text),
        (Holds::Type, Scalar::Text(text)) => event_type(text),
        (Holds::Country, Scalar::Text(text)) => country(text),
        (Holds::Address, Scalar::Text(text)) => address(text),
        (Holds::Text(usual), Scalar::Text(text)) => {
            let meant = match usual.contains(&text.as_str()) {
                true => None,
                false => slip_of(text, usual),
            };
            meant.map(|meant| {
                (
                    Kind::UnknownValue,
                    format!("`{name}` is seldom `{text}`"),
                    Some(format!("did you mean `{meant}`?")),
                )
            })
        }
        (Holds::Texts | Holds::Time, Scalar::Text(_)) => None,
    }
}

fn outcome(text: &str) -> Option<Wrong> {
    if Outcome::parse(text).is_some() {
        return None;
    }
    let words: Vec<&str> = Outcome::ALL
        .iter()
        .map(|outcome| outcome.as_str())
        .collect();
    let help = match text.to_ascii_lowercase().as_str() {
        "failed" | "fail" | "error" | "denied" | "unsuccessful" | "ko" => {
            "did you mean `failure`?".to_owned()
        }
        "successful" | "succeeded" | "ok" | "allowed" | "granted" => {
            "did you mean `success`?".to_owned()
        }
        "canceled" => "did you mean `cancelled`?".to_owned(),
        lower if words.contains(&lower) => format!("write `{lower}`"),
        _ => suggest(text, &words),
    };
    let message = format!("`outcome` is never `{text}`");
    Some((Kind::UnknownOutcome, message, Some(help)))
}

fn event_type(text: &str) -> Option<Wrong> {
    if KnownType::parse(text).is_some() {
        return None;
    }
    let words: Vec<&str> = KnownType::ALL.iter().map(|kind| kind.as_str()).collect();
    let plain = text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    let meant = match plain.as_str() {
        "sign_in" | "signin" | "logon" | "authentication" => Some("login"),
        "mfa" | "2fa" | "otp" | "totp" => Some("two_factor"),
        plain => words
            .iter()
            .copied()
            .find(|word| *word == plain)
            .or_else(|| slip_of(text, &words)),
    };
    meant.map(|meant| {
        (
            Kind::UnknownType,
            format!("there is no event type `{text}`"),
            Some(format!("did you mean `{meant}`?")),
        )
    })
}

fn country(text: &str) -> Option<Wrong> {
    if is_country(text) {
        return None;
    }
    let upper = text.trim().to_ascii_uppercase();
    let help = if is_country(&upper) {
        format!("write `{upper}`, in capital letters")
    } else if upper == "UK" {
        "write `GB`, the code of the United Kingdom".to_owned()
    } else if Country::parse(&upper).is_some_and(|country| !country.is_real()) {
        format!(
            "`{upper}` says that the country is not known, and such events have no `country`: \
             write `country: {{ exists: false }}`"
        )
    } else {
        "write its two capital letters (ISO 3166-1), such as `DE` for Germany".to_owned()
    };
    let message = format!("`country` is never `{text}`");
    Some((Kind::UnknownCountry, message, Some(help)))
}

fn address(text: &str) -> Option<Wrong> {
    if text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let help = if text.parse::<IpNet>().is_ok() {
        format!("a network is a test: `ip: {{ cidr: {text} }}`")
    } else if text.contains('*') {
        "a network is a test: `ip: { cidr: 192.0.2.0/24 }`".to_owned()
    } else {
        "write it whole, as `192.0.2.7` or `2001:db8::7`".to_owned()
    };
    let message = format!("`{text}` is no address");
    Some((Kind::BadNetwork, message, Some(help)))
}

/// The network in `node`; a single address is one, and a v4-mapped one is IPv4.
pub(super) fn network(
    file: &Arc<SourceFile>,
    node: &Node,
    found: &mut Diagnostics,
) -> Option<IpNet> {
    let written = text(file, node, "cidr", found)?;
    let parsed = written
        .parse::<IpNet>()
        .ok()
        .or_else(|| written.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        let help = match written.split_once('/') {
            Some((address, mask)) if address.parse::<IpAddr>().is_ok() => {
                format!(
                    "`/{mask}` is no length of a network: an IPv4 one has 0 to 32 bits, an IPv6 one 0 to 128"
                )
            }
            _ if written.contains('-') => {
                "a range is written as networks: `cidr: [192.0.2.0/25, 192.0.2.128/26]`".to_owned()
            }
            _ => "write it as `192.0.2.0/24` or `2001:db8::/32`".to_owned(),
        };
        let message = format!("`{written}` is no network");
        found.mistake(
            Kind::BadNetwork,
            file,
            node.span.clone(),
            message,
            Some(help),
        );
        return None;
    };
    let whole = network.trunc();
    if whole.addr() != network.addr() {
        found.doubt(
            Kind::BadNetwork,
            file,
            node.span.clone(),
            format!("`{written}` names an address inside its network"),
            Some(format!(
                "write `{whole}` for the network, or `{}` for the address",
                network.addr()
            )),
        );
    }
    Some(unmapped(whole))
}

fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let v4 = v6
        .addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
        .map_or(network, IpNet::V4)
}

/// The text in `node`.
pub(super) fn text<'n>(
    file: &Arc<SourceFile>,
    node: &'n Node,
    name: &str,
    found: &mut Diagnostics,
) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        other => {
            let help = match other {
                Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                    Some("put it in quotes".to_owned())
                }
                Value::List(_) => Some(format!(
                    "`{name}` takes one; for this or that write a list of tests: \
                     `[{{ {name}: a }}, {{ {name}: b }}]`"
                )),
                _ => None,
            };
            let message = format!("`{name}` must be text, not {}", other.kind());
            found.mistake(Kind::WrongType, file, node.first_line(file), message, help);
            None
        }
    }
}

/// Says that `what` must be something else than `node` is.
pub(super) fn expected(
    file: &Arc<SourceFile>,
    node: &Node,
    what: &str,
    wanted: &str,
    found: &mut Diagnostics,
) {
    let message = format!("{what} must be {wanted}, not {}", node.value.kind());
    found.mistake(Kind::WrongType, file, node.first_line(file), message, None);
}
