//! Decisions and their sums as text for people.

use std::io::{self, Write};

use crate::engine::output::{Decision, Effect};
use crate::replay::page::text::short;
use crate::replay::report::notes::{grouped, number};
use crate::replay::report::{Report, RuleReport, SideReport};
use crate::replay::stream::Placing;

pub fn heading() -> String {
    format!(
        "{:<24}  {:<28}  {:<10}  {:>5}  {:<18}  EVENT",
        "TIME", "RULE", "EFFECT", "VALUE", "WHERE"
    ) + "  ACCOUNT"
}

pub fn row(decision: &Decision) -> String {
    let last = decision.evidence.last();
    let place = match last.map(|e| (e.country, e.ip)) {
        Some((Some(country), Some(ip))) => format!("{country} {ip}"),
        Some((Some(country), None)) => country.to_string(),
        Some((None, Some(ip))) => ip.to_string(),
        _ => "-".to_owned(),
    };
    format!(
        "{:<24}  {:<28}  {:<10}  {:>5}  {:<18}  {}  {}",
        decision.time.to_string(),
        decision.rule,
        decision.effect.as_str(),
        decision.value,
        place,
        short(&decision.event),
        short(&decision.account),
    )
}

pub fn write_summary(out: &mut impl Write, report: &Report, placing: &Placing) -> io::Result<()> {
    let span = match (placing.first, placing.last) {
        (Some(first), Some(last)) => format!(" from {first} to {last}"),
        _ => String::new(),
    };
    writeln!(out, "{} events{span}", grouped(placing.events))?;
    match report.sides.as_slice() {
        [new, old] => {
            writeln!(out, "\nNew rules, {}:", new.name)?;
            write_side(out, new)?;
            writeln!(out, "\nOld rules, {}:", old.name)?;
            write_side(out, old)
        }
        sides => sides.iter().try_for_each(|side| write_side(out, side)),
    }
}

fn write_side(out: &mut impl Write, side: &SideReport) -> io::Result<()> {
    let mut silent = true;
    for (id, rule) in &side.rules {
        let effects: Vec<String> = Effect::ALL
            .iter()
            .rev()
            .filter_map(|effect| {
                let count = rule.effects.get(effect)?;
                Some(format!("{} {}", grouped(*count), effect.as_str()))
            })
            .collect();
        if effects.is_empty() {
            continue;
        }
        silent = false;
        writeln!(
            out,
            "{id}: {}; {} locked; {}",
            effects.join(", "),
            number(rule.locked_accounts, "account", "accounts"),
            false_alarms(rule),
        )?;
    }
    if silent {
        writeln!(out, "no rule would have decided anything")?;
    }
    writeln!(out, "{}", number(side.mails, "mail", "mails"))
}

/// What owners said of a rule, and of how much nobody knows.
fn false_alarms(rule: &RuleReport) -> String {
    let owners = &rule.owners;
    let mut text = match owners.false_positive_rate() {
        Some(rate) => format!(
            "false alarms {:.0} % ({} of {} answered)",
            rate * 100.0,
            grouped(owners.me),
            grouped(owners.me + owners.not_me),
        ),
        None => "false alarms not known".to_owned(),
    };
    let near = owners.near_me + owners.near_not_me;
    if near > 0 {
        text.push_str(&format!(
            "; {} answered about something else near in time ({} me, {} not me)",
            number(near, "owner", "owners"),
            grouped(owners.near_me),
            grouped(owners.near_not_me)
        ));
    }
    text
}

pub fn report_bad_lines(report: &Report) {
    if report.bad == 0 {
        return;
    }
    let lines = if report.bad == 1 {
        "line is no event"
    } else {
        "lines are no events"
    };
    eprintln!("{} {lines}:", report.bad);
    for bad in &report.bad_lines {
        eprintln!("  {}:{}: {}", bad.file, bad.line, bad.reason);
    }
    let more = report.bad - report.bad_lines.len() as u64;
    if more > 0 {
        eprintln!("  and {more} more");
    }
}
