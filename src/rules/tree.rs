//! YAML and JSON as a tree that knows where each part of it was written.
//!
//! Bounded in memory and time for any input: nesting by the parser, size by [`MAX_VALUES`], and aliases, which can
//! make a small text stand for a huge tree, by [`MAX_ALIASED_VALUES`]. Aliased parts are shared, never copied.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{
    finding::{Code, FieldPath, Position, Problem, Step, quoted},
    scalar::{Scalar, ScalarKind},
};

/// How many values one document may hold.
const MAX_VALUES: usize = 1_000_000;
/// How many values all aliases of one file may stand for.
const MAX_ALIASED_VALUES: usize = 100_000;

/// One document of a file.
#[derive(Debug, Default)]
pub(super) struct Tree<'t> {
    nodes: Vec<Node<'t>>,
    /// What is wrong with the text as such, and has not kept it from being read: keys that repeat, odd tags.
    pub(super) problems: Vec<(Position, Problem)>,
}

/// A value's place in its tree; the root is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(usize);

#[derive(Debug)]
struct Node<'t> {
    at: Position,
    value: Value<'t>,
    /// How many values it holds, with itself, aliases written out.
    size: usize,
}

/// What stands at one place of a document.
#[derive(Debug)]
pub(super) enum Value<'t> {
    Scalar(Scalar<'t>),
    List(Vec<NodeId>),
    Map(Vec<Entry<'t>>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: Cow<'t, str>,
    pub(super) at: Position,
    pub(super) value: NodeId,
}

/// A document that could not be read: where and why.
pub(super) type Broken = (Position, Problem);

impl<'t> Tree<'t> {
    /// The whole document; `None` when there is nothing in it.
    pub(super) fn root(&self) -> Option<NodeId> {
        let nothing = match self.nodes.first() {
            None => true,
            Some(Node { value: Value::Scalar(scalar), .. }) => scalar.kind() == ScalarKind::Null,
            Some(_) => false,
        };
        (!nothing).then_some(NodeId(0))
    }

    pub(super) fn value(&self, node: NodeId) -> &Value<'t> {
        &self.nodes[node.0].value
    }

    pub(super) fn at(&self, node: NodeId) -> Position {
        self.nodes[node.0].at
    }

    /// The value of one field; `None` when `node` is no mapping or does not have it.
    pub(super) fn field(&self, node: NodeId, name: &str) -> Option<NodeId> {
        match self.value(node) {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == name).map(|entry| entry.value),
            _ => None,
        }
    }

    /// The text of one field that is a scalar.
    pub(super) fn text(&self, node: NodeId, name: &str) -> Option<&str> {
        match self.value(self.field(node, name)?) {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Where the value at `path` below `node` was written, or the nearest value around it if it is not there.
    pub(super) fn position(&self, node: NodeId, path: &FieldPath) -> Position {
        let mut node = node;
        for step in &path.0 {
            let inner = match (step, self.value(node)) {
                (Step::Field(name) | Step::Key(name), Value::Map(_)) => self.field(node, name),
                (Step::Index(index), Value::List(items)) => items.get(*index).copied(),
                _ => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        self.at(node)
    }
}

/// Reads a text document by document. One that is broken does not hide those after it.
pub(super) struct Documents<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    /// Where the text begins in its file.
    origin: Position,
    aliased_values: usize,
}

impl<'t> Documents<'t> {
    pub(super) fn new(text: &'t str, origin: Position) -> Self {
        let mut options = granit_parser::options! { simple_key_max_lookahead: 4096, emit_unresolved_aliases: true };
        options.set_emit_comments(false);
        Self { parser: Parser::new_from_str_with_options(text, options), origin, aliased_values: 0 }
    }

    /// The next document, or why it could not be read.
    fn read(&mut self) -> Option<Result<Tree<'t>, Broken>> {
        loop {
            return match self.parser.next()? {
                Ok((Event::DocumentStart(..), _)) => Some(self.build()),
                Ok(_) => continue,
                Err(error) => Some(Err(self.broken(&error))),
            };
        }
    }

    fn build(&mut self) -> Result<Tree<'t>, Broken> {
        let mut builder = Builder { origin: self.origin, aliased_values: self.aliased_values, ..Builder::default() };
        let built = loop {
            match self.parser.next() {
                None | Some(Ok((Event::DocumentEnd, _))) => break Ok(()),
                Some(Ok((event, span))) => {
                    if let Err(broken) = builder.take(event, &span) {
                        break Err(broken);
                    }
                }
                Some(Err(error)) => break Err(self.broken(&error)),
            }
        };
        self.aliased_values = builder.aliased_values;
        built.map(|()| builder.tree)
    }

    fn broken(&self, error: &ScanError) -> Broken {
        let marker = error.marker();
        let at = place(self.origin, marker.line(), marker.col());
        (at, Problem::new(Code::Syntax, FieldPath::default(), explained(error.kind())))
    }
}

