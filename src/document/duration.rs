//! Lengths of time as people write them.

use crate::event::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// Milliseconds of a length of time such as `250ms`, `30s`, `5m`, `24h`, `365d`.
///
/// # Errors
/// What to write instead.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let (meant, smallest_ms) = meant_ms(text)
        .ok_or("write a whole number and one of ms, s, m, h, d: `30s`, `5m`, `24h`")?;
    if meant > 100 * 365 * DAY_MS {
        return Err("it can be a hundred years at most".to_owned());
    }
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit.len() < text.len() && UNITS.iter().any(|(known, _)| *known == unit) {
        return Ok(meant);
    }
    let (unit, ms) = UNITS
        .iter()
        .find(|(_, ms)| *ms <= smallest_ms)
        .unwrap_or(&UNITS[0]);
    Err(format!("write `{}{unit}`", meant / ms))
}

/// The largest first.
const UNITS: [(&str, i64); 5] = [
    ("d", DAY_MS),
    ("h", HOUR_MS),
    ("m", MINUTE_MS),
    ("s", SECOND_MS),
    ("ms", 1),
];

/// What somebody meant who wrote `5min`, `24 hours`, `2w` or `1h30m`, and the smallest unit
/// in it.
fn meant_ms(text: &str) -> Option<(i64, i64)> {
    let mut rest = text.trim();
    let (mut total, mut smallest_ms) = (0_i64, i64::MAX);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.len() - rest.trim_start_matches(char::is_alphabetic).len();
        let ms = match rest[..letters].to_ascii_lowercase().as_str() {
            "ms" | "msec" | "msecs" | "millis" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => SECOND_MS,
            "m" | "min" | "mins" | "minute" | "minutes" => MINUTE_MS,
            "h" | "hr" | "hrs" | "hour" | "hours" => HOUR_MS,
            "d" | "day" | "days" => DAY_MS,
            "w" | "week" | "weeks" => 7 * DAY_MS,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(ms)?)?;
        smallest_ms = smallest_ms.min(ms);
        rest = rest[letters..].trim_start();
    }
    (!text.trim().is_empty()).then_some((total, smallest_ms))
}
