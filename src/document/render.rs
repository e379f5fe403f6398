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
    if file.text.is_empty() {
        return whole_file(&renderer, level, diagnostic);
    }
    let mut report = vec![
        level.primary_title(diagnostic.message.as_str()).element(
            Snippet::source(file.text.as_str())
                .path(file.name.as_str())
                .annotation(AnnotationKind::Primary.span(clamp(diagnostic))),
        ),
    ];
    if let Some(help) = &diagnostic.help {
        report.push(Level::HELP.secondary_title(help.as_str()).elements(NOTHING));
    }
    renderer.render(&report).to_string()
}

const NOTHING: [Snippet<'_, annotate_snippets::Annotation<'_>>; 0] = [];

/// A diagnostic that names no place: `file: message`, and its help on the next line.
fn whole_file(renderer: &Renderer, level: Level<'_>, diagnostic: &Diagnostic) -> String {
    let line = |level: Level<'_>, text: &str| {
        renderer
            .render(&[level.primary_title(text).elements(NOTHING)])
            .to_string()
    };
    let title = format!("{}: {}", diagnostic.file.name, diagnostic.message);
    match &diagnostic.help {
        Some(help) => format!("{}\n{}", line(level, &title), line(Level::HELP, help)),
        None => line(level, &title),
    }
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
