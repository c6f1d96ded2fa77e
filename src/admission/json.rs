//! JSON as the request path needs it: reading the few members of a large document that matter, in one pass, borrowed, without
//! storing the rest; and writing text.
//!
//! Most of a review is passed over, and that is most of the work that a request makes: with this a decision takes a quarter
//! less time than with `serde_json` (docs/performance.md). It accepts the same texts (RFC 8259) and nesting of any depth.
//! The last of repeated keys counts, as in Go, and an error names the place and never the value.

use std::borrow::Cow;

/// What a reader wants of one JSON object.
pub(super) trait Members<'de> {
    /// The object's place in the document, for errors: `spec.containers[]`.
    const PLACE: &'static str;

    /// Called before the first member, and in place of any for `null`: forgets what an earlier value of a repeated key left.
    fn begin(&mut self) {}

    /// Called with each key. Must take the value from `json`; [`Reader::skip`] does so for those of no interest.
    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable>;

    /// Called after the last member.
    fn end(&mut self) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// Why a document cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is not JSON")]
    NotJson,
    #[error("{place} is text that is not Unicode")]
    NotUnicode { place: &'static str },
    #[error("{place} is {found} where {wanted} belongs")]
    Wrong { place: &'static str, found: &'static str, wanted: &'static str },
    #[error("{place} holds more than {most}, which no Pod does")]
    TooMany { place: &'static str, most: usize },
}

/// The text is not JSON. Nearly all of the reading can fail in no other way, and this fits into a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl From<Broken> for Unreadable {
    fn from(Broken: Broken) -> Self {
        Self::NotJson
    }
}

/// A place in a document. Nothing is taken back: after an error the document is read no further.
pub(super) struct Reader<'de> {
    bytes: &'de [u8],
    /// The next byte.
    at: usize,
    /// What closes the lists and objects that are being passed over, the innermost last. Kept for its memory.
    open: Vec<u8>,
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { bytes, at: 0, open: Vec::new() }
    }

    /// Reads an object, or `null`, into its [`Members`]. The value says whether an object was there.
    pub(super) fn object<M: Members<'de>>(&mut self, members: &mut M) -> Result<bool, Unreadable> {
        match self.token()? {
            b'{' => self.at += 1,
            b'n' => {
                members.begin();
                self.literal(b"null")?;
                return Ok(false);
            }
            first => return Err(wrong(M::PLACE, first, "an object")),
        }
        members.begin();
        if self.token()? == b'}' {
            self.at += 1;
        } else {
            loop {
                let key = self.key()?;
                members.member(&key, self)?;
                if self.ends_with(b'}')? {
                    break;
                }
            }
        }
        members.end()?;
        Ok(true)
    }

    /// Reads a list of objects, or `null`, handing each to the same [`Members`]. The value says whether a list was there.
    pub(super) fn list<M: Members<'de>>(&mut self, place: &'static str, members: &mut M) -> Result<bool, Unreadable> {
        match self.token()? {
            b'[' => self.at += 1,
            b'n' => {
                self.literal(b"null")?;
                return Ok(false);
            }
            first => return Err(wrong(place, first, "a list")),
        }
        if self.token()? == b']' {
            self.at += 1;
            return Ok(true);
        }
        loop {
            self.object(members)?;
            if self.ends_with(b']')? {
                return Ok(true);
            }
        }
    }

    /// Reads a string as Go does, which replaces what is not Unicode; a value of another type is none, and not read. Of a
    /// string that is longer than any name the start is enough.
    pub(super) fn lossy(&mut self) -> Option<String> {
        const LENGTH: usize = 4096;
        if self.token().ok()? != b'"' {
            return None;
        }
        let bytes = self.string().ok()?;
        Some(String::from_utf8_lossy(bytes.get(..LENGTH).unwrap_or(&bytes)).into_owned())
    }

    /// Reads a string; `null` is none.
    pub(super) fn text(&mut self, place: &'static str) -> Result<Option<Cow<'de, str>>, Unreadable> {
        match self.token()? {
            b'"' => {
                let not_unicode = |_| Unreadable::NotUnicode { place };
                match self.string()? {
                    Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(not_unicode),
                    Cow::Owned(bytes) => {
                        String::from_utf8(bytes).map(Cow::Owned).map_err(|error| not_unicode(error.utf8_error()))
                    }
                }
                .map(Some)
            }
            b'n' => {
                self.literal(b"null")?;
                Ok(None)
            }
            first => Err(wrong(place, first, "a string")),
        }
    }

    /// Passes over a value without looking into it, however deep it is.
    pub(super) fn skip(&mut self) -> Result<(), Broken> {
        self.open.clear();
        loop {
            match self.token()? {
                b'"' => self.skip_string()?,
                b'{' => {
                    self.at += 1;
                    if self.token()? != b'}' {
                        self.open.push(b'}');
                        self.skip_key()?;
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    self.at += 1;
                    if self.token()? != b']' {
                        self.open.push(b']');
                        continue;
                    }
                    self.at += 1;
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => self.number()?,
            }
            loop {
                let Some(&close) = self.open.last() else { return Ok(()) };
                if !self.ends_with(close)? {
                    if close == b'}' {
                        self.skip_key()?;
                    }
                    break;
                }
                self.open.pop();
            }
        }
    }

    /// Passes over a value, and gives it as it is written.
    pub(super) fn raw(&mut self) -> Result<&'de [u8], Broken> {
        self.token()?;
        let start = self.at;
        self.skip()?;
        Ok(self.bytes.get(start..self.at).unwrap_or_default())
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        match self.token() {
            Ok(_) => Err(Broken),
            Err(Broken) => Ok(()),
        }
    }

    /// The line and the column that have been reached, both from 1; columns are bytes.
    pub(super) fn line_and_column(&self) -> (usize, usize) {
        let before = self.bytes.get(..self.at).unwrap_or(self.bytes);
        let lines = before.split(|byte| *byte == b'\n');
        lines.enumerate().last().map_or((1, 1), |(line, text)| (line + 1, text.len() + 1))
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The first byte of what comes next. It is left there.
    #[inline]
    fn token(&mut self) -> Result<u8, Broken> {
        loop {
            match self.peek() {
                Some(byte) if byte > b' ' => return Ok(byte),
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                // Such a byte begins nothing, and whoever looks at it says so.
                Some(byte) => return Ok(byte),
                None => return Err(Broken),
            }
        }
    }

    /// Takes what stands behind a member or an item: a comma, or what closes the whole.
    #[inline]
    fn ends_with(&mut self, close: u8) -> Result<bool, Broken> {
        let byte = self.token()?;
        if byte != b',' && byte != close {
            return Err(Broken);
        }
        self.at += 1;
        Ok(byte == close)
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Result<(), Broken> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal) {
            return Err(Broken);
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Broken> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(Broken) } else { Ok(()) }
    }

    /// Reads a member's name as bytes, and its colon. A name that is not Unicode is none of ours, and no error.
    #[inline]
    fn key(&mut self) -> Result<Cow<'de, [u8]>, Broken> {
        if self.token()? != b'"' {
            return Err(Broken);
        }
        let key = self.string()?;
        self.colon()?;
        Ok(key)
    }

    #[inline]
    fn skip_key(&mut self) -> Result<(), Broken> {
        if self.token()? != b'"' {
            return Err(Broken);
        }
        self.skip_string()?;
        self.colon()
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Broken> {
        if self.token()? != b':' {
            return Err(Broken);
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn skip_string(&mut self) -> Result<(), Broken> {
        self.at += 1;
        self.skip_rest_of_string()
    }

    #[inline]
    fn skip_rest_of_string(&mut self) -> Result<(), Broken> {
        while self.until_special()? == b'\\' {
            self.escape()?;
        }
        self.at += 1;
        Ok(())
    }

    /// The bytes that a string stands for. A surrogate that stands alone becomes bytes that are no UTF-8.
    #[inline]
    fn string(&mut self) -> Result<Cow<'de, [u8]>, Broken> {
        self.at += 1;
        let begin = self.at;
        if self.until_special()? == b'"' {
            let plain = self.bytes.get(begin..self.at).unwrap_or_default();
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        self.unescaped(begin).map(Cow::Owned)
    }

    /// A string from its begin on, at the first escape of which the reader is.
    fn unescaped(&mut self, begin: usize) -> Result<Vec<u8>, Broken> {
        // Never more than is written; a buffer that grows would take twice as much.
        let here = self.at;
        self.skip_rest_of_string()?;
        let mut unescaped = Vec::with_capacity(self.at - begin);
        self.at = here;
        let mut start = begin;
        loop {
            let special = self.until_special()?;
            unescaped.extend_from_slice(self.bytes.get(start..self.at).unwrap_or_default());
            if special == b'"' {
                self.at += 1;
                return Ok(unescaped);
            }
            let mut unit = self.escape()?;
            if (0xd800..0xdc00).contains(&unit) && self.bytes.get(self.at..).unwrap_or_default().starts_with(b"\\u") {
                let back = self.at;
                let low = self.escape()?;
                if (0xdc00..0xe000).contains(&low) {
                    unit = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                } else {
                    self.at = back;
                }
            }
            match char::from_u32(unit) {
                Some(character) => unescaped.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                None => unescaped.push(0xff),
            }
            start = self.at;
        }
    }

    /// Moves to the next byte of a string that is not just text: its end or an escape, which is returned and left there.
    #[inline]
    fn until_special(&mut self) -> Result<u8, Broken> {
        const fn each(byte: u8) -> u64 {
            u64::from_ne_bytes([byte; 8])
        }
        // Eight bytes at once: the lowest high bit that is set marks the first byte that is special; higher ones may be wrong, by
        // a borrow. With its second bit turned over a quote is 0x20, and what is below 0x20 stays so: both are below 0x21.
        while let Some(eight) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let eight = u64::from_le_bytes(*eight);
            let (turned, escape) = (eight ^ each(0x02), eight ^ each(b'\\'));
            let special = (turned.wrapping_sub(each(0x21)) & !turned) | (escape.wrapping_sub(each(0x01)) & !escape);
            let special = special & each(0x80);
            if special != 0 {
                self.at += (special.trailing_zeros() / 8) as usize;
                break;
            }
            self.at += 8;
        }
        loop {
            match self.peek() {
                Some(special @ (b'"' | b'\\')) => return Ok(special),
                Some(b' '..) => self.at += 1,
                _ => return Err(Broken),
            }
        }
    }

    /// Takes an escape. What it stands for is a character, or one half of one.
    fn escape(&mut self) -> Result<u32, Broken> {
        let kind = self.bytes.get(self.at + 1).copied().ok_or(Broken)?;
        self.at += 2;
        Ok(match kind {
            b'"' | b'\\' | b'/' => u32::from(kind),
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => 0x0a,
            b'r' => 0x0d,
            b't' => 0x09,
            b'u' => {
                let mut unit = 0;
                for _ in 0..4 {
                    let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or(Broken)?;
                    unit = unit * 16 + digit;
                    self.at += 1;
                }
                unit
            }
            _ => return Err(Broken),
        })
    }
}

/// The value that begins so is not what belongs there; or it is no value.
fn wrong(place: &'static str, first: u8, wanted: &'static str) -> Unreadable {
    let found = match first {
        b'"' => "a string",
        b'{' => "an object",
        b'[' => "a list",
        b't' | b'f' => "true or false",
        b'n' => "null",
        b'-' | b'0'..=b'9' => "a number",
        _ => return Unreadable::NotJson,
    };
    Unreadable::Wrong { place, found, wanted }
}

/// Writes a string with its quotes, escaped where it must be.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Text written to memory: there is nothing that could fail.
        let written = serde_json::to_writer(out, text);
        debug_assert!(written.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;

    fn skips(json: &[u8]) -> bool {
        let mut reader = Reader::new(json);
        reader.skip().and_then(|()| reader.end()).is_ok()
    }

    /// Pieces of JSON, so that what is put together of them is now and then a whole.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"\"", "\"a\":", "0", "1", "-", "12.5", "e3", "E+2", ".", "01",
                "true", "false", "null", "tru", " ", "\n", "\t", "\r", "\\", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\ud83d",
                "\\udc00", "\\x", "\\u12", "[]", "{}", "\u{e9}", "eight bytes and more than that",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 0..4),
        ];
        vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// A document, one byte of which may be another or absent.
    fn nearly_documents() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ -~]{0,40}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(6, 40, 6, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,12}", inner, 0..6)
                    .prop_map(|members| Value::from(serde_json::Map::from_iter(members))),
            ]
        });
        let change = prop::option::of((any::<prop::sample::Index>(), prop::option::of(any::<u8>())));
        (value, any::<bool>(), change).prop_map(|(value, pretty, change)| {
            let mut text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            match change {
                Some((at, Some(byte))) => {
                    let at = at.index(text.len());
                    text[at] = byte;
                }
                Some((at, None)) => {
                    text.remove(at.index(text.len()));
                }
                None => {}
            }
            text
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn passes_over_what_serde_json_passes_over(json in prop_oneof![pieces(), nearly_documents()]) {
            prop_assert_eq!(skips(&json), serde_json::from_slice::<IgnoredAny>(&json).is_ok());
        }

        #[test]
        fn writes_text_as_serde_json_does(text in any::<String>()) {
            let mut ours = Vec::new();
            put_text(&mut ours, &text);
            prop_assert_eq!(ours, serde_json::to_vec(&text).unwrap());
        }

        #[test]
        fn reads_the_strings_that_serde_json_reads(inside in prop_oneof![
            pieces(),
            any::<String>().prop_map(String::into_bytes),
            vec(any::<u8>(), 0..24),
        ]) {
            let json = [b"\"".as_slice(), &inside, b"\""].concat();
            let mut reader = Reader::new(&json);
            let ours = reader.text("").ok().flatten().filter(|_| reader.end().is_ok());
            prop_assert_eq!(ours.map(Cow::into_owned), serde_json::from_slice::<String>(&json).ok());
        }
    }

    #[test]
    fn depth_is_no_limit() {
        let deep = [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat();
        assert!(skips(&deep));
        assert!(!skips(&deep[1..]));
        assert!(!skips(&deep[..deep.len() - 1]));
    }

    #[test]
    fn a_text_without_escapes_is_borrowed() {
        assert!(matches!(Reader::new(br#""plain""#).text(""), Ok(Some(Cow::Borrowed("plain")))));
        assert!(matches!(Reader::new(br#""""#).text(""), Ok(Some(Cow::Borrowed("")))));
        assert_eq!(Reader::new(br#""\u0041\ud83d\ude00""#).text(""), Ok(Some(Cow::Owned("A😀".to_owned()))));
        let not_unicode = Err(Unreadable::NotUnicode { place: "name" });
        assert_eq!(Reader::new(br#""\ud83d""#).text("name"), not_unicode);
        assert_eq!(Reader::new(b"\"\xff\"").text("name"), not_unicode);
    }
}
