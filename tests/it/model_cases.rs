//! Cases in any order of events, answers, operators, timers and restarts, against an obvious
//! model: nothing unlocks an account that its owner disowned, nothing leaves one locked that
//! its owner owned to, and nothing locks again on evidence that was answered.

use std::collections::BTreeSet;

use doorward::engine::output::{CaseState, CaseView, CommandKind, Effect, RecipientPart};
use doorward::event::Timestamp;
use doorward::event::wire;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::config;
use crate::support::story::*;

const COUNTRIES: [&str; 4] = ["NO", "DE", "BR", "JP"];

const OWNER: &str = "u@example.org";
const CO_OWNER: &str = "boss@example.org";

const BRIEF: &str = "
schema: 1
id: brief
title: Locked for two hours
severity: low
mode: enforce
when: { type: two_factor_reset, outcome: success }
by: account
detect: each
then: [ { lock_account: { reason: trial, until: 2h, scope: unfamiliar } }, email_user ]
";

const ASK: &str = "
schema: 1
id: ask
title: A recovery code was used
severity: medium
mode: enforce
when: { type: recovery_code_used }
by: account
detect: each
then: [ email_user ]
";

#[derive(Clone, Debug)]
enum Step {
    Login(usize),
    /// Five wrong codes.
    Codes,
    Brief,
    Ask,
    /// An event of the past once more, so many before the last.
    Again(usize),
    /// The places that are ticked, as bits; whether it is for the version that is shown.
    Me {
        ticks: u8,
        current: bool,
    },
    NotMe {
        by_co_owner: bool,
    },
    MeByCoOwner,
    /// Of the case before.
    OldAnswer(bool),
    RotateKeys,
    Unlock {
        named: bool,
    },
    Undo,
    Unlocked {
        named: bool,
    },
    PasswordChanged {
        named: bool,
    },
    Stolen,
    /// One that says of itself that it is due.
    ForgedTimer(&'static str),
    /// A mail about the case, or the one before, did not arrive.
    Bounced {
        owner: bool,
        current: bool,
    },
    Restart,
    Delete,
}

fn step() -> impl Strategy<Value = (i64, Step)> {
    let waits = prop_oneof![
        6 => 0..30_i64,
        3 => 30..200_i64,
        1 => 200..6_000_i64,
        // Around the time that a question waits, and that a closed case is kept.
        1 => 72 * 60 - 40..72 * 60 + 40_i64,
    ];
    let steps = prop_oneof![
        8 => (0..COUNTRIES.len()).prop_map(Step::Login),
        3 => Just(Step::Codes),
        3 => Just(Step::Brief),
        3 => Just(Step::Ask),
        3 => (0..12_usize).prop_map(Step::Again),
        6 => (any::<u8>(), prop::bool::weighted(0.8))
            .prop_map(|(ticks, current)| Step::Me { ticks, current }),
        2 => Just(Step::Me { ticks: 0xff, current: true }),
        4 => any::<bool>().prop_map(|by_co_owner| Step::NotMe { by_co_owner }),
        1 => Just(Step::MeByCoOwner),
        1 => any::<bool>().prop_map(Step::OldAnswer),
        1 => Just(Step::RotateKeys),
        2 => any::<bool>().prop_map(|named| Step::Unlock { named }),
        2 => Just(Step::Undo),
        2 => any::<bool>().prop_map(|named| Step::Unlocked { named }),
        3 => any::<bool>().prop_map(|named| Step::PasswordChanged { named }),
        1 => Just(Step::Stolen),
        1 => prop::sample::select(vec!["lock_until", "case_asked"]).prop_map(Step::ForgedTimer),
        2 => (any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(owner, current)| Step::Bounced { owner, current }),
        2 => Just(Step::Restart),
        1 => Just(Step::Delete),
    ];
    (waits, steps)
}

/// What the model knows of the account's case. Rules open cases and add to them; what they
/// added is taken from what was shown, everything else is worked out here.
#[derive(Clone, Debug)]
struct Case {
    id: String,
    version: u32,
    state: CaseState,
    places: Vec<String>,
    known: BTreeSet<String>,
    /// When the lock ends by itself.
    until: Option<i64>,
    /// When its version last rose.
    updated: i64,
    closed: i64,
    /// The newest evidence that was shown.
    newest: i64,
    /// Whether the owner's mail, and the co-owner's, did not arrive.
    owner_lost: bool,
    co_owner_lost: bool,
}

impl Case {
    fn is_open(&self) -> bool {
        matches!(
            self.state,
            CaseState::Open | CaseState::Asked | CaseState::Secured
        )
    }