impl<'t> Iterator for Documents<'t> {
    type Item = Result<Tree<'t>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let document = self.read()?;
        if document.is_err() {
            // Whatever goes wrong on the way to the next document shows again when that is read.
            let _more = self.parser.proceed_next_document();
        }
        Some(document)
    }
}

/// The parser's errors, as far as people meet them, in terms of what they wrote.
fn explained(error: &ErrorKind) -> String {
    match error {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "a tab is where only spaces may be: write spaces".to_owned(),
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::BlockSequenceEntryNotAllowed => {
            "does not line up with what is above: indent it like the lines that it belongs to".to_owned()
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "a key without `: ` after it: write `key: value`".to_owned()
        }
        ErrorKind::MappingValueNotAllowed => {
            "a `: ` where no value can be: put text that holds it in quotes, or give the key before it its `: `"
                .to_owned()
        }
        ErrorKind::ExpectedFlowMappingSeparator => "`,` or `}` is missing before this".to_owned(),
        ErrorKind::ExpectedFlowSequenceSeparator => "`,` or `]` is missing before this".to_owned(),
        ErrorKind::ExpectedDocumentStart => "something follows the end of a document: write `---` before it".to_owned(),
        ErrorKind::UnclosedFlowCollection { open } => format!("the bracket `{open}` is never closed"),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            format!("the bracket `{open}` is closed by `{close}`")
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            "the quote is never closed".to_owned()
        }
        ErrorKind::UnexpectedCharacter { character } => {
            format!("{} cannot begin a text in YAML: write the text in quotes", quoted(&character.to_string()))
        }
        ErrorKind::RecursionLimitExceeded => "is nested too deep".to_owned(),
        other => format!("cannot be read: {other}"),
    }
}

/// The parser counts lines from 1 and columns from 0.
fn place(origin: Position, line: usize, column: usize) -> Position {
    let first = line <= 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: origin.line.saturating_add(number(line.saturating_sub(1))),
        column: number(column).saturating_add(if first { origin.column } else { 1 }),
    }
}

/// A mapping or list whose end has not come yet.
struct Open<'t> {
    node: NodeId,
    /// Of a mapping: the key whose value comes next.
    key: Option<Key<'t>>,
    /// Of a mapping: what is to be merged into it (`<<: *other`).
    merges: Vec<Entry<'t>>,
    size: usize,
}

struct Key<'t> {
    text: Cow<'t, str>,
    at: Position,
    plain: bool,
}

struct Builder<'t> {
    tree: Tree<'t>,
    open: Vec<Open<'t>>,
    anchors: HashMap<usize, NodeId>,
    aliased_values: usize,
    origin: Position,
}

