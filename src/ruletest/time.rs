//! Times of a timeline: `0s`, `5m`, `1h 30m`, `+30s`.

use crate::document::parse_duration_ms;

/// Milliseconds of a sum of lengths such as `4m 59s 999ms`.
///
/// # Errors
/// What to write instead.
pub fn parse_ms(text: &str) -> Result<i64, String> {
    const HELP: &str = "write whole numbers with ms, s, m, h or d: `30s`, `5m 1ms`, `2h`";
    let mut total = 0_i64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(HELP.to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let after = &rest[digits..];
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_alphabetic()).len();
        if digits == 0 || letters == 0 {
            return Err(HELP.to_owned());
        }
        let (one, more) = rest.split_at(digits + letters);
        total = total
            .checked_add(parse_duration_ms(one)?)
            .ok_or_else(|| HELP.to_owned())?;
        rest = more.trim_start();
    }
    Ok(total)
}

/// `ms` as a test would write it.
pub fn show(ms: i64) -> String {
    const UNITS: [(&str, i64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = ms.unsigned_abs();
    let mut parts: Vec<String> = Vec::new();
    for (unit, length) in UNITS {
        let length = length.unsigned_abs();
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_it_is_shown() {
        for text in ["0s", "1ms", "5m 1ms", "1d 2h 3m 4s 5ms", "400d"] {
            assert_eq!(parse_ms(text).map(show).as_deref(), Ok(text));
        }
        assert_eq!(parse_ms("1h30m"), Ok(5_400_000));
        for bad in [
            "",
            "5",
            "m",
            "5 m",
            "5min",
            "-5m",
            "1h -2m",
            "99999999999999999999d",
        ] {
            assert!(parse_ms(bad).is_err(), "{bad}");
        }
    }
}
