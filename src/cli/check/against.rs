//! Two versions of a folder of rules: which ids name something else than before.

use std::path::Path;
use std::sync::Arc;

use crate::document::{Diagnostics, Kind, Node, SourceFile, parse_yaml};
use crate::facts::Folder;
use crate::rules::parse::key;

/// Warns of every rule in `after` whose memory would begin anew, because the rule of the same
/// id in `before` counts other things (docs/rules.md 14).
pub fn compare(after: Option<&Path>, before: &Path, found: &mut Diagnostics) {
    let before = rules(Some(before), Some(found));
    for (file, rule) in rules(after, None) {
        let Some(id) = rule.get("id") else { continue };
        let same_id = before.iter().find(|(_, old)| {
            old.get("id").and_then(Node::as_text) == id.as_text() && id.as_text().is_some()
        });
        let Some((old_file, old)) = same_id else {
            continue;
        };
        let (Some(new_parts), Some(old_parts)) = (key::parts(&rule), key::parts(old)) else {
            continue;
        };
        let other: Vec<String> = std::iter::zip(&new_parts, &old_parts)
            .filter(|(new, old)| new.1 != old.1)
            .map(|((name, _), _)| format!("`{name}`"))
            .collect();
        if other.is_empty() {
            continue;
        }
        found.doubt(
            Kind::ReusedId,
            &file,
            id.span.clone(),
            format!(
                "this id names something else than in {}: {} changed, so what the rule remembers \
                 of every account begins anew",
                old_file.name,
                other.join(", ")
            ),
            Some(
                "where that is meant, say it with another id, such as the same with `-2`; the \
                 memory of `first_seen` has to be taught again"
                    .into(),
            ),
        );
    }
}

/// The rule files that can be read at all. Mistakes in the folder itself go to `found`.
fn rules(dir: Option<&Path>, found: Option<&mut Diagnostics>) -> Vec<(Arc<SourceFile>, Node)> {
    let mut ignored = Diagnostics::default();
    let files = Folder(dir.map(Path::to_owned)).rule_files(found.unwrap_or(&mut ignored));
    let read = |file: Arc<SourceFile>| {
        let node = parse_yaml(&file, &mut Diagnostics::default())?;
        Some((file, node))
    };
    files.into_iter().filter_map(read).collect()
}
