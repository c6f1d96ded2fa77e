//! Reads Rust text just well enough to say which paths it names: comments, literals and test-only items are blanked
//! out, and what is left is cut into tokens. Macros are read as the tokens they are written with.

use std::ops::Range;

/// A path as written, groups of a `use` taken apart: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, PartialEq, Eq)]
pub struct CodePath {
    pub line: usize,
    pub segments: Vec<String>,
}

/// Replaces comments and the insides of string and character literals by spaces; lines stay where they are.
pub fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => end_of_line(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' if !(at > 0 && is_name_byte(bytes[at - 1]) && !is_literal_prefix(bytes, at)) => {
                end_of_raw_string(bytes, at)
            }
            b'\'' => end_of_character(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            blank(&mut out[at..end]);
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters are replaced by spaces")
}

/// An item under `#[cfg(test)]`.
pub struct TestItem {
    /// Where it is, from its attribute to its end.
    pub bytes: Range<usize>,
    /// The name of the module, when it is one with a file of its own.
    pub file: Option<String>,
}

/// Every item under `#[cfg(test)]` of code without comments and literals.
pub fn test_items(code: &str) -> Vec<TestItem> {
    const MARK: &str = "#[cfg(test)]";
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = end_of_item(code.as_bytes(), start + MARK.len());
        let declared = code[start + MARK.len()..end].trim().strip_suffix(';');
        let file = declared.and_then(|text| text.rsplit_once("mod ")).map(|(_, name)| name.trim().to_owned());
        items.push(TestItem { bytes: start..end, file });
        from = end;
    }
    items
}

/// Replaces the items by spaces.
pub fn without(code: &str, items: &[TestItem]) -> String {
    let mut out = code.as_bytes().to_vec();
    for item in items {
        blank(&mut out[item.bytes.clone()]);
    }
    String::from_utf8(out).expect("whole items are replaced by spaces")
}

/// Every path of two segments or more, and every name that a `use` brings in whole.
pub fn paths(code: &str) -> Vec<CodePath> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let in_use = at > 0 && tokens[at - 1].text == "use";
        let starts_here = tokens[at].is_name() && !(at > 0 && matches!(tokens[at - 1].text, "." | "'"));
        if starts_here {
            at = read_tree(&tokens, at, &[], in_use, &mut found);
        } else if in_use && tokens[at].text == "{" {
            at = read_group(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

impl Token<'_> {
    fn is_name(&self) -> bool {
        self.text.bytes().next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
    }
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let (mut line, mut at) = (1, 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            byte if byte.is_ascii_whitespace() || !byte.is_ascii() => {
                at += 1;
                continue;
            }
            byte if is_name_byte(byte) => at + bytes[at..].iter().take_while(|byte| is_name_byte(**byte)).count(),
            b':' if bytes.get(at + 1) == Some(&b':') => at + 2,
            _ => at + 1,
        };
        tokens.push(Token { line, text: &code[at..end] });
        at = end;
    }
    tokens
}

/// Reads `a::b`, `a::*` or `a::{..}` from `at`; returns where it ends.
fn read_tree(tokens: &[Token<'_>], at: usize, before: &[String], keep_short: bool, found: &mut Vec<CodePath>) -> usize {
    let line = tokens[at].line;
    let mut segments = before.to_vec();
    segments.push(tokens[at].text.to_owned());
    let mut next = at + 1;
    while tokens.get(next).is_some_and(|token| token.text == "::") {
        match tokens.get(next + 1) {
            Some(token) if token.is_name() || token.text == "*" => {
                segments.push(token.text.to_owned());
                next += 2;
            }
            Some(token) if token.text == "{" => return read_group(tokens, next + 1, &segments, found),
            _ => {
                next += 1;
                break;
            }
        }
    }
    if segments.len() > 1 || keep_short {
        found.push(CodePath { line, segments });
    }
    next
}

fn read_group(tokens: &[Token<'_>], open: usize, before: &[String], found: &mut Vec<CodePath>) -> usize {
    let mut at = open + 1;
    while at < tokens.len() && tokens[at].text != "}" {
        let renamed = tokens[at - 1].text == "as";
        at = match &tokens[at] {
            token if (token.is_name() || token.text == "*") && !renamed && token.text != "as" => {
                read_tree(tokens, at, before, true, found)
            }
            _ => at + 1,
        };
    }
    at + 1
}

/// An item ends at the first `;` or `}` that no bracket encloses.
fn end_of_item(code: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(byte, b';' | b'}') {
            return at + 1;
        }
    }
    code.len()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Whether the `r` at `at` follows the `b` or `c` of `br".."` or `cr".."`.
fn is_literal_prefix(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at - 1], b'b' | b'c') && !(at > 1 && is_name_byte(bytes[at - 2]))
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r".."`, `r#".."#` and so on; one past the `r` when it begins something else.
fn end_of_raw_string(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let body = start + 1 + hashes;
    if bytes.get(body) != Some(&b'"') {
        return start + 1;
    }
    let closing = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    (body + 1..bytes.len()).find(|at| bytes[*at..].starts_with(&closing)).map_or(bytes.len(), |at| at + closing.len())
}

/// The end of `'x'` or `'\n'`; one past the quote when it begins a lifetime.
fn end_of_character(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start + 1..];
    if rest.first() == Some(&b'\\') {
        return rest.iter().skip(2).position(|byte| *byte == b'\'').map_or(start + 1, |length| start + length + 4);
    }
    let width = match rest.first() {
        Some(byte) if *byte >= 0xF0 => 4,
        Some(byte) if *byte >= 0xE0 => 3,
        Some(byte) if *byte >= 0xC0 => 2,
        _ => 1,
    };
    if rest.get(width) == Some(&b'\'') { start + width + 2 } else { start + 1 }
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text =
        "a // b::c\n/* d::e /* f */ */ g \"h::i \\\" j\" r#\"k::\"l\"# br\"m::n\" 'o' '\\'' '\\u{1F600}' 'é' &'p q::r";
    let code = without_comments_and_literals(text);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "g", "b", "&'p", "q::r"]);
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn items_under_cfg_test_are_blanked_and_named_when_they_are_files() {
    let text = "use a::b;\n#[cfg(test)]\nmod tests { use c::d; fn e() { f::g(); } }\n#[cfg(test)]\nmod samples;\nuse h::i;\n#[cfg(test)] fn j(k: [l::m; 2]) { n::o() }\nuse p::q;";
    let items = test_items(text);
    let left: Vec<_> =
        paths(&without(text, &items)).into_iter().map(|path| (path.line, path.segments.join("::"))).collect();
    assert_eq!(left, [(1, "a::b".to_owned()), (6, "h::i".to_owned()), (8, "p::q".to_owned())]);
    assert_eq!(items.into_iter().filter_map(|item| item.file).collect::<Vec<_>>(), ["samples"]);
}

#[test]
fn paths_are_read_from_uses_groups_and_expressions() {
    let code =
        "use a;\nuse {b::c as d, ::e::f};\nuse g::{h, i::{self, j as k}, l::*};\nlet m = n::o::<p::q>(r.s::<T>(), x);";
    let read: Vec<_> = paths(code).into_iter().map(|path| path.segments.join("::")).collect();
    assert_eq!(read, ["a", "b::c", "e::f", "g::h", "g::i::self", "g::i::j", "g::l::*", "n::o", "p::q"]);
}
