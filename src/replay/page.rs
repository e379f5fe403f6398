//! The report as one page of HTML that needs nothing else: to be shown in a meeting, sent
//! along, and kept.
//!
//! Everything from events is text, which the template escapes; and the page's own policy
//! forbids every script and style but its own two, by their hashes. The charts are SVG with
//! a table beside each. The one script only filters: without it, all is there to be read.

mod chart;
pub mod text;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::engine::output::{Decision, Effect};

use super::report::answers::{Given, Heard};
use super::report::notes::{self, Seen, grouped, number};
use super::report::{
    AccountReport, FirstLock, KEPT, KEPT_EVIDENCE, KEPT_OF_A_KIND, Kept, LockedBy, Report,
    SideReport,
};

use chart::Chart;
use text::{beyond, dash, given, minute, owners, percent, second, short};

const STYLE: &str = include_str!("../../templates/replay/report.css");
const SCRIPT: &str = include_str!("../../templates/replay/report.js");

/// Accounts that each part of the differences lists, and rows of the shorter tables.
const COMPARED: usize = 300;
const COUNTRIES: usize = 20;
const TOP: usize = 20;
#[derive(Template)]
#[template(path = "replay/report.html")]
struct Page<'r> {
    style: &'static str,
    script: &'static str,
    policy: String,
    title: String,
    lead: String,
    period: String,
    files: String,
    version: &'static str,
    tiles: Vec<Tile>,
    sides: &'r [SideReport],
    notes: Vec<String>,
    compared: Vec<Group>,
    chart: Chart,
    rules: Vec<RuleRow>,
    old_rules: Vec<RuleRow>,
    has_answers: bool,
    countries: Vec<Share>,
    more_countries: String,
    accounts: Vec<Share>,
    rows: Vec<Row>,
    cap: String,
    filter_rules: Vec<String>,
    filter_countries: Vec<String>,
}

struct Tile {
    value: String,
    label: String,
    note: String,
}

/// Accounts that the same rule sets locked.
struct Group {
    id: &'static str,
    title: String,
    text: String,
    owners: String,
    rows: Vec<Pair>,
    more: String,
}

struct Pair {
    account: String,
    by: &'static str,
    when: String,
    owner: String,
    country: String,
    rules: String,
    locks: Vec<Lock>,
}

struct Lock {
    set: &'static str,
    rule: String,
    when: String,
    evidence: Vec<Line>,
    more: String,
}

struct RuleRow {
    id: String,
    mode: &'static str,
    counts: Vec<String>,
    accounts: String,
    owner: OwnerView,
}

struct OwnerView {
    rate: String,
    me: String,
    not_me: String,
    near: String,
    unknown: String,
}

/// One row of a table with a bar in it.
struct Share {
    name: String,
    locks: u64,
    hits: u64,
    /// Out of 100.
    bar: f64,
    owner: String,
}

struct Row {
    when: String,
    rule: String,
    effect: &'static str,
    account: String,
    country: String,
    ip: String,
    value: u32,
    owner: String,
    event: String,
    case: String,
    evidence: Vec<Line>,
    more: String,
}

struct Line {
    when: String,
    id: String,
    ip: String,
    country: String,
}

