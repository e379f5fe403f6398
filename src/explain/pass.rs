//! One pass over the files: everything goes through the engine, and of what concerns the
//! account the trace is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::engine::output::{CaseView, Decision, Outputs};
use crate::engine::trace::{Declined, Said, Steered, Trace};
use crate::enrich::CountryLookup;
use crate::event::{Event, Timestamp};
use crate::record::EvidenceRecord;
use crate::replay::Replay;
use crate::replay::input::for_each_line;

use super::record::{CaseState, Deed, Listed, Moment, Origin, RuleWord, Stream, Word, no_country};
use super::{Sources, steer};

/// Keeps what concerns one account, or one event that has none.
pub struct Watch<'a> {
    sources: &'a Sources<'a>,
    account: Option<&'a str>,
    event: Option<&'a str>,
    /// Ids of the account's cases and recoveries.
    cases: BTreeSet<String>,
    /// The state in which each was shown last.
    latest: BTreeMap<String, CaseView>,
    /// The case that was shown last, of those that are no recoveries.
    current: Option<String>,
    pub seen: Vec<Seen>,
}

/// A moment, with what it is told from.
pub struct Seen {
    pub moment: Moment,
    pub shown: Vec<CaseView>,
    pub decisions: Vec<Decision>,
}

/// What had been said before an event was handled.
struct Mark {
    decisions: usize,
    commands: usize,
    mails: usize,
}

impl Mark {
    fn of(out: &Outputs) -> Mark {
        Mark {
            decisions: out.decisions.len(),
            commands: out.commands.len(),
            mails: out.mails.len(),
        }
    }

    const NOTHING: Mark = Mark {
        decisions: 0,
        commands: 0,
        mails: 0,
    };
}

/// Puts the files through the engine. What concerns the question goes to `watch`.
///
/// # Errors
/// A file that cannot be read.
pub fn run(sources: &Sources<'_>, watch: &mut Watch<'_>) -> anyhow::Result<Stream> {
    let mut replay = Replay::new(
        sources.rules.clone(),
        sources.facts.clone(),
        sources.partitions,
    );
    let mut stream = Stream::default();
    let (mut first, mut last) = (None, None);
    for path in sources.files {
        let file = path.display().to_string();
        for_each_line(path, |number, text| {
            let mut events = 0;
            let handled =
                replay.line_with(number, text, |engine, accounts, event, source, now, out| {
                    events = 1;
                    first.get_or_insert(now);
                    last = Some(now);
                    watch.timers(out, now);
                    if !watch.wants(event) {
                        engine.handle(accounts, event, source, now, out);
                        return;
                    }
                    let mark = Mark::of(out);
                    let trace = engine.handle_traced(accounts, event, source, now, out);
                    watch.note(event, &trace, (&file, number, now), &mark, out);
                });
            stream.events += events;
            stream.bad_lines += u64::from(handled.is_err());
        })?;
        stream.files.push(file);
    }
    stream.first = first.map(|time| time.to_string());
    stream.last = last.map(|time| time.to_string());
    Ok(stream)
}

