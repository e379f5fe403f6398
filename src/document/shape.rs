//! What a file may say, as tables.
//!
//! A file's parser and its JSON Schema ([`super::schema`]) come from the same [`Shape`], so
//! that an editor and `doorward check` cannot disagree about its form. [`check`] reports
//! every mistake of form in a tree; what it let pass can be taken out without looking again.

use std::sync::Arc;

use super::words::spelled_otherwise;
use super::{Diagnostics, Kind, Node, SourceFile, Value, parse_duration_ms, slip_of, suggest};

/// What one value may be.
#[derive(Debug)]
pub enum Shape {
    /// Exactly this number, as `schema: 1`.
    Version(i64),
    /// Any text of so many characters.
    Text {
        least: usize,
        most: usize,
    },
    /// Text that fits `pattern`, a regular expression that JSON Schema knows too; `like`
    /// says in words what that is.
    Fits {
        pattern: &'static str,
        like: &'static str,
    },
    /// One of these words.
    Words(&'static [Word]),
    Flag,
    /// A whole number, both ends included.
    Whole {
        least: i64,
        most: i64,
    },
    /// A length of time, both ends included, as they are written.
    Length {
        least: &'static str,
        most: &'static str,
    },
    /// A list. Where `alone`, a single value may stand without brackets.
    List {
        of: &'static Shape,
        alone: bool,
    },
    /// A list of exactly these words, in this order.
    Tuple(&'static [&'static str]),
    Block(&'static Block),
    /// A block of exactly one field; where `bare`, the name of a field without settings may
    /// stand as text.
    OneOf {
        block: &'static Block,
        bare: &'static [&'static str],
        /// What messages call one of them: "an action".
        one: &'static str,
    },
    /// The first that fits the value's type.
    Either(&'static [Shape]),
    /// Its own parser looks at it; the schema has it as this definition.
    Elsewhere(&'static str),
}

/// A word that a field takes.
#[derive(Debug)]
pub struct Word {
    pub word: &'static str,
    /// What it means, for editors.
    pub about: &'static str,
}

/// One field of a block.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// What it is for, as an editor shows it.
    pub about: &'static str,
    /// The field as somebody would write it: `severity: high`.
    pub example: &'static str,
    pub required: bool,
    pub shape: Shape,
}

/// A block of named fields.
#[derive(Debug)]
pub struct Block {
    /// What messages call it: "a rule", "`count`".
    pub what: &'static str,
    pub fields: &'static [Field],
    /// Names that people write for other ones, and what to write.
    pub meant: &'static [(&'static str, &'static str)],
}

impl Block {
    pub fn names(&self) -> Vec<&'static str> {
        self.fields.iter().map(|field| field.name).collect()
    }
}

/// Reports everything in `node` that `shape` does not allow. `name` is the field's name, and
/// `example` how it may be written.
pub fn check(
    file: &Arc<SourceFile>,
    node: &Node,
    shape: &Shape,
    name: &str,
    example: &str,
    found: &mut Diagnostics,
) {
    let at = Place {
        file,
        node,
        name,
        example,
    };
    match shape {
        Shape::Version(version) => at.version(*version, found),
        Shape::Text { least, most } => at.text(*least, *most, found),
        Shape::Fits { pattern, like } => at.fits(pattern, like, found),
        Shape::Words(words) => at.words(words, found),
        Shape::Flag => {
            if !matches!(node.value, Value::Bool(_)) {
                at.wrong_type("true or false", found);
            }
        }
        Shape::Whole { least, most } => at.whole(*least, *most, found),
        Shape::Length { least, most } => at.length(least, most, found),
        Shape::List { of, alone } => match &node.value {
            Value::List(items) => {
                if items.is_empty() {
                    at.report(
                        Kind::OutOfRange,
                        format!("`{name}` is an empty list"),
                        Some("put something into it, or remove the line".into()),
                        found,
                    );
                }
                for item in items {
                    check(file, item, of, name, example, found);
                }
            }
            _ if *alone => check(file, node, of, name, example, found),
            _ => at.wrong_type("a list", found),
        },
        Shape::Tuple(_) => at.choice(std::slice::from_ref(shape), found),
        Shape::Block(block) => check_block(file, node, block, found),
        Shape::OneOf { block, bare, one } => at.one_of(block, bare, one, found),
        Shape::Either(shapes) => at.choice(shapes, found),
        Shape::Elsewhere(_) => {}
    }
}