    fn is_locked(&self) -> bool {
        matches!(self.state, CaseState::Open | CaseState::Secured)
    }

    /// When nobody waits for its owner's answer any more, where it is not locked.
    fn asked_until(&self) -> Option<i64> {
        (self.state == CaseState::Asked).then_some(self.updated + 72 * HOUR)
    }

    /// Ends it, as an answer that is no denial does; what is ordered then.
    fn end(&mut self, now: i64) -> Vec<&'static str> {
        let locked = self.is_locked();
        self.state = match self.state {
            CaseState::Secured => CaseState::Recovered,
            CaseState::Asked => CaseState::Closed,
            _ => CaseState::Unlocked,
        };
        (self.until, self.closed) = (None, now);
        match locked {
            true => vec!["unlock_account"],
            false => Vec::new(),
        }
    }

    fn secure(&mut self) -> Vec<&'static str> {
        self.state = CaseState::Secured;
        self.until = None;
        self.known.clear();
        vec!["revoke_sessions", "require_password_change"]
    }
}

#[derive(Default)]
struct Model {
    case: Option<Case>,
    /// Since the account was last deleted, the newest event that an answer has dealt with.
    answered: Option<i64>,
}

impl Model {
    /// The case that answers can still be about.
    fn current(&mut self, now: i64) -> Option<&mut Case> {
        let case = self.case.as_mut()?;
        (case.is_open() || now - case.closed < 72 * HOUR).then_some(case)
    }

    /// What was shown of a case that is over was answered.
    fn ended(&mut self) {
        let shown = self.case.as_ref().filter(|case| !case.is_open());
        self.answered = self.answered.max(shown.map(|case| case.newest));
    }
}

/// The commands that the step must give, save `lock_account`, and `None` where it is the
/// rules' to say.
fn expected(model: &mut Model, step: &Step, now: i64) -> Option<Vec<&'static str>> {
    let nothing = Some(Vec::new());
    let Some(case) = model.current(now) else {
        return match step {
            Step::Login(_) | Step::Codes | Step::Brief | Step::Ask | Step::Again(_) => None,
            Step::Stolen => None,
            Step::Unlock { named: false } => Some(vec!["unlock_account"]),
            Step::Delete => {
                *model = Model::default();
                nothing
            }
            _ => nothing,
        };
    };
    let said = match step {
        Step::Login(_) | Step::Codes | Step::Brief | Step::Ask | Step::Again(_) => return None,
        Step::Me {
            ticks,
            current: true,
        } if matches!(case.state, CaseState::Open | CaseState::Asked) => {
            let ticked = case.places.iter().enumerate();
            let ticked = ticked.filter(|(at, _)| ticks & (1 << (at % 8)) != 0);
            case.known.extend(ticked.map(|(_, place)| place.clone()));
            match case.places.iter().all(|place| case.known.contains(place)) {
                true => case.end(now),
                false => Vec::new(),
            }
        }
        Step::NotMe { .. } if !matches!(case.state, CaseState::Secured | CaseState::Recovered) => {
            case.secure()
        }
        Step::RotateKeys if matches!(case.state, CaseState::Secured | CaseState::Recovered) => {
            return None;
        }
        Step::Unlock { .. } if case.is_open() => match case.end(now) {
            unlock if unlock.is_empty() => Vec::new(),
            unlock => unlock,
        },
        // Support was asked: the pipeline may still hold a lock.
        Step::Unlock { named: false } => return Some(vec!["unlock_account"]),
        Step::Undo if case.is_open() && case.state != CaseState::Secured => case.end(now),
        Step::Unlocked { .. } if case.is_open() => {
            case.end(now);
            Vec::new()
        }
        Step::PasswordChanged { named: true } if case.state == CaseState::Secured => case.end(now),
        Step::Stolen if case.state != CaseState::Secured => return None,
        Step::Delete => {
            *model = Model::default();
            return nothing;
        }
        _ => Vec::new(),
    };
    model.ended();
    Some(said)
}

