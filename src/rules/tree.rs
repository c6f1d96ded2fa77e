//! YAML and JSON text as a tree in which every key and value knows its line and column.

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::finding::{Code, Finding, Path, Problem, Step};

/// Deepest nesting that is read; rules need 6.
const DEPTH: usize = 64;
/// Most values of one file, those that aliases repeat included.
const VALUES: usize = 2_000_000;

/// A place in a file: line and column, both from 1.
pub(super) type At = (usize, usize);

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    /// A plain `true` or `yes`, as written: Kubernetes reads YAML 1.1, in which both are booleans.
    Bool(String),
    /// A plain number, as written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Member>),
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) key_at: At,
    pub(super) value: Node,
}

impl Node {
    /// A member of a mapping; the first where it stands twice.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.members().iter().find(|member| member.key == key).map(|member| &member.value)
    }

    /// The members, when it is a mapping.
    pub(super) fn members(&self) -> &[Member] {
        if let Value::Map(members) = &self.value { members } else { &[] }
    }

    /// The text, when it is text.
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// What kind of value it is, in a person's words.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The place of what a path names, or of the nearest thing above it that is there.
    pub(super) fn locate(&self, path: &Path) -> At {
        let mut node = self;
        let mut at = self.at;
        for step in &path.0 {
            let next = match (step, &node.value) {
                (Step::Field(name), Value::Map(members)) => members.iter().find(|member| member.key == *name).map(|m| &m.value),
                (Step::Item(index), Value::List(items)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
            at = next.at;
        }
        at
    }

    /// The value as JSON, for serde.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(text) => Json::Bool(matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "y")),
            Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(members) => members.iter().map(|member| (member.key.clone(), member.value.to_json())).collect(),
        }
    }
}

/// Reads all documents of a file. What is wrong with one does not hide the others.
pub(super) fn read(file: &str, text: &str, findings: &mut Vec<Finding>) -> Vec<Node> {
    let mut parser = Parser::new_from_str_with_options(text, granit_parser::options! { emit_comments: false });
    let mut documents = Vec::new();
    let mut reader = Reader { file, findings, anchors: HashMap::new(), left: VALUES };
    loop {
        match reader.document(&mut parser) {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => break,
            Err(Stop::Damaged(at, message)) => {
                reader.report(at, Code::Syntax, message);
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
            Err(Stop::TooLarge(at)) => {
                reader.report(at, Code::TooLarge, format!("more than {VALUES} values, or nested deeper than {DEPTH}"));
                break;
            }
        }
    }
    documents
}

struct Reader<'a> {
    file: &'a str,
    findings: &'a mut Vec<Finding>,
    anchors: HashMap<usize, Node>,
    left: usize,
}

enum Stop {
    Damaged(At, String),
    TooLarge(At),
}

/// A list or mapping that is not complete yet.
struct Open {
    at: At,
    anchor: usize,
    items: Vec<Node>,
    /// For a mapping: the members so far, and the key that waits for its value.
    members: Option<(Vec<Member>, HashSet<String>, Option<(String, At)>)>,
}

impl Reader<'_> {
    fn report(&mut self, (line, column): At, code: Code, message: String) {
        let problem = Problem::new(code, Path::default(), message);
        self.findings.push(Finding { file: self.file.to_owned(), line, column, problem });
    }

    fn document<'t>(&mut self, parser: &mut Parser<'t, StrInput<'t>>) -> Result<Option<Node>, Stop> {
        let mut open: Vec<Open> = Vec::new();
        let mut root = None;
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(damaged)?;
            let at = place(&span.start);
            let node = match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentEnd => return Ok(Some(root.unwrap_or(Node { at, value: Value::Null }))),
                Event::Scalar(text, style, anchor, tag) => {
                    let plain = style == ScalarStyle::Plain && tag.is_none();
                    let value = if plain { resolve(&text) } else { Value::Text(text.into_owned()) };
                    self.close(Node { at, value }, anchor)?
                }
                Event::Alias(id) => {
                    let Some(node) = self.anchors.get(&id).cloned() else {
                        return Err(Stop::Damaged(at, "an alias stands inside what it names".to_owned()));
                    };
                    self.take(count(&node), at)?;
                    Node { at, value: node.value }
                }
                Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEPTH => {
                    return Err(Stop::TooLarge(at));
                }
                Event::SequenceStart(_, anchor, _) => {
                    open.push(Open { at, anchor, items: Vec::new(), members: None });
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    let members = Some((Vec::new(), HashSet::new(), None));
                    open.push(Open { at, anchor, items: Vec::new(), members });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(done) = open.pop() else { continue };
                    let value = match done.members {
                        Some((members, ..)) => Value::Map(members),
                        None => Value::List(done.items),
                    };
                    self.close(Node { at: done.at, value }, done.anchor)?
                }
                _ => continue,
            };
            match open.last_mut() {
                None => root = Some(node),
                Some(Open { members: None, items, .. }) => items.push(node),
                Some(Open { members: Some((members, keys, waiting)), .. }) => match waiting.take() {
                    None => *waiting = Some(self.key(node, keys)),
                    Some((key, key_at)) => members.push(Member { key, key_at, value: node }),
                },
            }
        }
        Ok(root)
    }

    /// A node is complete: it counts, and an alias may repeat it.
    fn close(&mut self, node: Node, anchor: usize) -> Result<Node, Stop> {
        self.take(1, node.at)?;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn take(&mut self, values: usize, at: At) -> Result<(), Stop> {
        self.left = self.left.checked_sub(values).ok_or(Stop::TooLarge(at))?;
        Ok(())
    }

    fn key(&mut self, node: Node, keys: &mut HashSet<String>) -> (String, At) {
        let key = match node.value {
            Value::Text(text) | Value::Bool(text) | Value::Number(text) => text,
            Value::Null => "null".to_owned(),
            Value::List(_) | Value::Map(_) => {
                self.report(node.at, Code::WrongType, "a key must be text".to_owned());
                String::new()
            }
        };
        if !keys.insert(key.clone()) {
            let message = format!("`{}` stands twice in this mapping: keep one", key.escape_debug());
            self.report(node.at, Code::DuplicateKey, message);
        }
        (key, node.at)
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(members) => members.iter().map(|member| count(&member.value)).sum(),
        _ => 0,
    }
}

fn place(marker: &Marker) -> At {
    (marker.line(), marker.col() + 1)
}

// Takes the error as `map_err` gives it.
#[allow(clippy::needless_pass_by_value)]
fn damaged(error: ScanError) -> Stop {
    let at = place(error.marker());
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => Stop::TooLarge(at),
        kind => Stop::Damaged(at, format!("not YAML or JSON: {kind}")),
    }
}

/// What a plain scalar is to Kubernetes (YAML 1.1, as sigs.k8s.io/yaml reads it).
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        _ if matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n") => {
            Value::Bool(text.to_owned())
        }
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    if matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let radix = |prefix: &str, ok: fn(char) -> bool| {
        digits.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| ok(c) || c == '_'))
    };
    radix("0x", |c| c.is_ascii_hexdigit())
        || radix("0o", |c| c.is_digit(8))
        || radix("0b", |c| c.is_digit(2))
        || digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.replace('_', "").parse::<f64>().is_ok()
}