/// Reports everything in a block that is not right.
pub fn check_block(file: &Arc<SourceFile>, node: &Node, block: &Block, found: &mut Diagnostics) {
    let Value::Map(entries) = &node.value else {
        let at = Place {
            file,
            node,
            name: "",
            example: "",
        };
        return at.no_block(block, found);
    };
    let mut helps = Vec::new();
    for (key, value) in entries {
        match block.fields.iter().find(|field| field.name == key.name) {
            Some(field) if value.value != Value::Null => {
                check(file, value, &field.shape, field.name, field.example, found);
            }
            // A required one is reported below.
            Some(field) if field.required => {}
            Some(field) => found.mistake(
                Kind::WrongType,
                file,
                key.span.clone(),
                format!("`{}` says nothing", field.name),
                Some(format!("write `{}`, or remove the line", field.example)),
            ),
            None => {
                let help = meant(&key.name, block);
                let message = format!("{} has no field `{}`", block.what, key.name);
                let span = key.span.clone();
                found.mistake(Kind::UnknownField, file, span, message, Some(help.clone()));
                helps.push(help);
            }
        }
    }
    // A field under a misspelt name is not missed as well.
    let meant = |name: &str| {
        let quoted = format!("`{name}`");
        helps
            .iter()
            .any(|help| !help.starts_with("it can be") && help.contains(&quoted))
    };
    let needed = block.fields.iter().filter(|field| field.required);
    for field in needed.filter(|field| !meant(field.name)) {
        let key = entries.iter().find(|(key, _)| key.name == field.name);
        let place = match key {
            Some((_, value)) if value.value != Value::Null => continue,
            Some((key, _)) => key.span.clone(),
            None => node.first_line(file),
        };
        found.mistake(
            Kind::MissingField,
            file,
            place,
            format!("{} needs `{}`", block.what, field.name),
            Some(format!("write `{}`", field.example)),
        );
    }
}

/// What somebody who wrote `name` in `block` should write.
fn meant(name: &str, block: &Block) -> String {
    let names = block.names();
    let others: Vec<&str> = block.meant.iter().map(|(other, _)| *other).collect();
    let help_for = |wanted: &str| {
        let mut meant = block.meant.iter();
        meant
            .find(|(other, _)| *other == wanted)
            .map(|(_, help)| (*help).to_owned())
    };
    if let Some(help) = help_for(name) {
        return help;
    }
    if let Some(meant) = spelled_otherwise(name, &names) {
        return format!("write `{meant}`");
    }
    if slip_of(name, &names).is_none()
        && let Some(help) = slip_of(name, &others).and_then(help_for)
    {
        return help;
    }
    suggest(name, &names)
}

/// One value, and what messages say of it.
struct Place<'a> {
    file: &'a Arc<SourceFile>,
    node: &'a Node,
    name: &'a str,
    example: &'a str,
}

