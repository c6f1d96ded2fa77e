//! Every command that a document shows is run as it is written, or says where it would have to be (`.ci/documented` has the
//! marks and runs the commands), and every rule that it shows is one.

use std::collections::BTreeSet;

use pullcred::rules::{SourceFile, read_documents};

use super::documents::{Block, blocks};
use super::{House, beside};

/// Where the commands are listed that no run of `.ci/run` can try.
const LIST: &str = "docs/README.md";

/// What a command begins with that somebody forgot to mark.
const PROGRAMS: &[&str] = &[
    "az", "aws", "bash", "cargo", "curl", "docker", "gcloud", "git", "helm", "k3d", "kind", "kubectl", "oc", "pullcred",
];

/// Where a block of shell is run.
#[derive(Debug, PartialEq)]
enum Mark<'a> {
    Documented,
    Stage,
    Elsewhere(&'a str),
}

fn mark(block: &Block) -> Option<Mark<'_>> {
    let marks = block.info.strip_prefix("sh ")?;
    match marks {
        "run" | "serve" | "cluster" | "cluster serve" => Some(Mark::Documented),
        "stage" => Some(Mark::Stage),
        _ => marks.strip_prefix("elsewhere ").map(Mark::Elsewhere),
    }
}

/// Blocks of shell without a mark, and blocks without a language whose first line is a command.
pub fn unmarked(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for (path, block) in shown(house) {
        let language = block.info.split_whitespace().next().unwrap_or_default();
        let first = block.text.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
        let is_shell = matches!(language, "sh" | "bash" | "shell" | "console" | "zsh");
        if (is_shell && mark(&block).is_none()) || (language.is_empty() && PROGRAMS.contains(&first)) {
            found
                .push(format!("{path}:{}: say where this is run, as `.ci/documented` explains: ```sh run", block.line));
        }
    }
    found
}

/// Lines marked `sh stage` that neither `.ci/run` nor the workflow runs as they are written.
pub fn in_no_stage(house: &House) -> Vec<String> {
    let text = |path: &str| house.files.get(path).map_or("", String::as_str);
    let (stages, workflow) = (text(".ci/run"), text(".github/workflows/ci.yml"));
    let is_run = |line: &str| {
        stages.lines().any(|run| run.contains("as_written ") && run.ends_with(&format!(" '{line}'")))
            || workflow.lines().any(|run| run.contains(&format!("- run: {line}")))
    };
    let mut found = Vec::new();
    for (path, block) in shown(house).filter(|(_, block)| mark(block) == Some(Mark::Stage)) {
        for line in block.text.lines().filter(|line| !is_run(line)) {
            found.push(format!("{path}:{}: no stage runs `{line}`", block.line));
        }
    }
    found
}

/// What the list in `docs/README.md` and the marks `sh elsewhere` say differently.
pub fn not_as_listed(house: &House) -> Vec<String> {
    let marked: BTreeSet<_> = shown(house)
        .filter_map(|(path, block)| match mark(&block)? {
            Mark::Elsewhere(place) => Some((path.to_owned(), place.to_owned())),
            _ => None,
        })
        .collect();
    let text = house.files.get(LIST).map_or("", String::as_str);
    let section =
        text.split("\n## ").find(|section| section.starts_with("Commands that CI does not run")).unwrap_or_default();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| [")?.split(" | ");
        let file = cells.next()?.split_once("](")?.1.strip_suffix(')')?;
        Some((beside(LIST, file), cells.next()?.trim_end_matches(" |").to_owned()))
    };
    let listed: BTreeSet<_> = section.lines().filter_map(row).collect();
    let missing = marked.difference(&listed).map(|(path, place)| format!("{LIST}: does not list `{place}` of {path}"));
    let surplus = listed.difference(&marked).map(|(path, place)| format!("{LIST}: {path} has no `elsewhere {place}`"));
    missing.chain(surplus).collect()
}

/// Rules in YAML that would be refused.
pub fn wrong_rules(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for (path, block) in shown(house).filter(|(_, block)| block.info == "yaml") {
        if block.text.contains("apiVersion: pullcred.io/") {
            let file = SourceFile { name: path, text: block.text.as_bytes() };
            let findings = read_documents(&[file]).err().into_iter().flatten();
            found.extend(findings.map(|finding| format!("the block in line {}: {finding}", block.line)));
        }
    }
    found
}

/// The fenced blocks of all documents. `.ci/documents` holds wrong ones on purpose.
fn shown(house: &House) -> impl Iterator<Item = (&str, Block)> {
    let documents = house.with_extension("md").filter(|(path, _)| !path.starts_with(".ci/"));
    documents.flat_map(|(path, text)| blocks(text).into_iter().map(move |block| (path, block)))
}

#[test]
fn a_command_without_a_mark_is_found() {
    let check = |text: &str| unmarked(&House::of(&[("docs/a.md", text)])).len();
    for text in [
        "```sh\ntrue\n```",
        "```bash run\ntrue\n```",
        "```sh elsewhere\ntrue\n```",
        "- a\n  ```sh then\n  true\n  ```",
        "```\npullcred webhook\n```",
        "```\nA=1 cargo test\n```",
    ] {
        assert_eq!(check(text), 1, "{text}");
    }
    for text in [
        "```sh run\ntrue\n```",
        "```sh cluster serve\ntrue\n```",
        "```sh elsewhere a Mac\ntrue\n```",
        "```\na -> b\n```",
        "```yaml\na: 1\n```",
    ] {
        assert_eq!(check(text), 0, "{text}");
    }
}

#[test]
fn a_command_that_no_stage_runs_is_found() {
    let stages = "stage_test() {\n  as_written README.md 'cargo test'\n}\n";
    let check = |line: &str| {
        let text = format!("```sh stage\n{line}\n```");
        in_no_stage(&House::of(&[
            ("a.md", &text),
            (".ci/run", stages),
            (".github/workflows/ci.yml", "  - run: bash .ci/run\n"),
        ]))
        .len()
    };
    assert_eq!(check("cargo test --all"), 1);
    assert_eq!((check("cargo test"), check("bash .ci/run")), (0, 0));
}

#[test]
fn a_command_for_elsewhere_that_is_not_listed_is_found_and_so_is_a_row_without_one() {
    let check = |text: &str, rows: &str| {
        let list =
            format!("# Index\n\n## Commands that CI does not run\n\n| where | what |\n|---|---|\n{rows}\n## More\n");
        not_as_listed(&House::of(&[("docs/a.md", text), (LIST, &list)])).len()
    };
    let text = "```sh elsewhere the moon\ntrue\n```";
    assert_eq!(check(text, "| [a](a.md) | the moon |"), 0);
    assert_eq!(check(text, ""), 1);
    assert_eq!(check(text, "| [a](a.md) | Mars | x |"), 2);
    assert_eq!(check("", "| [a](a.md) | the moon | x |"), 1);
}

#[test]
fn a_rule_that_would_be_refused_is_found() {
    let check = |images: &str| {
        let text = format!(
            "```yaml\napiVersion: pullcred.io/v1alpha1\nkind: PullSecret\nmetadata: {{name: a, namespace: b}}\nspec: {{images: [{images}]}}\n```"
        );
        wrong_rules(&House::of(&[("docs/a.md", &text)])).len()
    };
    assert_eq!((check("https://a.io"), check("a.io")), (1, 0));
}