struct Play {
    story: Story,
    model: Model,
    now: i64,
    /// What the rules were told, with id and time.
    told: Vec<(i64, Value)>,
    /// The case before the last.
    before: String,
    versions: std::collections::BTreeMap<String, u32>,
}

impl Play {
    fn new() -> Play {
        let mut texts: Vec<&str> = doorward::builtin::rules_file_names()
            .filter(|name| name.ends_with(".rule.yaml"))
            .filter_map(doorward::builtin::rules_file)
            .collect();
        texts.extend([BRIEF, ASK]);
        Play {
            story: Story::with(rule_set(&texts), facts(), settings()),
            model: Model::default(),
            now: 0,
            told: Vec::new(),
            before: "k-none".into(),
            versions: std::collections::BTreeMap::new(),
        }
    }

    /// An event that rules look at.
    fn tell(&mut self, mut event: Value) -> Said {
        event["id"] = json!(format!("t{}", self.told.len()));
        event["account"] = json!("u");
        event["email"] = json!(OWNER);
        event["owners"] = json!([CO_OWNER]);
        self.told.push((self.now, event.clone()));
        let said = self.story.event(self.now, event);
        self.now += 1;
        said
    }

    fn response(&self, answer: &str, version: u32, places: &[String], by: &str) -> Value {
        let case = self.model.case.as_ref().map_or("k-none", |case| &case.id);
        json!({ "type": "case_response", "account": "u", "case": case, "case_version": version,
                "answer": answer, "places": places, "by": by })
    }

    fn play(&mut self, step: &Step) -> Said {
        let case = self.model.case.clone();
        let id = case.as_ref().map_or("k-none", |case| &case.id).to_owned();
        let version = case.as_ref().map_or(1, |case| case.version);
        let named = |mut event: Value, named: bool| {
            if named {
                event["case"] = json!(id);
            }
            event
        };
        let event = |kind: &str| json!({ "type": kind, "account": "u" });
        let operator = |request: &str| {
            json!({ "type": "operator_request", "account": "u", "request": request,
                    "operator": "support desk", "reason": "asked" })
        };
        let event = match step {
            Step::Login(at) => {
                let country = COUNTRIES[*at];
                return self.tell(json!({ "type": "login", "outcome": "success",
                    "country": country, "session": format!("s-{country}") }));
            }
            Step::Codes => {
                let mut all = Said::default();
                for _ in 0..5 {
                    let said = self.tell(json!({ "type": "two_factor", "outcome": "failure" }));
                    all.commands.extend(said.commands);
                    all.decisions.extend(said.decisions);
                }
                return all;
            }
            Step::Brief => {
                return self.tell(json!({ "type": "two_factor_reset", "outcome": "success" }));
            }
            Step::Ask => return self.tell(json!({ "type": "recovery_code_used" })),
            Step::Again(back) => {
                let Some(at) = self.told.len().checked_sub(back + 1) else {
                    return Said::default();
                };
                let (time, event) = self.told[at].clone();
                return self.story.event_received(time, self.now, event);
            }
            Step::Me { ticks, current } => {
                let places = case.map_or_else(Vec::new, |case| case.places);
                let ticked = places.iter().enumerate();
                let ticked: Vec<String> = ticked
                    .filter(|(at, _)| ticks & (1 << (at % 8)) != 0)
                    .map(|(_, place)| place.clone())
                    .collect();
                let version = if *current { version } else { version + 1 };
                self.response("me", version, &ticked, "owner")
            }
            Step::NotMe { by_co_owner } => {
                let by = if *by_co_owner { "co_owner" } else { "owner" };
                self.response("not_me", 1, &[], by)
            }
            Step::MeByCoOwner => {
                let places = case.map_or_else(Vec::new, |case| case.places);
                self.response("me", version, &places, "co_owner")
            }
            Step::OldAnswer(me) => {
                let answer = if *me { "me" } else { "rotate_keys" };
                let mut old = self.response(answer, version, &[], "owner");
                old["case"] = json!(self.before);
                old
            }
            Step::RotateKeys => self.response("rotate_keys", version, &[], "owner"),
            Step::Unlock { named: by_name } => named(operator("unlock"), *by_name),
            Step::Undo => named(operator("undo"), true),
            Step::Unlocked { named: by_name } => named(event("account_unlocked"), *by_name),
            Step::PasswordChanged { named: by_name } => named(event("password_changed"), *by_name),
            Step::Stolen => json!({ "type": "reported_stolen", "account": "u",
                                    "email": OWNER, "owners": [CO_OWNER] }),
            Step::Delete => event("account_deleted"),
            Step::ForgedTimer(kind) => {
                let long_ago = Timestamp(START);
                let name = format!("f-{}", self.now);
                let timer = wire::timer_due(&name, "u", &id, kind, long_ago, long_ago);
                return self.story.bytes(self.now, &timer);
            }
            Step::Bounced { owner, current } => {
                let case = if *current { &id } else { &self.before };
                json!({ "type": "mail_bounced", "account": "u", "case": case,
                        "to": if *owner { OWNER } else { CO_OWNER }, "by": "owner" })
            }
            Step::Restart => {
                self.story.restart(&["u"]);
                return Said::default();
            }
        };
        self.story.event(self.now, event)
    }

