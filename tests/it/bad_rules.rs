//! Rule files with a mistake in them: what is said about each stands beside it, in
//! tests/data/bad-rules/expected, and is meant to be read aloud.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorward::document::{Diagnostics, Kind, SourceFile, parse_yaml, read_text, render_all};
use doorward::rules::RuleSet;
use doorward::schema::Schema;

use crate::support::story::lists;
use crate::support::yaml::json_of;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bad-rules")
}

/// Every file's name without its ending, and its bytes.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter_map(|path| {
            let name = path
                .file_name()?
                .to_str()?
                .strip_suffix(".rule.yaml")?
                .to_owned();
            Some((name, std::fs::read(&path).expect("readable")))
        })
        .collect();
    found.sort();
    found
}

/// The file as it was read, and what was said about it.
fn read(name: &str, bytes: Vec<u8>) -> (Option<Arc<SourceFile>>, Diagnostics) {
    let mut found = Diagnostics::default();
    let file = read_text(format!("{name}.rule.yaml"), bytes, &mut found);
    if let Some(file) = &file {
        RuleSet::load(&[Arc::clone(file)], &lists(), &mut found);
    }
    (file, found)
}

#[test]
fn each_mistake_is_said_with_its_place_and_what_was_probably_meant() {
    let files = files();
    assert!(files.len() >= 40, "{}", files.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder().join("expected"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, bytes) in files {
            let (_, found) = read(&name, bytes);
            assert!(!found.found.is_empty(), "{name} was taken");
            for said in &found.found {
                assert_ne!(said.kind, Kind::Other, "{name}: {}", said.message);
            }
            insta::assert_snapshot!(name, render_all(&found, false));
        }
    });
}

#[test]
fn the_schema_refuses_what_is_a_matter_of_form() {
    let schema = Schema::named("rule").expect("it exists").value();
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let mut refused = 0;
    for (name, bytes) in files() {
        let (file, found) = read(&name, bytes);
        let Some(file) = file else { continue };
        let Some(node) = parse_yaml(&file, &mut Diagnostics::default()) else {
            continue;
        };
        let json = json_of(&node);
        let form = found.found.iter().any(|said| said.kind.is_form());
        if form {
            refused += 1;
            assert!(
                !validator.is_valid(&json),
                "the schema takes {name}: {found:#?}"
            );
        }
    }
    assert!(refused >= 20, "{refused}");
}
