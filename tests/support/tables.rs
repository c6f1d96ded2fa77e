//! Tables that are data files and read as documentation.

/// The lines of a table that say something.
pub fn rows(table: &str) -> impl Iterator<Item = &str> {
    table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Puts in what stands for long texts: `<N>` for N letters a, `<hex N>` for N digits 0.
pub fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once('<') else { return text.to_owned() };
    let (inside, after) = rest.split_once('>').expect("`<` is closed");
    let (letter, count) = inside.strip_prefix("hex ").map_or(("a", inside), |count| ("0", count));
    before.to_owned() + &letter.repeat(count.parse().expect("a number")) + &expand(after)
}
