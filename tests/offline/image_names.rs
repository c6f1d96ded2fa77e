//! Image references and patterns: the tables under `data/images`, line by line.

use pullcred::image::{ImagePattern, ImageReference};

use crate::support::tables::expand;

/// The lines of a table that say something, with their numbers.
fn lines(table: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = table.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn references_are_read_as_the_kubelet_reads_them() {
    let mut seen = 0;
    for (number, line) in lines(include_str!("data/images/references.txt")) {
        seen += 1;
        let (written, wanted) = line.split_once("=>").unwrap_or_else(|| panic!("line {number} has no =>"));
        let (written, wanted) = (expand(written.trim()), wanted.trim());
        let parsed = ImageReference::parse(&written);
        if let Some(words) = wanted.strip_prefix("error: ") {
            let error = parsed.expect_err(&format!("line {number}: {written}")).to_string();
            assert!(error.contains(words), "line {number}: {error}");
            continue;
        }
        let image = parsed.unwrap_or_else(|error| panic!("line {number}: {written}: {error}"));
        let wanted: Vec<String> = expand_columns(wanted);
        let found = [
            if image.registry().is_empty() { "\"\"" } else { image.registry() },
            &image.repository(),
            image.tag().unwrap_or("-"),
            image.digest().unwrap_or("-"),
        ];
        assert_eq!(found.as_slice(), wanted.as_slice(), "line {number}");
        let again = image.to_string();
        if !image.registry().is_empty() {
            assert_eq!(
                ImageReference::parse(&again).unwrap().to_string(),
                again,
                "line {number}: normalising is final"
            );
        }
    }
    assert!(seen > 60, "the table was read");
}

/// The columns of a row; `<hex N>` has a space of its own.
fn expand_columns(row: &str) -> Vec<String> {
    let row = row.replace("<hex ", "<hex\u{a0}");
    row.split([' ', '\t'])
        .filter(|column| !column.is_empty())
        .map(|column| expand(&column.replace('\u{a0}', " ")))
        .collect()
}

#[test]
fn patterns_cover_what_the_table_says_and_are_refused_with_what_to_write_instead() {
    let mut seen = 0;
    for (number, line) in lines(include_str!("data/images/patterns.txt")) {
        seen += 1;
        let (text, rest) = line.split_once(char::is_whitespace).unwrap_or_else(|| panic!("line {number}"));
        let parsed = ImagePattern::parse(text);
        if let Some(wrong) = rest.trim().strip_prefix("refused: ") {
            let error = parsed.expect_err(&format!("line {number}: {text}")).to_string();
            assert_eq!(error, format!("`{text}` {wrong}"), "line {number}");
            // What is to be written instead must not be refused in turn.
            if let Some((_, instead)) = wrong.rsplit_once("write `").filter(|(before, _)| before.ends_with(": ")) {
                let instead = instead.trim_end_matches('`');
                assert!(ImagePattern::parse(instead).is_ok(), "line {number}: {instead}");
            }
            continue;
        }
        let pattern = parsed.unwrap_or_else(|error| panic!("line {number}: {error}"));
        let (verb, image) = rest.trim().split_once(char::is_whitespace).unwrap_or_else(|| panic!("line {number}"));
        let image = ImageReference::parse(image.trim()).unwrap_or_else(|error| panic!("line {number}: {error}"));
        assert!(matches!(verb, "covers" | "misses"), "line {number}");
        assert_eq!(pattern.covers(&image), verb == "covers", "line {number}: {line}");
    }
    assert!(seen > 60, "the table was read");
}

#[test]
fn a_pattern_of_512_characters_is_the_longest() {
    let longest = format!("a.example/{}", "a".repeat(502));
    assert!(ImagePattern::parse(&longest).is_ok());
    assert!(
        ImagePattern::parse(&format!("{longest}a")).unwrap_err().to_string().ends_with("is longer than 512 characters")
    );
}

proptest::proptest! {
    /// Neither reader fails on any text, and what a refusal suggests is a pattern.
    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,60}|[a-z*.:/@?%\\[\\]A-Z0-9-]{0,40}") {
        if let Ok(image) = ImageReference::parse(&text) {
            proptest::prop_assert!(image.repository().len() <= 255);
        }
        if let Err(error) = ImagePattern::parse(&text) {
            proptest::prop_assert!(error.instead().is_none_or(|instead| ImagePattern::parse(instead).is_ok()), "{}", error);
        }
    }

    /// A `*` alone in a label covers any label, and nothing but one.
    #[test]
    fn a_star_is_one_label(label in "[a-z0-9]{1,8}", more in "[a-z0-9]{1,8}") {
        let pattern = ImagePattern::parse("*.reg.example").unwrap();
        let covers = |image: String| pattern.covers(&ImageReference::parse(&image).unwrap());
        let one = format!("{label}.reg.example/app");
        proptest::prop_assert!(covers(one));
        let deeper = format!("{more}.{label}.reg.example/app");
        proptest::prop_assert!(!covers(deeper));
    }
}
