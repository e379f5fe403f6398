//! Diagnostics as people see them: `file:line:column`, the line, a caret, and what to do.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Diagnostic, Diagnostics, Severity};

/// One diagnostic with its line and caret.
pub fn render(diagnostic: &Diagnostic, color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let file = &diagnostic.file;
    let mut report = vec![if file.text.is_empty() {
        level
            .primary_title(format!("{}: {}", file.name, diagnostic.message))
            .elements(std::iter::empty::<
                Snippet<'_, annotate_snippets::Annotation<'_>>,
            >())
    } else {
        level.primary_title(diagnostic.message.as_str()).element(
            Snippet::source(file.text.as_str())
                .path(file.name.as_str())
                .annotation(AnnotationKind::Primary.span(clamp(diagnostic))),
        )
    }];
    if let Some(help) = &diagnostic.help {
        report.push(
            Level::HELP
                .secondary_title(help.as_str())
                .elements(std::iter::empty::<
                    Snippet<'_, annotate_snippets::Annotation<'_>>,
                >()),
        );
    }
    renderer.render(&report).to_string()
}

/// All of them, with an empty line between.
pub fn render_all(found: &Diagnostics, color: bool) -> String {
    let parts: Vec<String> = found.found.iter().map(|d| render(d, color)).collect();
    parts.join("\n\n")
}

/// The span within the text, on character boundaries.
fn clamp(diagnostic: &Diagnostic) -> std::ops::Range<usize> {
    let text = &diagnostic.file.text;
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    floor(diagnostic.span.start)..floor(diagnostic.span.end.max(diagnostic.span.start))
}