/// The page.
///
/// # Errors
/// Never: the template writes to memory.
pub fn render(report: &Report, seen: &Seen<'_>) -> Result<String, askama::Error> {
    let new = &report.sides[0];
    let old = report.sides.get(1);
    let rows: Vec<Row> = new.kept.iter().map(|kept| row(report, kept)).collect();
    let compared = match old {
        Some(_) => groups(report),
        None => Vec::new(),
    };
    let mut filter_rules: Vec<String> = report
        .sides
        .iter()
        .flat_map(|side| side.rules.keys().map(ToString::to_string))
        .collect();
    filter_rules.sort();
    filter_rules.dedup();
    let mut filter_countries: Vec<String> = rows
        .iter()
        .map(|row| &row.country)
        .chain(
            compared
                .iter()
                .flat_map(|group| group.rows.iter().map(|pair| &pair.country)),
        )
        .filter(|country| *country != "–")
        .cloned()
        .collect();
    filter_countries.sort();
    filter_countries.dedup();
    let rule_rows = |side: &SideReport| {
        side.rules
            .iter()
            .map(|(id, rule)| rule_row(id, rule))
            .collect()
    };
    let [me, not_me] = report.answers();
    Page {
        style: STYLE,
        script: SCRIPT,
        policy: policy(),
        title: match old {
            Some(_) => "What changes if the new rules replace the old?".to_owned(),
            None => "Whom would these rules have locked?".to_owned(),
        },
        lead: lead(report, seen),
        period: period(seen),
        files: files(seen.files),
        version: crate::VERSION,
        tiles: tiles(report, seen),
        sides: &report.sides,
        notes: notes::notes(report, seen),
        compared,
        chart: chart::chart(&new.timeline),
        rules: rule_rows(new),
        old_rules: old.map_or_else(Vec::new, rule_rows),
        has_answers: me + not_me > 0,
        countries: countries(new),
        more_countries: beyond(new.countries.len(), COUNTRIES, "countries"),
        accounts: top(report),
        cap: cap(new, rows.len()),
        rows,
        filter_rules,
        filter_countries,
    }
    .render()
}

/// Nothing is fetched, and only these two parts may run.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn lead(report: &Report, seen: &Seen<'_>) -> String {
    let new = &report.sides[0];
    let events = number(seen.placing.events, "event", "events");
    if seen.placing.events == 0 {
        return "No event was read, so nothing can be said.".to_owned();
    }
    let Some(old) = report.sides.get(1) else {
        return format!(
            "In {events} they would have locked {} and sent {}.",
            number(new.locked_accounts, "account", "accounts"),
            number(new.mails, "mail", "mails"),
        );
    };
    format!(
        "In {events} the new rules lock {}, the old ones {}.",
        number(new.locked_accounts, "account", "accounts"),
        grouped(old.locked_accounts),
    )
}

fn period(seen: &Seen<'_>) -> String {
    match (seen.placing.first, seen.placing.last) {
        (Some(first), Some(last)) => format!("{} to {} UTC", minute(first), minute(last)),
        _ => "no events".to_owned(),
    }
}

fn files(files: &[String]) -> String {
    match files {
        [] => String::new(),
        [one] => short(one),
        [first, .., last] => format!("{} files, {} to {}", files.len(), short(first), short(last)),
    }
}

fn tiles(report: &Report, seen: &Seen<'_>) -> Vec<Tile> {
    let tile = |value: String, label: &str, note: String| Tile {
        value,
        label: label.to_owned(),
        note,
    };
    let new = &report.sides[0];
    let mut tiles = vec![tile(
        grouped(seen.placing.events),
        "events read",
        String::new(),
    )];
    if report.sides.len() > 1 {
        for by in LockedBy::ALL {
            let count = report
                .accounts
                .values()
                .filter(|account| account.locked_by() == Some(*by))
                .count() as u64;
            let label = match by {
                LockedBy::OnlyNew => "accounts only the new rules lock",
                LockedBy::OnlyOld => "accounts only the old rules lock",
                LockedBy::Both => "accounts both lock",
            };
            tiles.push(tile(grouped(count), label, String::new()));
        }
    } else {
        tiles.push(tile(
            grouped(new.locked_accounts),
            "accounts locked",
            match new.locks {
                locks if locks > new.locked_accounts => number(locks, "lock", "locks"),
                _ => String::new(),
            },
        ));
        for (effect, label) in [
            (Effect::Shadow, "hits of rules in shadow"),
            (Effect::Held, "hits held back"),
        ] {
            tiles.push(tile(grouped(new.with_effect(effect)), label, String::new()));
        }
    }
    let mut heard = Heard::default();
    for rule in new.rules.values() {
        heard.me += rule.owners.me;
        heard.not_me += rule.owners.not_me;
    }
    tiles.push(match heard.false_positive_rate() {
        Some(rate) => tile(
            percent(rate),
            if report.sides.len() > 1 {
                "false alarms among the new rules' answered cases"
            } else {
                "false alarms among answered cases"
            },
            format!(
                "{} of {}",
                grouped(heard.me),
                grouped(heard.me + heard.not_me)
            ),
        ),
        None => tile(
            "not known".to_owned(),
            "false alarms",
            "no owner's answer is about these hits".to_owned(),
        ),
    });
    tiles
}

