//! What happened, as a page tells it: known words, times, and addresses that parse.

use super::view::{Fact, PlaceBox, Row, Story};
use super::{Opened, Pages, RecoveryState};
use crate::engine::output::RecipientPart;
use crate::locale::{self, device, fill};
use crate::record::{CaseRecord, EvidenceRecord};

impl<'a> Pages<'a> {
    /// `done` is what was done about it.
    pub(super) fn story(&self, opened: Opened<'_>, case: &CaseRecord, done: &str) -> Story<'a> {
        let w = self.w;
        let reason = w.reason(&case.reason);
        let owner = opened.link.part == RecipientPart::Owner;
        let mut facts = Vec::new();
        if !owner {
            facts.push(Fact {
                name: &w.facts.about,
                value: reason.short.clone(),
            });
        }
        let mut times: Vec<_> = case
            .evidence
            .iter()
            .filter_map(|e| locale::parse_time(&e.time))
            .collect();
        times.sort_unstable();
        // Of a recovery the first request counts, of everything else what is newest.
        let told = match RecoveryState::of(case) {
            Some(_) => times.first(),
            None => times.last(),
        };
        let when = told.copied().or_else(|| locale::parse_time(&case.opened));
        if let Some(time) = when {
            facts.push(Fact {
                name: &w.facts.when,
                value: w.time(time),
            });
        }
        let mut places: Vec<String> = Vec::new();
        for name in case
            .evidence
            .iter()
            .filter_map(|e| w.country(e.country.as_deref()?))
        {
            if !places.contains(&name) {
                places.push(name);
            }
        }
        if !places.is_empty() {
            facts.push(Fact {
                name: &w.facts.r#where,
                value: fill(&w.facts.roughly, &[("place", &places.join(", "))]),
            });
        }
        if let Some(device) = case
            .device
            .as_deref()
            .and_then(|agent| device::summary(agent, w))
        {
            facts.push(Fact {
                name: &w.facts.device,
                value: device,
            });
        }
        facts.push(Fact {
            name: &w.facts.done,
            value: done.to_owned(),
        });
        let evidence: Vec<Row> = case.evidence.iter().map(|e| self.row(e)).collect();
        Story {
            happened: if owner {
                &reason.long
            } else {
                &w.facts.happened_others
            },
            facts,
            evidence_title: fill(&w.page.evidence, &[("count", &evidence.len().to_string())]),
            evidence,
        }
    }

    fn row(&self, evidence: &EvidenceRecord) -> Row {
        let w = self.w;
        let time = locale::parse_time(&evidence.time);
        let place = evidence.country.as_deref().and_then(|code| w.country(code));
        let address = evidence
            .ip
            .as_deref()
            .and_then(|ip| ip.parse::<std::net::IpAddr>().ok());
        Row {
            time: time.map_or_else(|| "–".into(), |time| w.time(time)),
            place: place.unwrap_or_else(|| w.facts.place_unknown.clone()),
            address: address.map_or_else(|| "–".into(), |ip| ip.to_string()),
        }
    }

    /// The places that its owner ticked.
    pub(super) fn known_places(&self, case: &CaseRecord) -> Vec<String> {
        let known = case.places.iter().filter(|place| place.known);
        known.map(|place| self.w.place(&place.value)).collect()
    }

    /// The places that still ask for a tick.
    pub(super) fn place_boxes(&self, case: &CaseRecord) -> Vec<PlaceBox> {
        let w = self.w;
        case.places
            .iter()
            .map(|place| PlaceBox {
                value: place.value.clone(),
                name: w.place(&place.value),
                seen: locale::parse_time(&place.time).map(|time| w.time(time)),
                ticked: place.known,
            })
            .collect()
    }
}
