//! The chart of locks over time, as numbers for SVG.

use super::text::minute;
use crate::event::MINUTE_MS;
use crate::replay::report::Timeline;
use crate::replay::report::notes::number;

/// The chart's height and width, in its own units.
const HEIGHT: f64 = 180.0;
const WIDTH: f64 = 720.0;

pub struct Chart {
    pub bars: Vec<BarView>,
    pub width: String,
    pub top: u64,
    pub labels: Vec<(f64, &'static str, String)>,
}

pub struct BarView {
    pub when: String,
    pub x: f64,
    pub width: f64,
    pub locked: u64,
    pub shadow: u64,
    pub held: u64,
    /// Top and height of each part.
    pub parts: Vec<(&'static str, f64, f64)>,
}

pub fn chart(timeline: &Timeline) -> Chart {
    let bars = timeline.bars();
    let top = bars
        .iter()
        .map(|(_, bar)| bar.locked + bar.shadow + bar.held)
        .max()
        .unwrap_or(0);
    let step = WIDTH / bars.len().max(1) as f64;
    let scale = HEIGHT / top.max(1) as f64;
    let views = bars
        .iter()
        .enumerate()
        .map(|(at, (when, bar))| {
            let mut base = HEIGHT;
            let mut parts = Vec::new();
            for (name, count) in [
                ("locked", bar.locked),
                ("shadow", bar.shadow),
                ("held", bar.held),
            ] {
                let height = count as f64 * scale;
                base -= height;
                if count > 0 {
                    parts.push((name, base, height));
                }
            }
            BarView {
                when: minute(*when),
                x: at as f64 * step + step * 0.1,
                width: (step * 0.8).min(60.0),
                locked: bar.locked,
                shadow: bar.shadow,
                held: bar.held,
                parts,
            }
        })
        .collect();
    let end = bars.len().saturating_sub(1);
    let mut labels = Vec::new();
    if let Some((first, _)) = bars.first() {
        labels.push((0.0, "start", minute(*first)));
    }
    if end > 0 {
        labels.push((WIDTH, "end", minute(bars[end].0)));
    }
    Chart {
        bars: views,
        width: span(timeline.width_ms()),
        top,
        labels,
    }
}

/// A span of time in its largest whole unit.
fn span(ms: i64) -> String {
    let minutes = (ms / MINUTE_MS).unsigned_abs();
    match minutes {
        m if m.is_multiple_of(1_440) => number(m / 1_440, "day", "days"),
        m if m.is_multiple_of(60) => number(m / 60, "hour", "hours"),
        m => number(m, "minute", "minutes"),
    }
}