impl Place<'_> {
    fn report(&self, kind: Kind, message: String, help: Option<String>, found: &mut Diagnostics) {
        let span = match &self.node.value {
            Value::Map(_) | Value::List(_) => self.node.first_line(self.file),
            _ => self.node.span.clone(),
        };
        found.mistake(kind, self.file, span, message, help);
    }

    fn written(&self) -> Option<String> {
        (!self.example.is_empty()).then(|| format!("write `{}`", self.example))
    }

    fn wrong_type(&self, wanted: &str, found: &mut Diagnostics) {
        let help = match (wanted, &self.node.value) {
            ("text", Value::Integer(_) | Value::Float(_) | Value::Bool(_)) => {
                Some("put it in quotes".to_owned())
            }
            ("true or false", Value::Text(text)) => yes_or_no(text),
            ("a list", Value::Map(_)) => Some("begin each line with `- `".to_owned()),
            ("a whole number", Value::Text(text)) if text.trim().parse::<i64>().is_ok() => {
                Some(format!("write it without quotes: `{}`", text.trim()))
            }
            _ => self.written(),
        };
        let message = format!(
            "`{}` must be {wanted}, not {}",
            self.name,
            self.node.value.kind()
        );
        self.report(Kind::WrongType, message, help, found);
    }

    fn version(&self, version: i64, found: &mut Diagnostics) {
        if self.node.value != Value::Integer(version) {
            self.report(
                Kind::SchemaVersion,
                format!("this doorward reads files of `schema: {version}` only"),
                Some(format!("write `schema: {version}`")),
                found,
            );
        }
    }

    fn text(&self, least: usize, most: usize, found: &mut Diagnostics) {
        let Some(text) = self.node.as_text() else {
            return self.wrong_type("text", found);
        };
        let length = text.chars().count();
        if !(least..=most).contains(&length) || (least > 0 && text.trim().is_empty()) {
            let message = if text.trim().is_empty() {
                format!("`{}` is empty", self.name)
            } else {
                format!(
                    "`{}` has {length} characters; {most} are the most",
                    self.name
                )
            };
            self.report(Kind::OutOfRange, message, self.written(), found);
        }
    }

    fn fits(&self, pattern: &str, like: &str, found: &mut Diagnostics) {
        let Some(text) = self.node.as_text() else {
            return self.wrong_type("text", found);
        };
        if !regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text)) {
            let message = format!("`{}` cannot be `{text}`", self.name);
            self.report(Kind::BadText, message, Some(format!("use {like}")), found);
        }
    }

    fn words(&self, words: &[Word], found: &mut Diagnostics) {
        let Some(text) = self.node.as_text() else {
            return self.wrong_type("text", found);
        };
        let known: Vec<&str> = words.iter().map(|word| word.word).collect();
        if !known.contains(&text) {
            let help = match spelled_otherwise(text, &known) {
                Some(word) => format!("write `{word}`"),
                None => suggest(text, &known),
            };
            let message = format!("`{}` cannot be `{text}`", self.name);
            self.report(Kind::UnknownWord, message, Some(help), found);
        }
    }

    fn whole(&self, least: i64, most: i64, found: &mut Diagnostics) {
        match self.node.value {
            Value::Integer(value) if (least..=most).contains(&value) => {}
            Value::Integer(value) => self.report(
                Kind::OutOfRange,
                format!("`{}` must be {least} to {most}, not {value}", self.name),
                None,
                found,
            ),
            _ => self.wrong_type("a whole number", found),
        }
    }

    fn length(&self, least: &str, most: &str, found: &mut Diagnostics) {
        let help = "write a whole number and one of ms, s, m, h, d: `30s`, `5m`, `24h`";
        let (message, help) = match &self.node.value {
            Value::Text(text) => match parse_duration_ms(text) {
                Ok(ms) => {
                    let end = |text| parse_duration_ms(text).unwrap_or(0);
                    if !(end(least)..=end(most)).contains(&ms) {
                        let message =
                            format!("`{}` must be {least} to {most}, not {text}", self.name);
                        self.report(Kind::OutOfRange, message, None, found);
                    }
                    return;
                }
                Err(help) => (
                    format!("`{}: {text}` is no length of time", self.name),
                    help,
                ),
            },
            Value::Integer(number) => (
                format!("`{}: {number}` needs a unit", self.name),
                help.to_owned(),
            ),
            other => (
                format!(
                    "`{}` must be a length of time, not {}",
                    self.name,
                    other.kind()
                ),
                help.to_owned(),
            ),
        };
        self.report(Kind::BadDuration, message, Some(help), found);
    }

    fn begins(&self, block: &Block) -> Option<String> {
        let first = block.fields.first()?;
        Some(format!("{} begins with `{}`", block.what, first.example))
    }

    fn no_block(&self, block: &Block, found: &mut Diagnostics) {
        if self.node.value == Value::Null {
            let message = "this file says nothing".to_owned();
            let help = self.begins(block);
            return found.mistake(Kind::EmptyFile, self.file, 0..0, message, help);
        }
        let help = match &self.node.value {
            Value::Text(text) if text.contains(':') => {
                Some("write `name: value`, with a space after the colon".to_owned())
            }
            Value::List(items) if items.len() == 1 => Some("remove the `-`".to_owned()),
            _ => self.written().or_else(|| self.begins(block)),
        };
        let message = format!(
            "{} must be a block of fields, not {}",
            block.what,
            self.node.value.kind()
        );
        self.report(Kind::WrongType, message, help, found);
    }

    fn one_of(&self, block: &Block, bare: &[&str], one: &str, found: &mut Diagnostics) {
        let names = block.names();
        match &self.node.value {
            Value::Text(text) if bare.contains(&text.as_str()) => {}
            Value::Text(text) if names.contains(&text.as_str()) => {
                let field = block.fields.iter().find(|field| field.name == text);
                let example = field.map_or("", |field| field.example);
                let message = format!("`{text}` needs its settings");
                let help = Some(format!("write `{example}`"));
                self.report(Kind::MissingField, message, help, found);
            }
            Value::Text(text) => {
                let message = format!("`{text}` is no {one}");
                let help = meant(text, block);
                self.report(Kind::UnknownWord, message, Some(help), found);
            }
            Value::Map(entries) if entries.len() == 1 => {
                let (key, settings) = &entries[0];
                match block.fields.iter().find(|field| field.name == key.name) {
                    Some(field) if settings.value == Value::Null => {
                        if !bare.contains(&field.name) {
                            let message = format!("`{}` needs its settings", field.name);
                            let help = Some(format!("write `{}`", field.example));
                            let span = key.span.clone();
                            found.mistake(Kind::MissingField, self.file, span, message, help);
                        }
                    }
                    Some(field) => check(
                        self.file,
                        settings,
                        &field.shape,
                        field.name,
                        field.example,
                        found,
                    ),
                    None => {
                        let message = format!("`{}` is no {one}", key.name);
                        let help = Some(meant(&key.name, block));
                        let span = key.span.clone();
                        found.mistake(Kind::UnknownField, self.file, span, message, help);
                    }
                }
            }
            Value::Map(entries) if entries.len() > 1 => {
                let names: Vec<String> = entries
                    .iter()
                    .map(|(key, _)| format!("`{}`", key.name))
                    .collect();
                let message = format!(
                    "{} takes one {one}, and here are {}",
                    block.what,
                    names.join(" and ")
                );
                let help = if block
                    .fields
                    .iter()
                    .any(|field| field.name == entries[0].0.name)
                {
                    let field = block.fields.iter().find(|f| f.name == entries[0].0.name);
                    field.map(|field| format!("keep one of them: `{}`", field.example))
                } else {
                    self.written()
                };
                self.report(Kind::WrongType, message, help, found);
            }
            _ => {
                let words: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let message = format!("{} must be one of {}", block.what, words.join(", "));
                self.report(Kind::WrongType, message, self.written(), found);
            }
        }
    }

    /// The first of `shapes` that fits the value's type; no mistake where one takes it.
    fn choice(&self, shapes: &[Shape], found: &mut Diagnostics) {
        let mut least: Option<Diagnostics> = None;
        for shape in shapes {
            let mut tried = Diagnostics::default();
            match shape {
                Shape::Tuple(words) => {
                    let same = matches!(&self.node.value, Value::List(items)
                        if items.iter().map(Node::as_text).eq(words.iter().map(|w| Some(*w))));
                    if same {
                        return;
                    }
                    continue;
                }
                _ => check(
                    self.file,
                    self.node,
                    shape,
                    self.name,
                    self.example,
                    &mut tried,
                ),
            }
            if tried.found.is_empty() {
                return;
            }
            let wrong_type = tried.found.iter().any(|d| d.kind == Kind::WrongType);
            let tuples = shapes.iter().any(|shape| matches!(shape, Shape::Tuple(_)));
            if !wrong_type && !tuples && least.is_none() {
                least = Some(tried);
            }
        }
        if let Some(tried) = least {
            return found.found.extend(tried.found);
        }
        let choices: Vec<String> = shapes.iter().flat_map(choices).collect();
        self.report(
            Kind::UnknownWord,
            match self.node.as_text() {
                Some(text) => format!("`{}` cannot be `{text}`", self.name),
                None => format!("`{}` cannot be this", self.name),
            },
            Some(format!("it can be {}", choices.join(", "))),
            found,
        );
    }
}

/// What a message offers for a shape.
fn choices(shape: &Shape) -> Vec<String> {
    match shape {
        Shape::Words(words) => words.iter().map(|w| format!("`{}`", w.word)).collect(),
        // A list of one is as good as the word.
        Shape::Tuple([_]) => Vec::new(),
        Shape::Tuple(words) => vec![format!("`[{}]`", words.join(", "))],
        Shape::Whole { least, most } => vec![format!("{least} to {most}")],
        Shape::Length { .. } => vec!["a length of time".into()],
        Shape::Flag => vec!["true or false".into()],
        Shape::Block(block) => vec![format!("a block of {}", block.names().join(", "))],
        _ => vec!["text".into()],
    }
}

/// What to write where somebody wrote `yes` or `off`.
pub fn yes_or_no(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" => Some("write `true`".to_owned()),
        "no" | "off" | "n" => Some("write `false`".to_owned()),
        word @ ("true" | "false") => Some(format!("write `{word}`, without quotes")),
        _ => None,
    }
}
