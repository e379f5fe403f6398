//! Names a device from its user agent, in words of our own.
//!
//! A user agent is written by whoever holds the device, an attacker included, so nothing of
//! it is repeated: only names from the tables below ever reach a mail or a page.

use super::{Words, fill};

/// Part of a user agent, and what it means; the first that is found wins, so the
/// particular stands before the general that it imitates.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi", "Vivaldi"),
    ("SamsungBrowser", "Samsung Internet"),
    ("YaBrowser", "Yandex Browser"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chromium", "Chromium"),
    ("Chrome", "Chrome"),
    ("Version/", "Safari"),
    ("MSIE", "Internet Explorer"),
    ("Trident/", "Internet Explorer"),
    ("curl/", "curl"),
    ("Wget/", "Wget"),
    ("python-requests", "Python"),
    ("Python-urllib", "Python"),
    ("Go-http-client", "Go"),
    ("Java/", "Java"),
];

const SYSTEMS: &[(&str, &str)] = &[
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
    ("FreeBSD", "FreeBSD"),
];

/// Longer user agents are looked at only so far.
const MAX_BYTES: usize = 1024;

/// "Firefox on Windows"; `None` where neither browser nor system is known.
pub fn summary(user_agent: &str, words: &Words) -> Option<String> {
    let cut = user_agent.floor_char_boundary(MAX_BYTES);
    let user_agent = &user_agent[..cut];
    let find = |table: &[(&str, &'static str)]| {
        table
            .iter()
            .find(|(part, _)| user_agent.contains(part))
            .map(|(_, name)| *name)
    };
    let (browser, system) = (find(BROWSERS), find(SYSTEMS));
    match (browser, system) {
        (None, None) => None,
        // A program names itself and no system.
        (Some(browser), None) if !user_agent.starts_with("Mozilla/") => Some(browser.to_owned()),
        _ => Some(fill(
            &words.device.on,
            &[
                ("browser", browser.unwrap_or(&words.device.browser)),
                ("system", system.unwrap_or(&words.device.unknown_system)),
            ],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(user_agent: &str, expected: Option<&str>) {
        assert_eq!(
            summary(user_agent, Words::fallback()).as_deref(),
            expected,
            "{user_agent}"
        );
    }

    #[test]
    fn common_devices_are_named() {
        says(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
            Some("Firefox on Windows"),
        );
        says(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
            Some("Edge on Windows"),
        );
        says(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            Some("Safari on iPhone"),
        );
        says(
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
            Some("Chrome on Android"),
        );
        says("curl/8.5.0", Some("curl"));
    }

    #[test]
    fn nothing_of_an_unknown_agent_is_repeated() {
        says("call +1 555 0100 now\r\nBcc: everybody", None);
        says("<b>Firefox</b>\u{202E} call us", Some("Firefox"));
        says("", None);
    }
}
