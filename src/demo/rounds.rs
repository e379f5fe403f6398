//! `demo --once`: every attack twice, answered once each way, through the mails and pages
//! that a person would use; and a judgement that rests on what was read back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use tokio::sync::broadcast;

use super::actor::Orders;
use super::attack::Attack;
use super::mailbox::Mail;
use super::trace::{Seen, Step, Trace};
use super::visitor::{self, Answer, Visitor};

/// How long each step may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(8);
/// The end of everything, so that `--once` keeps within its 45 s even where much is missing.
const BUDGET: Duration = Duration::from_secs(38);

/// What became of one round, and a line of `demo --once`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub round: String,
    pub attack: &'static str,
    pub rule: &'static str,
    pub account: String,
    pub case: Option<String>,
    /// Milliseconds from the attack's last event to the lock's being read.
    pub locked_ms: Option<i64>,
    /// To the mail's being in the mailbox.
    pub mail_ms: Option<i64>,
    /// To the attacker's being refused by the login pipeline.
    pub refused_ms: Option<i64>,
    /// `me` or `not_me`.
    pub answer: &'static str,
    /// `unlocked`, `secured` or `recovered`; `None` where nothing came of the answer.
    pub result: Option<&'static str>,
    /// From the answer's being in the log to its result.
    pub result_ms: Option<i64>,
    /// From the password change to the unlocking, in the round that plays one.
    pub recovered_ms: Option<i64>,
    /// What should have been seen and was not, or was seen and should not have been.
    pub missing: Vec<String>,
}

/// Plays everything; the reports come in the order of play. `each` hears of every round as
/// it ends, before the last look at all of them.
///
/// # Errors
/// Where the demo itself breaks down; a step that is missing is no error but in the report.
pub async fn play(
    orders: &Orders,
    mut seen: broadcast::Receiver<Arc<Seen>>,
    visitor: &Visitor,
    origin: &str,
    mut each: impl FnMut(&Report),
) -> anyhow::Result<Vec<Report>> {
    let end = Instant::now() + BUDGET;
    let mut watch = Watch {
        traces: Vec::new(),
        seen: &mut seen,
        end,
    };
    let mut troubles: Vec<Vec<String>> = Vec::new();
    let mut with_password = None;
    for attack in Attack::ALL {
        for me in [true, false] {
            let round = orders.play(attack).await?;
            watch.traces.push(Trace::new(round));
            let mut trouble = Vec::new();
            let at = watch.traces.len() - 1;
            if let Err(error) = one(&mut watch, at, me, visitor, origin).await {
                trouble.push(format!("{error:#}"));
            } else if !me && with_password.is_none() {
                with_password = Some(at);
                if let Err(error) = new_password(&mut watch, at, visitor).await {
                    trouble.push(format!("{error:#}"));
                }
            }
            each(&report(
                &watch.traces[at],
                me,
                with_password == Some(at),
                trouble.clone(),
            ));
            troubles.push(trouble);
        }
    }
    // One more look, for what should not have come at all.
    watch.until(|_| false, Duration::from_millis(300)).await?;
    Ok(watch
        .traces
        .iter()
        .zip(troubles)
        .enumerate()
        .map(|(at, (trace, trouble))| {
            report(trace, at % 2 == 0, with_password == Some(at), trouble)
        })
        .collect())
}

/// All rounds and the records that tell of them.
struct Watch<'a> {
    traces: Vec<Trace>,
    seen: &'a mut broadcast::Receiver<Arc<Seen>>,
    end: Instant,
}

impl Watch<'_> {
    /// Reads on until `enough` says so; `false` where that was not so in time.
    async fn until(
        &mut self,
        enough: impl Fn(&[Trace]) -> bool,
        patience: Duration,
    ) -> anyhow::Result<bool> {
        let deadline = self.end.min(Instant::now() + patience);
        while !enough(&self.traces) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(one) = tokio::time::timeout(left, self.seen.recv()).await else {
                return Ok(false);
            };
            let one = one.context("the demo's observer ended, or fell behind")?;
            for trace in &mut self.traces {
                trace.observe(&one);
            }
        }
        Ok(true)
    }

    /// Reads on until the round at `at` has made every one of `steps`.
    async fn steps(&mut self, at: usize, steps: &[Step]) -> anyhow::Result<()> {
        let all = |traces: &[Trace]| steps.iter().all(|step| traces[at].at(*step).is_some());
        let seen = self.until(all, PATIENCE).await?;
        let trace = &self.traces[at];
        let absent: Vec<&str> = steps
            .iter()
            .filter(|s| trace.at(**s).is_none())
            .map(|s| words(*s))
            .collect();
        ensure!(seen, "not seen: {}", absent.join(", "));
        Ok(())
    }
}

fn words(step: Step) -> &'static str {
    match step {
        Step::Attack => "the attack's last event",
        Step::Decision => "the decision",
        Step::Lock => "lock_account",
        Step::Mail => "the mail",
        Step::Refused => "the attacker's being refused",
        Step::Answer => "the answer in the log",
        Step::Unlocked => "unlock_account",
        Step::Secured => "revoke_sessions and require_password_change",
        Step::PasswordChanged => "password_changed",
        Step::Recovered => "unlock_account after the password change",
    }
}

