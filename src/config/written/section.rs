//! One table of the file: typed values with their bounds, defaults and examples.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;

use super::Reader;
use crate::document::{Fields, Node, SourceFile, Value, schema};

/// A table such as `[kafka]`.
pub struct Section<'a> {
    name: &'static str,
    fields: Fields<'a>,
}

impl<'a> Section<'a> {
    /// The table `name` of the file; one that is absent has no settings.
    pub fn of(name: &'static str, node: Option<&'a Node>, r: &mut Reader<'_>) -> Section<'a> {
        static ABSENT: Node = Node {
            span: 0..0,
            value: Value::Map(Vec::new()),
        };
        let file = match node {
            Some(_) => r.file.clone(),
            // No line of the file can be pointed at.
            None => SourceFile::new(r.file.name.as_str(), ""),
        };
        let what = format!("[{name}]");
        let fields = node.and_then(|node| Fields::of(&file, node, &*what, &mut r.found));
        let fields = fields.or_else(|| Fields::of(&file, &ABSENT, what, &mut r.found));
        Section {
            name,
            fields: fields.unwrap_or_else(|| unreachable!("an empty map is a map")),
        }
    }

    pub fn fields(&mut self) -> &mut Fields<'a> {
        &mut self.fields
    }

    /// The setting's full name, as messages say it.
    pub fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    pub fn error(&self, node: &Node, message: String, help: Option<String>, r: &mut Reader<'_>) {
        r.found
            .error(self.fields.file(), node.span.clone(), message, help);
    }

    pub fn warning(&self, node: &Node, message: String, help: Option<String>, r: &mut Reader<'_>) {
        r.found
            .warning(self.fields.file(), node.span.clone(), message, help);
    }

    /// Says that the setting is needed, and what to write.
    pub fn missing(&self, name: &str, example: &str, r: &mut Reader<'_>) {
        let start = self.fields.span().start;
        r.found.error(
            self.fields.file(),
            start..start,
            format!("[{}] needs `{name}`", self.name),
            Some(format!("write `{name} = {example}`")),
        );
    }

    pub fn text(&mut self, name: &'static str, r: &mut Reader<'_>) -> Option<&'a str> {
        let text = self.fields.text(name, &mut r.found)?;
        if !text.trim().is_empty() {
            return Some(text);
        }
        let node = self.fields.optional(name)?;
        let message = format!("`{}` is empty", self.full(name));
        self.error(
            node,
            message,
            Some("give it a value, or remove the line".into()),
            r,
        );
        None
    }

    pub fn text_or(&mut self, name: &'static str, default: &str, r: &mut Reader<'_>) -> String {
        self.text(name, r).unwrap_or(default).to_owned()
    }

    /// `example` stands in the message where it is missing.
    pub fn needed_text(
        &mut self,
        name: &'static str,
        example: &str,
        r: &mut Reader<'_>,
    ) -> Option<&'a str> {
        if self.fields.optional(name).is_none() {
            self.missing(name, &format!("{example:?}"), r);
            return None;
        }
        self.text(name, r)
    }

    pub fn number<T: TryFrom<i64>>(
        &mut self,
        name: &'static str,
        default: T,
        range: RangeInclusive<i64>,
        r: &mut Reader<'_>,
    ) -> T {
        self.fields
            .integer(name, range, &mut r.found)
            .and_then(|number| T::try_from(number).ok())
            .unwrap_or(default)
    }

    /// `least` and `most` are lengths of time as they are written, such as `10ms`.
    pub fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
        (least, most): (&str, &str),
        r: &mut Reader<'_>,
    ) -> Duration {
        let ms = self.fields.duration_ms(name, &mut r.found);
        self.fields.note(name, schema::length(least, most));
        let Some(ms) = ms else {
            return default;
        };
        let bound = |text| crate::document::parse_duration_ms(text).unwrap_or(0);
        if !(bound(least)..=bound(most)).contains(&ms)
            && let Some(node) = self.fields.optional(name)
        {
            let message = format!("`{}` must be {least} to {most}", self.full(name));
            self.error(node, message, None, r);
        }
        Duration::from_millis(ms.unsigned_abs())
    }

    /// A path, relative to the file's own folder.
    pub fn path(&mut self, name: &'static str, r: &mut Reader<'_>) -> Option<PathBuf> {
        self.text(name, r).map(|path| r.folder.join(path))
    }

    /// An address and port to listen on.
    pub fn listen(
        &mut self,
        name: &'static str,
        default: SocketAddr,
        r: &mut Reader<'_>,
    ) -> SocketAddr {
        let Some(text) = self.text(name, r) else {
            return default;
        };
        SocketAddr::from_str(text).unwrap_or_else(|_| {
            if let Some(node) = self.fields.optional(name) {
                let message = format!("`{}` is no address and port", self.full(name));
                let help = format!(
                    "write both, as in \"{default}\" or \"[::]:{}\"",
                    default.port()
                );
                self.error(node, message, Some(help), r);
            }
            default
        })
    }

    /// A list of addresses and networks in CIDR form.
    pub fn networks(
        &mut self,
        name: &'static str,
        default: fn() -> Vec<IpNet>,
        r: &mut Reader<'_>,
    ) -> Vec<IpNet> {
        let networks = json!({ "type": "array", "items": { "type": "string" } });
        self.fields.note(name, networks);
        let Some(node) = self.fields.optional(name) else {
            return default();
        };
        let help = || Some("write `[\"10.0.0.0/8\", \"2001:db8::1\"]`".to_owned());
        let Value::List(items) = &node.value else {
            let message = format!("`{}` must be a list of networks", self.full(name));
            self.error(node, message, help(), r);
            return default();
        };
        let mut networks = Vec::with_capacity(items.len());
        for item in items {
            let network = match &item.value {
                Value::Text(text) => text
                    .parse::<IpNet>()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                    .ok(),
                _ => None,
            };
            match network {
                Some(network) => networks.push(network),
                None => {
                    let message =
                        format!("`{}` holds something else than a network", self.full(name));
                    self.error(item, message, help(), r);
                }
            }
        }
        networks
    }

    /// An absolute `http` or `https` address.
    pub fn url(&mut self, name: &'static str, r: &mut Reader<'_>) -> Option<String> {
        let text = self.text(name, r)?;
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        let clean =
            !text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"<>".contains(c));
        if host.is_some_and(|host| !host.is_empty()) && clean {
            return Some(text.to_owned());
        }
        let node = self.fields.optional(name)?;
        let message = format!("`{}` is no web address", self.full(name));
        self.error(
            node,
            message,
            Some("write it whole, as in \"https://example.com/login\"".into()),
            r,
        );
        None
    }

    /// Reports settings that do not exist.
    pub fn finish(self, r: &mut Reader<'_>) {
        for name in self.fields.asked() {
            let types = self.fields.types().iter();
            let schema = types.rev().find(|(noted, _)| noted == name);
            let schema = schema.map_or_else(|| json!({}), |(_, schema)| schema.clone());
            r.settings.push((format!("{}.{name}", self.name), schema));
        }
        self.fields.finish(&mut r.found);
    }
}
