//! Globs as Go's `filepath.Match` reads them on Unix (path/filepath/match.go): `*`, `?`, classes, and `\` before a character.

/// The pattern is malformed; Go notices that only in as much of it as it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadPattern;

/// Whether a whole name matches a pattern. A `*` and a `?` match anything but a slash.
pub(super) fn matches(mut pattern: &[u8], mut name: &[u8]) -> Result<bool, BadPattern> {
    'pattern: while !pattern.is_empty() {
        let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
        let (chunk, rest) = pattern[stars..].split_at(chunk_length(&pattern[stars..]));
        pattern = rest;
        if stars > 0 && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(after) = match_chunk(chunk, name)?
            && (after.is_empty() || !pattern.is_empty())
        {
            name = after;
            continue;
        }
        if stars > 0 {
            for skipped in 0..name.iter().take_while(|byte| **byte != b'/').count() {
                if let Some(after) = match_chunk(chunk, &name[skipped + 1..])?
                    && (after.is_empty() || !pattern.is_empty())
                {
                    name = after;
                    continue 'pattern;
                }
            }
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Length of what stands before the next `*` that is not in a class.
fn chunk_length(pattern: &[u8]) -> usize {
    let (mut i, mut in_class) = (0, false);
    while i < pattern.len() {
        match pattern[i] {
            b'\\' if i + 1 < pattern.len() => i += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => return i,
            _ => {}
        }
        i += 1;
    }
    pattern.len()
}

/// Matches a chunk without stars at the start of a text, and gives what is left of the text. The chunk is read to its end
/// even when it does not match, for what is malformed in it.
fn match_chunk<'s>(mut chunk: &[u8], mut text: &'s [u8]) -> Result<Option<&'s [u8]>, BadPattern> {
    let mut failed = false;
    while let Some(&first) = chunk.first() {
        failed |= text.is_empty();
        match first {
            b'[' => {
                let (wanted, rest) = if failed { (None, text) } else { next_char(text) };
                text = rest;
                let matched;
                (matched, chunk) = match_class(&chunk[1..], wanted)?;
                failed |= !matched;
            }
            b'?' => {
                if !failed {
                    failed = text[0] == b'/';
                    text = next_char(text).1;
                }
                chunk = &chunk[1..];
            }
            _ => {
                if first == b'\\' {
                    chunk = &chunk[1..];
                }
                let literal = *chunk.first().ok_or(BadPattern)?;
                if !failed {
                    failed = literal != text[0];
                    text = &text[1..];
                }
                chunk = &chunk[1..];
            }
        }
    }
    Ok((!failed).then_some(text))
}

/// Reads a class from behind its `[`; says whether it holds the character, and gives what follows the class.
fn match_class(mut chunk: &[u8], wanted: Option<u32>) -> Result<(bool, &[u8]), BadPattern> {
    let negated = chunk.first() == Some(&b'^');
    if negated {
        chunk = &chunk[1..];
    }
    let (mut matched, mut ranges) = (false, 0);
    loop {
        if chunk.first() == Some(&b']') && ranges > 0 {
            return Ok((matched != negated, &chunk[1..]));
        }
        let (low, rest) = class_char(chunk)?;
        let (high, rest) = if rest.first() == Some(&b'-') { class_char(&rest[1..])? } else { (low, rest) };
        chunk = rest;
        matched |= wanted.is_some_and(|wanted| (low..=high).contains(&wanted));
        ranges += 1;
    }
}

/// A character of a class, which something must follow.
fn class_char(chunk: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    let chunk = match chunk {
        [] | [b'-' | b']', ..] => return Err(BadPattern),
        [b'\\', rest @ ..] => rest,
        chunk => chunk,
    };
    match next_char(chunk) {
        (Some(char), rest) if !rest.is_empty() => Ok((char, rest)),
        _ => Err(BadPattern),
    }
}

/// The first character, and the rest. A byte that is not UTF-8 is a character by itself, and none that a class can name.
fn next_char(text: &[u8]) -> (Option<u32>, &[u8]) {
    let chunk = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(chunk) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&chunk[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(char) => (Some(char.into()), &text[char.len_utf8()..]),
        None => (None, text.get(1..).unwrap_or_default()),
    }
}