    /// Takes over what rules did to the case.
    fn look(&mut self, shown: &CaseView) {
        let places: Vec<String> = shown.places.iter().map(|p| p.value.to_string()).collect();
        let until = shown.until.map(|until| until.0 - START);
        let known = shown.places.iter().filter(|place| place.known);
        let known = known.map(|place| place.value.to_string()).collect();
        if let Some(case) = &self.model.case
            && case.id != *shown.id.0
        {
            self.before = case.id.clone();
        }
        // What is shown again of a case that is over was closed before.
        let held = self.model.case.as_ref();
        let lost = held.filter(|case| case.id == *shown.id.0);
        let lost = lost.map_or((false, false), |case| (case.owner_lost, case.co_owner_lost));
        let was_closed = held.filter(|case| case.id == *shown.id.0 && !case.is_open());
        let closed = match shown.state.is_open() {
            true => 0,
            false => was_closed.map_or(self.now, |case| case.closed),
        };
        self.model.case = Some(Case {
            id: shown.id.to_string(),
            version: shown.version,
            state: shown.state,
            places,
            known,
            until: until.filter(|_| shown.state == CaseState::Open),
            updated: shown.updated.0 - START,
            closed,
            newest: shown
                .evidence
                .iter()
                .map(|e| e.time.0 - START)
                .max()
                .unwrap_or(0),
            owner_lost: lost.0,
            co_owner_lost: lost.1,
        });
    }
}

/// Whom a bounce sends a mail, and whether operators hear that nobody is left.
fn bounce(model: &mut Model, owner: bool, current: bool) -> (Vec<&'static str>, u32) {
    let open = |case: &&mut Case| case.is_open();
    let Some(case) = model.case.as_mut().filter(open).filter(|_| current) else {
        return (Vec::new(), 0);
    };
    let lost = match owner {
        true => &mut case.owner_lost,
        false => &mut case.co_owner_lost,
    };
    if std::mem::replace(lost, true) {
        return (Vec::new(), 0);
    }
    match (case.owner_lost, case.co_owner_lost) {
        (true, true) => (Vec::new(), 1),
        (true, false) if owner => (vec![CO_OWNER], 0),
        _ => (Vec::new(), 0),
    }
}

