//! Reads Markdown just well enough to say where its links lead, and what its blocks of code are.

/// A link to something in this repository, as written.
pub struct Link {
    pub line: usize,
    pub target: String,
}

/// A fenced block of code.
pub struct Block {
    /// Of its first fence.
    pub line: usize,
    /// What stands behind that: a language, and what else is said.
    pub info: String,
    pub text: String,
}

pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut in_block, mut indent) = (false, 0);
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, in_block) {
            (Some(info), false) => {
                indent = line.len() - line.trim_start().len();
                blocks.push(Block { line: index + 1, info: info.trim().to_owned(), text: String::new() });
            }
            (None, true) => {
                let block = blocks.last_mut().expect("a fence has begun a block");
                block.text.push_str(line.get(indent..).unwrap_or_default());
                block.text.push('\n');
            }
            _ => {}
        }
        in_block ^= fence.is_some();
    }
    blocks
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
fn blocks_know_what_they_are() {
    let text = "a\n```sh run\nb\n c\n```\n- d\n  ```\n  e\n  ```\n";
    let blocks: Vec<_> = blocks(text).into_iter().map(|block| (block.line, block.info, block.text)).collect();
    assert_eq!(blocks, [(2, "sh run".to_owned(), "b\n c\n".to_owned()), (7, String::new(), "e\n".to_owned())]);
}

#[test]
fn headings_become_anchors() {
    let text = "# What it does, and `how`\n```sh\n# not this\n```\n## A-b c_d\n#no";
    assert_eq!(anchors(text), ["what-it-does-and-how", "a-b-c_d"]);
}
