//! Promises about the source itself, which no compiler keeps.
//!
//! Each check is a function from a file to complaints, and each is shown a bad example, so
//! that a check that finds nothing is known to be able to.

mod imports;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that take facts and `now` and return values, so that `run`, `replay` and the
/// simulation decide alike.
const CORE: &[&str] = &["document", "engine", "enrich", "event", "record", "rules"];

/// Crates that read a clock, the network, or a source of randomness, or that log.
const FORBIDDEN_CRATES: &[&str] = &[
    "axum",
    "dashmap",
    "getrandom",
    "governor",
    "lettre",
    "log",
    "prometheus",
    "rand",
    "rdkafka",
    "rdkafka_sys",
    "reqwest",
    "tokio",
    "tracing",
    "ureq",
];

/// The same in the standard library; a whole module may not be imported under its name
/// either, since then its use cannot be seen.
const FORBIDDEN_STD: &[&[&str]] = &[
    &["env"],
    &["fs"],
    &["os"],
    &["process"],
    &["thread"],
    &["time", "Instant"],
    &["time", "SystemTime"],
    &["time", "UNIX_EPOCH"],
    &["net", "TcpListener"],
    &["net", "TcpStream"],
    &["net", "ToSocketAddrs"],
    &["net", "UdpSocket"],
];

/// A file may not be longer.
const MAX_LINES: usize = 600;

#[test]
fn the_core_takes_time_and_chance_as_arguments_and_knows_no_network() {
    let complaints = each_source(|path, text| match path.strip_prefix("src") {
        Ok(inside) if is_core(inside) => impurities(text),
        _ => Vec::new(),
    });
    assert_none(&complaints);
}

#[test]
fn the_mailers_decisions_take_time_and_chance_as_arguments_too() {
    let complaints = each_source(|path, text| {
        if !path.starts_with("src/mail/plan") && path != Path::new("src/mail/plan.rs")
            || path
                .iter()
                .any(|part| part == "tests" || part == "tests.rs")
        {
            return Vec::new();
        }
        let mut found = impurities(text);
        // It parses the time in a record.
        found.retain(|path| !path.starts_with("crate::locale"));
        found
    });
    assert_none(&complaints);
}

#[test]
fn the_check_of_the_core_can_fail() {
    let bad = r#"
        use std::{collections::BTreeMap, time::{Duration, Instant as Moment}};
        use std::net::{IpAddr, self};
        use std::time::*;
        use crate::{event::Event, metrics::Metrics};
        fn f<'a>() { let _ = jiff::Timestamp::now(); tracing::info!("tokio::spawn"); }
        // use rdkafka::config;
        fn g() -> Vec<u8> { std::fs::read("x").unwrap_or_default() }
        fn h() -> u64 { getrandom::u64().unwrap_or(b'"' as u64) } /* lettre::Message */
        #[cfg(test)]
        mod tests {
            use std::env;
        }
    "#
    .replace("        #[cfg(test)]\n        mod", "#[cfg(test)]\nmod");
    let expected = [
        "std::time::Instant",
        "std::net",
        "std::time::*",
        "crate::metrics::Metrics",
        "jiff::Timestamp::now",
        "tracing::info",
        "std::fs::read",
        "getrandom::u64",
    ];
    assert_eq!(impurities(&bad), expected);

    let good = r##"
        use std::net::{IpAddr, Ipv6Addr};
        use std::time::Duration;
        use crate::event::{self, Timestamp};
        const TEXT: &str = r#"std::fs::read and "std::env""#;
    "##;
    assert_eq!(impurities(good), [""; 0]);
}

fn is_core(inside_src: &Path) -> bool {
    let module = inside_src.iter().next().map(Path::new);
    module
        .and_then(Path::file_stem)
        .is_some_and(|stem| CORE.iter().any(|core| stem == *core))
}

/// The paths in `text` that the core may not use.
fn impurities(text: &str) -> Vec<String> {
    imports::paths(text)
        .into_iter()
        .filter(|path| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            match path.as_slice() {
                ["std" | "core", rest @ ..] => FORBIDDEN_STD.iter().any(|forbidden| {
                    // Both `std::time::Instant::now` and the imports `std::time`, `std::time::*`
                    // that would hide it.
                    rest.starts_with(forbidden)
                        || (!rest.is_empty() && forbidden.starts_with(rest))
                        || matches!(rest, [before @ .., "*"] if forbidden.starts_with(before))
                }),
                ["crate", module, ..] => {
                    module.chars().all(|c| c.is_lowercase() || c == '_') && !CORE.contains(module)
                }
                ["jiff", .., "now"] | ["Timestamp" | "Zoned", "now"] => true,
                [first, _, ..] => FORBIDDEN_CRATES.contains(first),
                _ => false,
            }
        })
        .map(|path| path.join("::"))
        .collect()
}