fn groups(report: &Report) -> Vec<Group> {
    let all = report.compared();
    LockedBy::ALL
        .iter()
        .map(|by| {
            let of: Vec<&AccountReport> = all
                .iter()
                .filter(|(locked_by, ..)| locked_by == by)
                .map(|(_, _, account)| *account)
                .collect();
            let verdicts: Vec<Option<Given>> = of.iter().map(|a| report.verdict_of(a)).collect();
            let rows = all
                .iter()
                .filter(|(locked_by, ..)| locked_by == by)
                .take(COMPARED)
                .map(|(by, account, told)| pair(report, *by, account, told))
                .collect();
            let (id, title, text) = match by {
                LockedBy::OnlyNew => (
                    "only-new",
                    "Only the new rules lock",
                    "Caught by the change: attacks that were missed, or owners who would be \
                     bothered for nothing.",
                ),
                LockedBy::OnlyOld => (
                    "only-old",
                    "Only the old rules lock",
                    "Let go by the change: false alarms that end, or attacks that would be \
                     missed.",
                ),
                LockedBy::Both => ("both", "Both lock", "The change makes no difference here."),
            };
            Group {
                id,
                title: format!("{title} ({})", grouped(of.len() as u64)),
                text: text.to_owned(),
                owners: owners(&verdicts),
                more: beyond(of.len(), COMPARED, "accounts"),
                rows,
            }
        })
        .collect()
}

fn pair(report: &Report, by: LockedBy, account: &str, told: &AccountReport) -> Pair {
    let [new, old] = &told.first;
    let locks: Vec<Lock> = [("new", new), ("old", old)]
        .into_iter()
        .filter_map(|(set, first)| Some(lock(set, first.as_ref()?)))
        .collect();
    let mut rules: Vec<&str> = locks.iter().map(|lock| &*lock.rule).collect();
    rules.dedup();
    let first = new.as_ref().or(old.as_ref());
    let country = first
        .and_then(|first| first.kept.as_ref())
        .map_or_else(|| "–".to_owned(), |kept| place(&kept.decision).0);
    Pair {
        account: short(account),
        by: by.as_str(),
        when: first.map_or_else(String::new, |first| minute(first.now)),
        owner: given(report.verdict_of(told)),
        country,
        rules: rules.join(", "),
        locks,
    }
}

fn lock(set: &'static str, first: &FirstLock) -> Lock {
    let (evidence, more) = match &first.kept {
        Some(kept) => lines(kept),
        None => (Vec::new(), "too many accounts: not kept".to_owned()),
    };
    Lock {
        set,
        rule: first.rule.to_string(),
        when: minute(first.now),
        evidence,
        more,
    }
}

fn rule_row(id: &str, rule: &super::report::RuleReport) -> RuleRow {
    let order = Effect::ALL.iter().rev();
    let owners = &rule.owners;
    let near = owners.near_me + owners.near_not_me;
    RuleRow {
        id: id.to_owned(),
        mode: rule.mode.as_str(),
        counts: order
            .map(|effect| dash(rule.effects.get(effect).copied().unwrap_or(0)))
            .collect(),
        accounts: dash(rule.locked_accounts),
        owner: OwnerView {
            rate: owners
                .false_positive_rate()
                .map_or_else(|| "not known".to_owned(), percent),
            me: dash(owners.me),
            not_me: dash(owners.not_me),
            near: match near {
                0 => "–".to_owned(),
                _ => format!("{} / {}", owners.near_me, owners.near_not_me),
            },
            unknown: dash(owners.episodes - owners.me - owners.not_me - near),
        },
    }
}