impl<'a> Watch<'a> {
    pub fn new(
        sources: &'a Sources<'a>,
        account: Option<&'a str>,
        event: Option<&'a str>,
    ) -> Watch<'a> {
        Watch {
            sources,
            account,
            event,
            cases: BTreeSet::new(),
            latest: BTreeMap::new(),
            current: None,
            seen: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn wants(&self, event: &Event<'_>) -> bool {
        let same_account = event.account.is_some() && event.account.as_deref() == self.account;
        let about_it = || {
            let named = event.case.as_deref().filter(|_| event.account.is_none());
            named.is_some_and(|case| self.cases.contains(case))
        };
        same_account || about_it() || self.event.is_some_and(|wanted| *event.id == *wanted)
    }

    /// What timers did to the account that fell due before the event at hand.
    fn timers(&mut self, out: &Outputs, now: Timestamp) {
        let did = self.deeds(out, &Mark::NOTHING);
        let shown = self.shown(out);
        if did.is_empty() && shown.is_empty() {
            return;
        }
        let at = shown.iter().map(|case| case.updated).max().unwrap_or(now);
        let moment = Moment {
            file: None,
            line: None,
            event: String::new(),
            kind: "timer_due".to_owned(),
            outcome: None,
            reason: None,
            time: at.to_string(),
            arrived: at.to_string(),
            from_the_future: false,
            ip: None,
            country: None,
            lists: Vec::new(),
            rules: Vec::new(),
            steered: Some(steer::timer()),
            did,
            case: self.case(),
        };
        self.seen.push(Seen {
            moment,
            shown,
            decisions: Vec::new(),
        });
    }

    fn note(
        &mut self,
        event: &Event<'_>,
        trace: &Trace,
        (file, line, now): (&str, u64, Timestamp),
        mark: &Mark,
        out: &Outputs,
    ) {
        let decisions: Vec<Decision> = out.decisions[mark.decisions..].to_vec();
        let did = self.deeds(out, mark);
        let shown = self.shown(out);
        let nowhere = Some(Steered::Declined(Declined::NoCase));
        let told = !shown.is_empty() || !did.is_empty() || trace.steered != nowhere;
        // An answer that names no account is put to every partition; one of them has the case.
        let again = |seen: &Seen| {
            (seen.moment.line, seen.moment.file.as_deref()) == (Some(line), Some(file))
        };
        if self.seen.last().is_some_and(again) {
            if !told {
                return;
            }
            self.seen.pop();
        }
        let steered = steer::steered(event, trace);
        let moment = Moment {
            file: Some(file.to_owned()),
            line: Some(line),
            event: event.id.to_string(),
            kind: event.kind.as_str().to_owned(),
            outcome: event.outcome.map(|outcome| outcome.as_str().to_owned()),
            reason: event.reason.as_deref().map(str::to_owned),
            time: trace.time.to_string(),
            arrived: now.to_string(),
            from_the_future: trace.from_the_future,
            ip: event.ip.map(|ip| ip.to_string()),
            country: self.origin(event),
            lists: event.ip.map_or_else(Vec::new, |ip| self.listed(ip)),
            rules: self.words(trace, &decisions),
            steered,
            did,
            case: self.case(),
        };
        self.seen.push(Seen {
            moment,
            shown,
            decisions,
        });
    }

    fn words(&self, trace: &Trace, decisions: &[Decision]) -> Vec<RuleWord> {
        let rules = self.sources.rules.rules();
        let word = |rule: &str, said: &Said| {
            let evidence = match said {
                Said::Hit(hit) => decisions
                    .iter()
                    .find(|decision| decision.id == hit.decision)
                    .map_or_else(Vec::new, |decision| {
                        decision.evidence.iter().map(EvidenceRecord::from).collect()
                    }),
                _ => Vec::new(),
            };
            let rule = rules.iter().find(|known| *known.id == *rule)?;
            Some(RuleWord {
                rule: rule.id.to_string(),
                word: Word::new(rule, said, evidence),
            })
        };
        let said = trace.rules.iter();
        said.filter_map(|said| word(&said.rule, &said.said))
            .collect()
    }

    /// Commands and mails to or about the account since `mark`.
    fn deeds(&self, out: &Outputs, mark: &Mark) -> Vec<Deed> {
        let mine = |account: &str| self.account.is_none_or(|wanted| *account == *wanted);
        let commands = out.commands.iter().skip(mark.commands);
        let commands = commands.filter(|c| mine(&c.account)).map(|c| Deed {
            action: c.kind.as_str().to_owned(),
            id: c.id.clone(),
            rule: c.rule.as_deref().map(str::to_owned),
            reason: c.reason.to_string(),
            case: c.case.as_ref().map(ToString::to_string),
            detail: c.scope.map(|scope| scope.as_str().to_owned()),
            until: c.until.map(|until| until.to_string()),
        });
        let mails = out.mails.iter().skip(mark.mails);
        let mails = mails.filter(|m| mine(&m.account)).map(|m| Deed {
            action: "email_user".to_owned(),
            id: m.id.clone(),
            rule: Some(m.rule.to_string()),
            reason: m.reason.to_string(),
            case: Some(m.case.to_string()),
            detail: Some(format!("{} to {}", m.template, m.part.as_str())),
            until: m.until.map(|until| until.to_string()),
        });
        commands.chain(mails).collect()
    }

    /// Cases of the account that were shown anew.
    fn shown(&mut self, out: &Outputs) -> Vec<CaseView> {
        let mut shown = Vec::new();
        for view in &out.cases {
            if self.account != Some(&*view.account) {
                continue;
            }
            let id = view.id.to_string();
            let known = self.latest.get(&id);
            if known.is_some_and(|known| {
                (known.version, known.state, known.updated)
                    == (view.version, view.state, view.updated)
            }) {
                continue;
            }
            if !view.state.is_recovery() {
                self.current = Some(id.clone());
            }
            self.cases.insert(id.clone());
            self.latest.insert(id, view.clone());
            shown.push(view.clone());
        }
        shown
    }

    fn case(&self) -> Option<CaseState> {
        let view = self.latest.get(self.current.as_ref()?)?;
        Some(CaseState {
            id: view.id.to_string(),
            state: view.state.as_str(),
            version: view.version,
        })
    }

    fn origin(&self, event: &Event<'_>) -> Option<Origin> {
        let facts = &self.sources.facts;
        if let Some(country) = event.country {
            return Some(Origin {
                country: Some(country.to_string()),
                from: "event",
                why: (!country.is_real()).then_some("pseudo_country"),
                previously: None,
            });
        }
        let ip = event.ip?;
        let found = facts.country(ip);
        let named = |lookup| match lookup {
            CountryLookup::Found(country) => Some(country.to_string()),
            _ => None,
        };
        let before = facts.previous_geo.as_ref();
        let before = before.and_then(|_| named(facts.previous_country(ip)));
        Some(Origin {
            country: named(found),
            from: if named(found).is_some() {
                "database"
            } else {
                "none"
            },
            why: found.country().is_none().then(|| no_country(found)),
            previously: before.filter(|before| named(found).as_ref() != Some(before)),
        })
    }

    fn listed(&self, ip: IpAddr) -> Vec<Listed> {
        let lists = &self.sources.facts.lists;
        lists
            .names()
            .filter(|name| lists.id(name).is_some_and(|id| lists.contains(id, ip)))
            .map(|name| (self.sources.where_listed)(name, ip))
            .collect()
    }
}