#[test]
fn no_file_is_too_long_to_read() {
    // Schemas are generated, and read by editors. A translation is one file, so that a site
    // can drop one in.
    let is_one = |path: &Path| {
        path.to_string_lossy().ends_with(".schema.json") || path.starts_with("templates/locale")
    };
    let complaints = each_source(|path, text| match is_one(path) {
        true => Vec::new(),
        false => too_long(text),
    });
    assert_none(&complaints);
    assert_eq!(too_long(&"line\n".repeat(601)), ["601 lines; split it"]);
}

fn too_long(text: &str) -> Vec<String> {
    match text.lines().count() {
        lines if lines > MAX_LINES => vec![format!("{lines} lines; split it")],
        _ => Vec::new(),
    }
}

#[test]
fn every_lint_that_is_allowed_says_why() {
    let complaints = each_source(|path, text| match path.extension() {
        Some(extension) if extension == "rs" => unreasoned(text),
        _ => Vec::new(),
    });
    assert_none(&complaints);
    let bad = "#![allow(dead_code)]\n#[expect(unused, reason = \"x\")]\n#[cfg_attr(a, allow(b))]";
    assert_eq!(unreasoned(bad).len(), 2);
}

/// Attributes that switch a lint off without a reason.
fn unreasoned(text: &str) -> Vec<String> {
    let code = imports::without_comments_and_strings(text);
    let mut complaints = Vec::new();
    for (at, _) in code.match_indices('#') {
        let after = code[at + 1..].trim_start_matches('!');
        if !after.starts_with('[') {
            continue;
        }
        let mut depth = 0;
        let end = after.find(|c| {
            depth += match c {
                '[' => 1,
                ']' => -1,
                _ => 0,
            };
            depth == 0
        });
        let attribute = &after[..end.unwrap_or(after.len())];
        let switches_off = ["allow(", "expect("].iter().any(|word| {
            attribute
                .match_indices(word)
                .any(|(at, _)| attribute[..at].ends_with(['[', ' ', ',']))
        });
        if switches_off && !attribute.contains("reason =") {
            complaints.push(format!("`#{attribute}]` needs `reason = \"…\"`"));
        }
    }
    complaints
}

#[test]
fn a_module_stands_beside_its_folder() {
    let complaints = each_source(|path, _| {
        let bad = path.file_name().is_some_and(|name| name == "mod.rs");
        bad.then(|| "name it after its folder, beside it".to_owned())
            .into_iter()
            .collect()
    });
    assert_none(&complaints);
}

#[test]
fn nothing_is_left_to_do_and_no_ones_own_folder_is_named() {
    let complaints = each_source(|_, text| leftovers(text));
    assert_none(&complaints);
    let bad = concat!(
        "a\n// TO",
        "DO: b\nc = /ho",
        "me/ann/x\nprefixed_TO",
        "DOS\n"
    );
    assert_eq!(leftovers(bad).len(), 2);
}

/// Marks of unfinished work, and paths that exist on one machine only, each with its line.
fn leftovers(text: &str) -> Vec<String> {
    // In halves, since this file is searched too.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ];
    let folders = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
    ];
    let is_whole = |line: &str, at: usize, word: &str| {
        let in_name = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].ends_with(in_name) && !line[at + word.len()..].starts_with(in_name)
    };
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let marks = words.iter().filter(|word| {
            line.match_indices(**word)
                .any(|(at, _)| is_whole(line, at, word))
        });
        let paths = folders.iter().filter(|folder| line.contains(**folder));
        complaints.extend(
            marks
                .chain(paths)
                .map(|what| format!("line {}: {what}", number + 1)),
        );
    }
    complaints
}