fn names(said: &Said) -> Vec<&'static str> {
    let names = said.commands.iter().map(|command| command.kind.as_str());
    names.filter(|name| *name != "lock_account").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..config() })]

    #[test]
    fn rules_10_cases_go_as_the_model_says_in_whatever_order(
        history in prop::collection::vec(step(), 1..40),
    ) {
        let mut play = Play::new();
        for (minutes, step) in &history {
            play.now += minutes * MINUTE;
            // Time alone ends only a lock that has an end, and a question.
            let due = play.model.case.as_ref().and_then(|case| case.until);
            let unanswered = play.model.case.as_ref().and_then(Case::asked_until);
            let shown = play.story.said.cases.len();
            let passed = play.story.wait_until(play.now);
            let ends = due.is_some_and(|until| until <= play.now);
            prop_assert_eq!(names(&passed).len(), usize::from(ends), "{:?}", due);
            if ends {
                if let Some(case) = &mut play.model.case {
                    case.end(due.unwrap_or(play.now));
                }
                play.model.ended();
            }
            if let Some(until) = unanswered.filter(|until| *until <= play.now) {
                prop_assert!(passed.mails.is_empty(), "{:?}", passed.mails);
                prop_assert_eq!(play.story.said.cases.len(), shown + 1);
                let view = &play.story.said.cases[shown];
                // Nobody answered, so what happened is not settled: `answered` stays.
                if let Some(case) = &mut play.model.case {
                    (case.state, case.closed) = (CaseState::Closed, until);
                    (case.version, case.updated) = (case.version + 1, until);
                    prop_assert_eq!(view.state, case.state);
                    prop_assert_eq!(view.version, case.version);
                    prop_assert_eq!(view.updated.0 - START, until);
                    let known = view.places.iter().filter(|place| place.known);
                    prop_assert_eq!(known.count(), case.known.len(), "{:?}", view);
                }
                play.versions.insert(view.id.to_string(), view.version);
            }
            let (before, answered) = (play.model.case.clone(), play.model.answered);
            let shown = play.story.said.cases.len();
            let unreached = play.story.said.counts.mail_unreached;
            let replayed = match step {
                Step::Again(back) => {
                    let at = play.told.len().checked_sub(back + 1);
                    at.map(|at| play.told[at].0)
                }
                _ => None,
            };
            let said = play.play(step);
            let expected = expected(&mut play.model, step, play.now);
            if let Some(expected) = &expected {
                prop_assert_eq!(&names(&said), expected, "{:?}", step);
            }
            if let Step::Bounced { owner, current } = step {
                let (told, nobody) = bounce(&mut play.model, *owner, *current);
                let to: Vec<&str> = said.mails.iter().map(|mail| &*mail.to).collect();
                prop_assert_eq!(&to, &told, "{:?}", step);
                let counted = play.story.said.counts.mail_unreached - unreached;
                prop_assert_eq!(counted, nobody, "{:?}", step);
                let opens = said.mails.iter().any(|mail| mail.part == RecipientPart::Owner);
                prop_assert!(!opens && said.commands.is_empty(), "{:?}", said);
            }
            let disowned = before.as_ref().is_some_and(|case| case.state == CaseState::Secured);
            let unlocks = said.commands.iter().any(|c| c.kind == CommandKind::UnlockAccount);
            if disowned && unlocks {
                let may = matches!(
                    step,
                    Step::PasswordChanged { named: true } | Step::Unlock { .. }
                );
                prop_assert!(may, "{:?} unlocked what its owner disowned", step);
            }
            // Evidence that was answered never locks again.
            if let (Some(time), Some(answered)) = (replayed, answered)
                && time <= answered
            {
                let counted = said.decisions.iter().any(|d| d.effect != Effect::Stale);
                let acted = counted || !said.commands.is_empty();
                prop_assert!(!acted, "{:?} of {} counted again", step, time);
            }
            // What was shown is what the model says, and its version never falls.
            let shown: Vec<CaseView> = play.story.said.cases[shown..].to_vec();
            for view in &shown {
                let last = play.versions.insert(view.id.to_string(), view.version);
                // What operators asked for is noted without a new version.
                prop_assert!(last.is_none_or(|last| view.version >= last), "{:?}", view);
            }
            if matches!(step, Step::Delete) {
                play.versions.clear();
                prop_assert!(play.story.engine.case_of(&play.story.partition, "u").is_none());
            }
            if let Some(view) = shown.last() {
                if let (Some(case), Some(_)) = (&play.model.case, &expected) {
                    prop_assert_eq!(view.state, case.state, "{:?}", step);
                }
                play.look(view);
            }
            let asked = |case: &Case| case.state == CaseState::Asked;
            let questions = usize::from(play.model.case.as_ref().is_some_and(asked));
            prop_assert_eq!(play.story.partition.questions(), questions, "{:?}", step);
        }
    }
}