fn countries(side: &SideReport) -> Vec<Share> {
    let mut all: Vec<_> = side.countries.iter().collect();
    all.sort_by_key(|(country, [hits, locks])| (std::cmp::Reverse((*locks, *hits)), **country));
    let top = all.iter().map(|(_, [hits, _])| *hits).max().unwrap_or(1);
    all.iter()
        .take(COUNTRIES)
        .map(|(country, [hits, locks])| Share {
            name: country.map_or_else(|| "not known".to_owned(), |c| c.to_string()),
            locks: *locks,
            hits: *hits,
            bar: 100.0 * *hits as f64 / top.max(1) as f64,
            owner: String::new(),
        })
        .collect()
}

fn top(report: &Report) -> Vec<Share> {
    let all = report.top_accounts(TOP);
    let most = all.iter().map(|(_, told)| told.hits[0]).max().unwrap_or(1);
    all.iter()
        .map(|(account, told)| Share {
            name: short(account),
            locks: u64::from(told.locks[0]),
            hits: u64::from(told.hits[0]),
            bar: 100.0 * f64::from(told.hits[0]) / f64::from(most.max(1)),
            owner: given(report.verdict_of(told)),
        })
        .collect()
}

fn row(report: &Report, kept: &Kept) -> Row {
    let decision = &kept.decision;
    let (country, ip) = place(decision);
    let (evidence, more) = lines(kept);
    Row {
        when: second(decision.time),
        rule: decision.rule.to_string(),
        effect: decision.effect.as_str(),
        account: short(&decision.account),
        country,
        ip,
        value: decision.value,
        owner: given(report.verdict_on(decision).map(Given::of_case)),
        event: short(&decision.event),
        case: decision
            .case
            .as_ref()
            .map_or_else(|| "–".to_owned(), ToString::to_string),
        evidence,
        more,
    }
}

fn lines(kept: &Kept) -> (Vec<Line>, String) {
    let lines = kept.decision.evidence.iter().map(|evidence| Line {
        when: second(evidence.time),
        id: short(&evidence.id),
        ip: evidence
            .ip
            .map_or_else(|| "–".to_owned(), |ip| ip.to_string()),
        country: evidence
            .country
            .map_or_else(|| "–".to_owned(), |c| c.to_string()),
    });
    let more = match kept.evidence.saturating_sub(KEPT_EVIDENCE) {
        0 => String::new(),
        before => number(before as u64, "earlier event", "earlier events"),
    };
    (lines.collect(), more)
}

/// Country and address of the completing event.
fn place(decision: &Decision) -> (String, String) {
    let last = decision.evidence.last();
    let country = last.and_then(|last| last.country);
    let ip = last.and_then(|last| last.ip);
    (
        country.map_or_else(|| "–".to_owned(), |c| c.to_string()),
        ip.map_or_else(|| "–".to_owned(), |ip| ip.to_string()),
    )
}

fn cap(side: &SideReport, shown: usize) -> String {
    let decisions = side.decisions;
    if decisions <= shown as u64 {
        return format!(
            "All {} are listed.",
            number(decisions, "decision", "decisions")
        );
    }
    format!(
        "{} of {} are listed: the first {KEPT_OF_A_KIND} of each rule and effect, {} at most. \
         Everything above counts them all; `doorward replay --output ndjson` prints each.",
        grouped(shown as u64),
        number(decisions, "decision", "decisions"),
        grouped(KEPT as u64),
    )
}