/// From the attack to what comes of the answer.
async fn one(
    watch: &mut Watch<'_>,
    at: usize,
    me: bool,
    visitor: &Visitor,
    origin: &str,
) -> anyhow::Result<()> {
    let by_itself = [
        Step::Attack,
        Step::Decision,
        Step::Lock,
        Step::Mail,
        Step::Refused,
    ];
    watch.steps(at, &by_itself).await?;
    let mail = watch.traces[at].mail.clone().context("the mail is gone")?;
    let link = link(&mail, origin)?;
    let wanted = if me { "/me" } else { "/not-me" };
    let status = visit(visitor, move |visitor| answer(visitor, &link, wanted)).await?;
    ensure!(
        status == 200,
        "the page after the answer came with status {status}"
    );
    let result = if me { Step::Unlocked } else { Step::Secured };
    watch.steps(at, &[Step::Answer, result]).await?;
    Ok(())
}

/// The first link in the mail's plain text.
fn link(mail: &Mail, origin: &str) -> anyhow::Result<String> {
    let pages = format!("{origin}/c/");
    let link = mail.links(&pages).next();
    Ok(link
        .context("the mail's text has no link to the owner's page")?
        .to_owned())
}

/// Opens the link, finds the form whose action ends with `wanted`, ticks every place, sends
/// it, and follows.
fn answer(visitor: &Visitor, link: &str, wanted: &str) -> anyhow::Result<u16> {
    let page = visitor.get(link)?;
    ensure!(
        page.status == 200,
        "the link's page came with status {}",
        page.status
    );
    let form = visitor::forms(&page.body)
        .into_iter()
        .find(|form| {
            form.action
                .split('?')
                .next()
                .is_some_and(|path| path.ends_with(wanted))
        })
        .with_context(|| format!("the link's page has no form for {wanted}"))?;
    let answer = visitor.send(&form.tick_all())?;
    ensure!(
        answer.status == 303,
        "the answer was met with status {}",
        answer.status
    );
    let Answer { location, .. } = answer;
    let status = visitor.get(&location.context("the answer leads nowhere")?)?;
    Ok(status.status)
}

/// The owner sets a new password on the site's own page.
async fn new_password(watch: &mut Watch<'_>, at: usize, visitor: &Visitor) -> anyhow::Result<()> {
    let case = watch.traces[at]
        .case
        .clone()
        .context("the round has no case")?;
    let path = format!("/demo/password?case={case}");
    let status = visit(visitor, move |visitor| {
        let form = password_form(visitor, &path)?;
        Ok(visitor.send(&form)?.status)
    })
    .await?;
    ensure!(
        status == 200,
        "the new password was met with status {status}"
    );
    watch
        .steps(at, &[Step::PasswordChanged, Step::Recovered])
        .await
}

/// The site's form for a new password. The pipeline reads its commands by itself, perhaps a
/// moment after they were seen here; a person would load the page again.
fn password_form(visitor: &Visitor, path: &str) -> anyhow::Result<visitor::Form> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = visitor.get(path)?;
        if let Some(form) = visitor::forms(&page.body).into_iter().next() {
            return Ok(form);
        }
        ensure!(
            Instant::now() < deadline,
            "the site's page offers no new password"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn visit<T: Send + 'static>(
    visitor: &Visitor,
    what: impl FnOnce(&Visitor) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let visitor = visitor.clone();
    let done = tokio::task::spawn_blocking(move || what(&visitor)).await;
    done.context("the visit broke off")?
}

fn report(trace: &Trace, me: bool, password: bool, mut missing: Vec<String>) -> Report {
    let expected = match (me, password) {
        (true, _) => Step::Unlocked,
        (false, true) => Step::Recovered,
        (false, false) => Step::Secured,
    };
    let results = [Step::Recovered, Step::Unlocked, Step::Secured];
    let seen = results.into_iter().find(|step| trace.at(*step).is_some());
    let on_the_way = |step| expected == Step::Recovered && step == Step::Secured;
    for step in results {
        if trace.at(step).is_some() && step != expected && !on_the_way(step) {
            missing.push(format!("seen, and should not have been: {}", words(step)));
        }
    }
    if let Some(reason) = &trace.stray_unlock {
        missing.push(format!(
            "unlock_account because of {reason}, which nobody asked for"
        ));
    }
    if missing.is_empty() && seen != Some(expected) {
        missing.push(format!("not seen: {}", words(expected)));
    }
    let result = match seen {
        Some(Step::Recovered) => Some("recovered"),
        Some(Step::Unlocked) => Some("unlocked"),
        Some(_) => Some("secured"),
        None => None,
    };
    let answered = if me { Step::Unlocked } else { Step::Secured };
    Report {
        round: trace.round.id.clone(),
        attack: trace.round.attack.as_str(),
        rule: trace.round.attack.rule(),
        account: trace.round.account.clone(),
        case: trace.case.clone(),
        locked_ms: trace.ms(Step::Attack, Step::Lock),
        mail_ms: trace.ms(Step::Attack, Step::Mail),
        refused_ms: trace.ms(Step::Attack, Step::Refused),
        answer: if me { "me" } else { "not_me" },
        result,
        result_ms: trace.ms(Step::Answer, answered),
        recovered_ms: trace.ms(Step::PasswordChanged, Step::Recovered),
        missing,
    }
}
