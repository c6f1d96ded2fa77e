//! Reads Markdown just well enough to say where its links lead.

/// A link to something in this repository, as written.
pub struct Link {
    pub line: usize,
    pub target: String,
}

/// Inline links that are not to another host; code blocks and code spans hold none.
pub fn local_links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, prose) in prose(text) {
        let mut rest = prose.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            let target = rest[..end].split_whitespace().next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                links.push(Link { line, target: target.to_owned() });
            }
        }
    }
    links
}

/// The `#anchor` of every heading, as forges make them: lower case, spaces to hyphens, other punctuation dropped.
pub fn anchors(text: &str) -> Vec<String> {
    let heading = |line: String| {
        let title = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))?.to_owned();
        Some(title)
    };
    without_blocks(text).filter_map(|(_, line)| heading(line)).map(|title| anchor(&title)).collect()
}

fn anchor(title: &str) -> String {
    let keep = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    title.trim().to_lowercase().chars().filter(keep).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The numbered lines outside fenced code blocks, without their code spans.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    without_blocks(text).map(|(line, text)| (line, text.split('`').step_by(2).collect()))
}

fn without_blocks(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        (!fence && !in_block).then(|| (index + 1, line.to_owned()))
    })
}

#[test]
fn links_are_read_outside_code() {
    let text = "[a](b.md#c) and [d](https://e.example) `[f](g.md)`\n```\n[h](i.md)\n```\n![j](k.png \"l\")";
    let links: Vec<_> = local_links(text).into_iter().map(|link| (link.line, link.target)).collect();
    assert_eq!(links, [(1, "b.md#c".to_owned()), (5, "k.png".to_owned())]);
}

#[test]
fn headings_become_anchors() {
    let text = "# What it does, and `how`\n```sh\n# not this\n```\n## A-b c_d\n#no";
    assert_eq!(anchors(text), ["what-it-does-and-how", "a-b-c_d"]);
}