#[test]
fn data_from_elsewhere_comes_with_its_licence() {
    let files = files();
    let complaints: Vec<String> = files
        .iter()
        .filter(|path| !has_licence(path, &files))
        .map(|path| format!("{}: no LICENSE file beside it or above it", path.display()))
        .collect();
    assert_none(&complaints);

    let some = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
    let alone = some(&["geoip/a.mmdb", "LICENSE-MIT"]);
    assert!(!has_licence(Path::new("geoip/a.mmdb"), &alone));
    let below = some(&["tests/data/x/bad/a.log", "tests/data/x/LICENSE"]);
    assert!(has_licence(Path::new("tests/data/x/bad/a.log"), &below));
}

/// Whether a licence stands in the folder of `path` or above it, short of the folders that
/// hold data of several origins. True for files that are not data.
fn has_licence(path: &Path, files: &BTreeSet<PathBuf>) -> bool {
    // These are doorward's own.
    if path.starts_with("tests/data/state") || path.starts_with("tests/data/bad-rules") {
        return true;
    }
    let roots = [Path::new("tests/data"), Path::new("geoip")];
    let Some(root) = roots.iter().find(|root| path.starts_with(root)) else {
        return true;
    };
    let folders = path
        .ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(root) && (*folder != Path::new("tests/data")));
    folders.into_iter().any(|folder| {
        files.iter().any(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            file.parent() == Some(folder) && name.to_uppercase().starts_with("LICEN")
        })
    })
}

#[test]
fn the_package_cannot_be_published_by_accident() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    assert_eq!(manifest["package"]["publish"].as_bool(), Some(false));
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let files = files();
    let complaints = each_source(|path, text| match path.extension() {
        Some(extension) if extension == "md" => dead_links(path, text, &files),
        _ => Vec::new(),
    });
    assert_none(&complaints);
    let bad = "# A title\n[ok](#a-title) [gone](nowhere.md) [no](#b) [web](https://x.example)";
    let found = dead_links(Path::new("docs/a.md"), bad, &BTreeSet::new());
    assert_eq!(found, ["`nowhere.md` does not exist", "no heading `#b`"]);
}

/// Targets of Markdown links in `text`, which stands at `path`, that are not there.
fn dead_links(path: &Path, text: &str, files: &BTreeSet<PathBuf>) -> Vec<String> {
    let targets = text.match_indices("](").map(|(at, _)| {
        let rest = &text[at + 2..];
        &rest[..rest.find([')', ' ', '\n']).unwrap_or(rest.len())]
    });
    targets
        .filter(|target| !target.contains(':'))
        .filter_map(|target| {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            if file.is_empty() {
                let missing = !text
                    .lines()
                    .any(|line| anchor(line).as_deref() == Some(heading));
                return missing.then(|| format!("no heading `#{heading}`"));
            }
            let wanted = normal(&path.parent().unwrap_or(Path::new("")).join(file));
            let there = files.iter().any(|file| file.starts_with(&wanted));
            (!there).then(|| format!("`{target}` does not exist"))
        })
        .collect()
}

/// What a link to the heading in `line` is called.
fn anchor(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect();
    Some(kept)
}

/// `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project, relative to its root: what a fresh clone holds.
fn files() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder that can be read") {
            let entry = entry.expect("an entry that can be read");
            let name = entry.file_name();
            let path = folder.join(&name);
            let skipped = ["target", ".git", "node_modules"]
                .iter()
                .any(|s| name == *s);
            match entry.file_type().expect("a known type").is_dir() {
                _ if skipped => {}
                true => folders.push(path),
                false => {
                    found.insert(path);
                }
            }
        }
    }
    found
}

/// What `check` says of each text file that is the project's own, with the file's name.
fn each_source(check: impl Fn(&Path, &str) -> Vec<String>) -> Vec<String> {
    const TEXTS: &[&str] = &[
        "css", "html", "js", "json", "md", "rs", "service", "sh", "toml", "txt", "xml", "yaml",
        "yml",
    ];
    let mut complaints = Vec::new();
    for path in files() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let known = match path.extension() {
            Some(extension) => TEXTS.iter().any(|text| extension == *text),
            None => ["Makefile", "Dockerfile", "run"].contains(&&*name),
        };
        let foreign = path.starts_with("tests/data") || name.contains("LICEN");
        if !known || foreign {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).expect("UTF-8");
        let found = check(&path, &text);
        complaints.extend(
            found
                .into_iter()
                .map(|what| format!("{}: {what}", path.display())),
        );
    }
    complaints
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