impl Default for Builder<'_> {
    fn default() -> Self {
        Self {
            tree: Tree::default(),
            open: Vec::new(),
            anchors: HashMap::new(),
            aliased_values: 0,
            origin: Position { line: 1, column: 1 },
        }
    }
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: &Span) -> Result<(), Broken> {
        let at = place(self.origin, span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_text_tag(tag.as_deref());
                self.check_tag(tag.as_deref(), &["str", "int", "float", "bool", "null"], at);
                self.take_scalar(Scalar { text, plain }, at, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), &["seq"], at);
                self.open(at, Value::List(Vec::new()), anchor)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), &["map"], at);
                self.open(at, Value::Map(Vec::new()), anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let (node, size) = (open.node, open.size);
                    let merged = self.finish_map(open)?;
                    self.close(node, size.saturating_add(merged));
                }
            }
            Event::Alias(anchor) => self.take_alias(anchor, at)?,
            Event::UnresolvedAlias(name) => {
                let text = format!("*{name}");
                let message =
                    format!("{} begins with `*`, which YAML keeps for aliases: write `\"{text}\"`", quoted(&text));
                self.tree.problems.push((at, Problem::new(Code::Syntax, FieldPath::default(), message)));
                self.take_scalar(Scalar { text: text.into(), plain: false }, at, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_scalar(&mut self, scalar: Scalar<'t>, at: Position, anchor: usize) -> Result<(), Broken> {
        if self.key_is_next() {
            let Scalar { text, plain } = scalar;
            self.take_key(Key { text, at, plain });
        } else {
            let node = self.add(at, Value::Scalar(scalar), anchor)?;
            self.close(node, 1);
        }
        Ok(())
    }

    fn key_is_next(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.key.is_none() && matches!(self.tree.nodes[open.node.0].value, Value::Map(_)))
    }

    fn take_key(&mut self, key: Key<'t>) {
        if let Some(open) = self.open.last_mut() {
            open.key = Some(key);
        }
    }

    fn open(&mut self, at: Position, value: Value<'t>, anchor: usize) -> Result<(), Broken> {
        if self.key_is_next() {
            return Err(syntax(at, "a key must be text, not a list or mapping"));
        }
        let node = self.add(at, value, anchor)?;
        self.open.push(Open { node, key: None, merges: Vec::new(), size: 1 });
        Ok(())
    }

    fn add(&mut self, at: Position, value: Value<'t>, anchor: usize) -> Result<NodeId, Broken> {
        if self.tree.nodes.len() >= MAX_VALUES {
            return Err(syntax(at, format!("one document holds more than {MAX_VALUES} values: make several of it")));
        }
        let node = NodeId(self.tree.nodes.len());
        // The size stays 0 until the end of the value has come: an alias inside it is known by that.
        self.tree.nodes.push(Node { at, value, size: 0 });
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        Ok(node)
    }

    /// The end of a value has come: its size is known, and what it is part of takes it in.
    fn close(&mut self, node: NodeId, size: usize) {
        self.tree.nodes[node.0].size = size;
        self.take_in(node, size);
    }

    fn take_in(&mut self, node: NodeId, size: usize) {
        let Some(open) = self.open.last_mut() else { return };
        open.size = open.size.saturating_add(size);
        match &mut self.tree.nodes[open.node.0].value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => {
                if let Some(Key { text, at, plain }) = open.key.take() {
                    let is_merge = plain && text == "<<";
                    let entry = Entry { key: text, at, value: node };
                    if is_merge { open.merges.push(entry) } else { entries.push(entry) }
                }
            }
            Value::Scalar(_) => {}
        }
    }

    fn take_alias(&mut self, anchor: usize, at: Position) -> Result<(), Broken> {
        let target = self.anchors.get(&anchor).copied().filter(|target| self.tree.nodes[target.0].size > 0);
        let Some(target) = target else {
            return Err(syntax(at, "an alias stands for a value that holds the alias itself: write the value out"));
        };
        if self.key_is_next() {
            let Value::Scalar(Scalar { text, plain }) = &self.tree.nodes[target.0].value else {
                return Err(syntax(at, "a key must be text, not a list or mapping"));
            };
            let key = Key { text: text.clone(), at, plain: *plain };
            self.take_key(key);
            return Ok(());
        }
        let size = self.tree.nodes[target.0].size;
        self.spend(size, at)?;
        if self.open.is_empty() {
            return Err(syntax(at, "a document cannot be an alias alone"));
        }
        self.take_in(target, size);
        Ok(())
    }

    fn spend(&mut self, size: usize, at: Position) -> Result<(), Broken> {
        self.aliased_values = self.aliased_values.saturating_add(size);
        if self.aliased_values > MAX_ALIASED_VALUES {
            let message =
                format!("the aliases of this file stand for more than {MAX_ALIASED_VALUES} values: write them out");
            return Err(syntax(at, message));
        }
        Ok(())
    }

    /// Takes in what is merged into a mapping, and reports keys that repeat. Answers how many values the merge added.
    fn finish_map(&mut self, Open { node, merges, .. }: Open<'t>) -> Result<usize, Broken> {
        let Value::Map(entries) = &mut self.tree.nodes[node.0].value else { return Ok(0) };
        let written = std::mem::take(entries);
        let mut lines: HashMap<Cow<'t, str>, u32> = HashMap::with_capacity(written.len());
        let mut kept = Vec::with_capacity(written.len());
        for entry in written {
            match lines.entry(entry.key.clone()) {
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(entry.at.line);
                    kept.push(entry);
                }
                hash_map::Entry::Occupied(first) => {
                    let message =
                        format!("{} is here twice, first in line {}: remove one", quoted(&entry.key), first.get());
                    let problem = Problem::new(Code::DuplicateKey, FieldPath::default(), message);
                    self.tree.problems.push((entry.at, problem));
                }
            }
        }
        let mut added = 0_usize;
        for merge in merges {
            for source in self.merge_sources(&merge)? {
                let Value::Map(entries) = self.value_of(source) else {
                    return Err(syntax(merge.at, WRONG_MERGE));
                };
                let entries = entries.clone();
                let size = self.tree.nodes[source.0].size;
                self.spend(size, merge.at)?;
                added = added.saturating_add(size);
                for entry in entries {
                    if let hash_map::Entry::Vacant(vacant) = lines.entry(entry.key.clone()) {
                        vacant.insert(entry.at.line);
                        kept.push(entry);
                    }
                }
            }
        }
        self.tree.nodes[node.0].value = Value::Map(kept);
        Ok(added)
    }

    fn merge_sources(&self, merge: &Entry<'t>) -> Result<Vec<NodeId>, Broken> {
        match self.value_of(merge.value) {
            Value::Map(_) => Ok(vec![merge.value]),
            Value::List(items) => Ok(items.clone()),
            Value::Scalar(_) => Err(syntax(merge.at, WRONG_MERGE)),
        }
    }

    fn value_of(&self, node: NodeId) -> &Value<'t> {
        &self.tree.nodes[node.0].value
    }

    fn check_tag(&mut self, tag: Option<&Tag>, allowed: &[&str], at: Position) {
        let Some(tag) = tag else { return };
        let known = tag.core_suffix().is_some_and(|suffix| allowed.contains(&suffix)) || is_text_tag(Some(tag));
        if !known {
            let message = format!("the tag {} means nothing here: remove it", quoted(&tag.original()));
            self.tree.problems.push((at, Problem::new(Code::Syntax, FieldPath::default(), message)));
        }
    }
}

const WRONG_MERGE: &str = "`<<` merges a mapping or a list of mappings, and nothing else: write the fields out";

fn is_text_tag(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.core_suffix() == Some("str") || tag.original() == "!")
}

fn syntax(at: Position, message: impl Into<String>) -> Broken {
    (at, Problem::new(Code::Syntax, FieldPath::default(), message))
}
